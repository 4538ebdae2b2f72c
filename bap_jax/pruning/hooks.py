"""How an updater's methods are called, whoever wrote them: in a class body or on the object itself.

    tx.update(grads, state, params, loss=...)  ─►  calculate_scores(..., loss=...)

Arguments that only some methods take travel on a copy of the updater, so that methods in between
need not pass them on.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bap_jax.errors import UserError
from bap_jax.types import PyTree

IMPORTANCE = "importance"


def is_unchanged(updater: Any, original: type, *methods: str) -> bool:
    """Whether methods are those of `original`: neither a subclass nor the object replaces them."""
    kind, own = type(updater), vars(updater)
    return all(
        name not in own and getattr(kind, name) is getattr(original, name) for name in methods
    )


def accepted(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments, by name, that a function takes.

    Example:
      >>> accepted(lambda params, loss=None: None, {"loss": 1.0, "value": 2.0})
      {'loss': 1.0}
    """
    if not arguments:
        return {}
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(arguments)
    names = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
    return {name: value for name, value in arguments.items() if name in names}


def with_arguments(updater: Any, arguments: Mapping[str, Any]) -> Any:
    """A copy whose `scores` pass these arguments on; the updater itself where there are none."""
    if not arguments:
        return updater
    replaced = copy.copy(updater)
    replaced.extra_arguments = dict(arguments)
    return replaced


def check_arguments(updater: Any, arguments: Mapping[str, Any]) -> None:
    """Raises an error for arguments that `calculate_scores` does not take.

    Raises:
      UserError: the message names them.
    """
    known = {IMPORTANCE, *accepted(updater.calculate_scores, arguments)}
    if unknown := [name for name in arguments if name not in known]:
        raise UserError(
            f"{type(updater).__name__}.calculate_scores takes no argument {', '.join(unknown)}; "
            "add it to its signature, or leave it out."
        )


def scores(updater: Any, params: PyTree, **arguments: Any) -> PyTree:
    """What `calculate_scores` returns, given also those extra arguments that it takes.

    An extra argument `importance` that it does not take is a tree of scores, used in its place.
    """
    given = getattr(updater, "extra_arguments", {})
    extra = accepted(updater.calculate_scores, given)
    if given.get(IMPORTANCE) is not None and IMPORTANCE not in extra:
        return given[IMPORTANCE]
    return updater.calculate_scores(params, **arguments, **extra)


def new_masks(updater: Any, sparse_state: Any, params: PyTree, grads: PyTree) -> PyTree:
    """The masks of `update_state`, of any object with jaxpruner's protocol."""
    make = getattr(updater, "new_masks", None)
    if make is None:
        return updater.update_state(sparse_state, params, grads).masks
    return make(sparse_state, params, grads)
