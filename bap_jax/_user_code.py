"""Functions of users: imported by name, or registered under a name."""

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from bap_jax.errors import UserError


def import_object(path: str, what: str) -> Any:
    """The object that `path` names, as `module:function`.

    Args:
      path: an importable module, a colon, and a name in that module; dots reach further in.
      what: what the path names, for the message, as in `method`.

    Raises:
      UserError: there is no such module, or no such name in it.

    Example:
      >>> import_object("math:sqrt", "function")(9.0)
      3.0
    """
    module, _, name = path.partition(":")
    try:
        value = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{what} {path!r}: {error}. Expected MODULE:FUNCTION, where Python can import MODULE "
            "from the current folder."
        ) from error
    return value


def check_registration(
    kind: str,
    name: str,
    function: Callable,
    known: Mapping[str, Callable],
    replace: bool = False,
) -> None:
    """Raises an error if a user's function cannot be registered under a name.

    A config file that registers a function may be executed more than once: the same lines of code
    may register their function again, unless it closes over variables.

    Args:
      kind: what is registered, as in `method`.
      name: its name.
      function: what is registered.
      known: what is registered already, by name.
      replace: whether a name that is in use may get a new meaning.

    Raises:
      UserError: `name` cannot be a name or is taken, or `function` cannot be called.
    """
    if not (isinstance(name, str) and re.fullmatch(r"[\w.+-]+", name)):
        raise UserError(
            f"the name of a {kind} consists of letters, digits and _ . + -; got {name!r}. Write "
            f"for instance register_{kind}('mine', ...)."
        )
    if not callable(function):
        raise UserError(f"{kind} {name!r} must be a function; got {function!r}.")
    if name in known and not replace and not _is_same_function(known[name], function):
        raise UserError(
            f"{kind} {name!r} exists already; choose another name, or write "
            f"register_{kind}({name!r}, ..., replace=True). Known: {', '.join(known)}."
        )


def _is_same_function(one, other):
    """Whether two functions are one object, or come from the same lines read twice."""
    if one is other:
        return True
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    if codes[0] is None or codes[0] != codes[1] or codes[0].co_freevars:
        return False
    defaults = [(function.__defaults__, function.__kwdefaults__) for function in (one, other)]
    return defaults[0] == defaults[1]
