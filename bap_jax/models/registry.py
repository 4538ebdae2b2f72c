"""Built-in networks by name."""

from bap_jax.models.base import Model
from bap_jax.models.linen import from_linen
from bap_jax.models.mlp import MLP
from bap_jax.types import UserError


def _mlp(num_classes, hidden=(256, 256)):
    return MLP((*hidden, num_classes))


NETWORKS = {"mlp": _mlp}


def build(name: str, num_classes: int, **options) -> Model:
    """The network called `name`.

    Args:
      name: a key of `NETWORKS`.
      num_classes: length of its logits.
      **options: what that network takes (`hidden` for `mlp`).

    Raises:
      UserError: the name or an option is unknown.
    """
    if name not in NETWORKS:
        raise UserError(f"unknown model {name!r}; known models: {', '.join(NETWORKS)}.")
    try:
        return from_linen(NETWORKS[name](num_classes, **options))
    except TypeError as error:
        raise UserError(f"model {name!r} cannot be built with {options}: {error}.") from error
