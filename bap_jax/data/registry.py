"""Data sets by name."""

from bap_jax.data.digits import load_digits
from bap_jax.data.source import Source
from bap_jax.types import UserError

SOURCES = {"digits": load_digits}


def load(name: str) -> Source:
    """The data set called `name`.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if name not in SOURCES:
        raise UserError(f"unknown data set {name!r}; known data sets: {', '.join(SOURCES)}.")
    return SOURCES[name]()
