"""Data sets by name."""

import importlib

from bap_jax.data.digits import load_digits
from bap_jax.data.image_sets import load_celeba, load_cifar100, load_fairface, load_utkface
from bap_jax.data.request import Request
from bap_jax.data.source import Source
from bap_jax.data.user_data import load_arrays, load_images, source_from
from bap_jax.types import UserError

SOURCES = {
    "digits": load_digits,
    "utkface": load_utkface,
    "fairface": load_fairface,
    "celeba": load_celeba,
    "cifar100": load_cifar100,
    "npz": load_arrays,
    "images": load_images,
}
_FILES_OF_THE_USER = ("npz", "images")


def load(name: str, request: Request | None = None) -> Source:
    """The data set called `name`.

    Args:
      name: a key of `SOURCES`, or `module:function` for a function without arguments that returns
        a `Source`, or an object for `source_from`.
      request: where it lies and how its images are wanted.

    Raises:
      UserError: the name is unknown (the message lists the known ones), or whatever is wrong with
        the data.
    """
    request = request or Request()
    if ":" in name:
        return _from_function(name, request)
    if name not in SOURCES:
        raise UserError(
            f"unknown data set {name!r}; known data sets: {', '.join(SOURCES)}; or write "
            "'module:function' for your own."
        )
    if request.synthetic and name in (*_FILES_OF_THE_USER, "digits"):
        raise UserError(f"data set {name!r} has no synthetic form; write config.data.synthetic=0.")
    return SOURCES[name](request)


def _from_function(name, request):
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"data set {name!r}: {error}. Expected MODULE:FUNCTION, a function that Python can "
            "import from here."
        ) from error
    if request.synthetic or request.size:
        raise UserError(f"data set {name!r} makes its own inputs; write data.size=0, synthetic=0.")
    made = make()
    return made if isinstance(made, Source) else source_from(made, request)
