"""Former names, which keep working for one release and warn with the new name."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

_REMOVED_IN = "0.3"


def former_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` that still finds names that have changed.

    Args:
      module: name of the module, for the message.
      names: full path of the new object by former name.

    Returns:
      A function that returns the new object after a `DeprecationWarning` that names it, and raises
      `AttributeError` for every other name.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", names[name])
        new_module, _, attribute = names[name].rpartition(".")
        return getattr(importlib.import_module(new_module), attribute)

    return find


def warn(former: str, new: str, stacklevel: int = 3) -> None:
    """Warns that `former` is now called `new`.

    Args:
      former: what the caller wrote.
      new: what to write instead.
      stacklevel: as in `warnings.warn`, so that the warning names the caller's line.
    """
    warnings.warn(
        f"{former} is now {new}; the former name will be removed in version {_REMOVED_IN}.",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
