"""Methods by name, the user's own among them.

A method is named in `Settings.method`, in `prune_and_tune(method=...)` and in `config.method` by

    a registered name     see `METHODS` and `register_method`
    module:function       a `MethodBuilder` that Python can import

and in Python also by the object itself: a `MethodBuilder`, a `Method` or a `Constraint`.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax._user_code import check_registration, import_object
from bap_jax.constraints import (
    Constraint,
    ConstraintValues,
    DenseReference,
    activate_when,
    restrict,
)
from bap_jax.errors import UserError
from bap_jax.lagrangian import Formulation
from bap_jax.lagrangian.formulations import named
from bap_jax.training.built_in_methods import BUILT_IN
from bap_jax.training.method_contract import Method, MethodBuilder, MethodLike, MethodSpec
from bap_jax.training.optimizers import formulation_from_settings
from bap_jax.training.settings import Settings
from bap_jax.types import Array

METHODS: dict[str, MethodSpec] = dict(BUILT_IN)
_UNNAMED = "custom"


def register_method(
    name: str,
    build: MethodBuilder | Method | Constraint,
    *,
    supports_switching: bool = False,
    supports_augmented: bool = True,
    description: str = "",
    replace: bool = False,
) -> None:
    """Makes a method known by name, for settings, configs and sweeps.

    Args:
      name: letters, numbers and `_ . + -`.
      build: the function that builds it, see `training.MethodBuilder` for its contract; or a method
        or constraint that depends on neither the dense model nor the settings.
      supports_switching: whether a scheme without multipliers, such as `switching`, may step on its
        constraints one at a time.
      supports_augmented: whether `dual.rule='augmented'` may weigh its constraints beyond their
        multipliers.
      description: one line for lists of methods.
      replace: give a name that is in use a new meaning.

    Raises:
      UserError: the name is taken, unless by the same function, or cannot be a name; or `build` is
        none of the above.

    Example:
      >>> from bap_jax import constraints, register_method
      >>> def tight(reference, settings):
      ...     return constraints.worst_group_floor(reference, settings.tolerance / 2)
      >>> register_method("tight_floor", tight, supports_switching=True)
      >>> METHODS.pop("tight_floor").supports_switching  # forgets it again
      True
    """
    spec = MethodSpec(_as_builder(build), supports_switching, supports_augmented, description)
    known = {key: registered.build for key, registered in METHODS.items()}
    check_registration("method", name, spec.build, known, replace)
    METHODS[name] = spec


def find_method(method: MethodLike) -> MethodSpec:
    """The method that `Settings.method` names, or is.

    Raises:
      UserError: it is unknown, cannot be imported, or is not a method; the message lists the known
        names.
    """
    if not isinstance(method, str):
        return MethodSpec(_as_builder(method))
    if method in METHODS:
        return METHODS[method]
    if ":" in method:
        return MethodSpec(_as_builder(import_object(method, "method")))
    raise UserError(
        f"unknown method {method!r}; known: {', '.join(METHODS)}. For your own write "
        "'module:function', or call bap_jax.register_method(name, build) first."
    )


def method_name(method: MethodLike) -> str:
    """How reports and folders call it: its name, or `custom` where it has none.

    Example:
      >>> method_name("ceag"), method_name(lambda reference, settings: None)
      ('ceag', 'custom')
    """
    if isinstance(method, str):
        return method
    if isinstance(method, Method):
        return method.name or _UNNAMED
    name = getattr(method, "__name__", "")
    return name if name.isidentifier() else _UNNAMED


def build_method(reference: DenseReference, settings: Settings) -> Method:
    """The method of `settings.method`, whose small groups are left out.

    Args:
      reference: the dense model on the training split.
      settings: of the run; what `training.SWEPT` names may be traced.

    Raises:
      UserError: the reference has no group sizes; or a user's builder does not return a method, or
        cannot be traced.
    """
    method = _complete(find_method(settings.method), reference, settings)
    if method.watches_all:
        return method
    if jnp.ndim(reference.count) == 0:
        raise UserError(
            "DenseReference.count must hold the training samples of each group, (group,); got a "
            "single number. training.dense_reference fills it in."
        )
    large = jnp.asarray(reference.count >= settings.constraint.min_group_size)
    return method._replace(constraint=_restrict(method.constraint, large))


def watched(method: Method, large: np.ndarray) -> np.ndarray:
    """`(constraint,)` bool: which constraints act; those of several sets follow one another.

    Args:
      method: of the run.
      large: `(group,)` bool, which groups have at least `constraint.min_group_size` samples.
    """
    masks = _masks(method.constraint, large | method.watches_all)
    masks = list(masks.values()) if isinstance(masks, Mapping) else [masks]
    return np.concatenate([np.zeros(0, bool), *map(np.asarray, masks)])


def group_of_constraints(constraint: Constraint, num_groups: int) -> np.ndarray:
    """`(constraint,)` id of the group that each constraint is about, −1 where nothing says which.

    Args:
      constraint: of a method; its several sets follow one another.
      num_groups: number of all groups.
    """
    size, groups = constraint.size, constraint.groups
    if not isinstance(size, Mapping):
        return _group_ids(size, num_groups, cast(Sequence[int] | None, groups))
    of_set = cast(Mapping[str, Sequence[int] | None], groups or {})
    ids = [_group_ids(one, num_groups, of_set.get(name)) for name, one in size.items()]
    return np.concatenate([np.zeros(0, int), *ids])


def _group_ids(size: int, num_groups: int, groups: Sequence[int] | None) -> np.ndarray:
    if groups is not None:
        return np.asarray(groups, int)
    kinds, rest = divmod(size, num_groups)
    return np.full(size, -1) if rest else np.tile(np.arange(num_groups), kinds)


def _as_builder(method) -> MethodBuilder:
    if isinstance(method, Method | Constraint):
        return lambda reference, settings, /: method
    if not callable(method):
        raise UserError(
            "a method is a name, a function (reference, settings) -> Method or Constraint, or one "
            f"of these; got {method!r}."
        )
    return cast(MethodBuilder, method)


def _complete(spec: MethodSpec, reference: DenseReference, settings: Settings) -> Method:
    """What the builder returns; a constraint alone is met on the mean loss."""
    try:
        method = spec.build(reference, settings)
    except jax.errors.JAXTypeError as error:
        raise UserError(
            f"method {method_name(settings.method)!r} cannot be traced: {_first_line(error)} The "
            "reference, and settings that a sweep may vary, are arrays there: write jnp.where in "
            "place of if, and no float()."
        ) from error
    if isinstance(method, Constraint):
        return Method(method, _formulation_for(method, settings), is_constrained=True)
    if not isinstance(method, Method):
        raise UserError(
            f"method {method_name(settings.method)!r} must return a Method or a Constraint; got "
            f"{type(method).__name__}."
        )
    return method


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _formulation_for(constraint: Constraint, settings: Settings) -> Formulation:
    formulation = formulation_from_settings(settings)
    if isinstance(constraint.size, Mapping):
        return named(dict.fromkeys(constraint.size, formulation))
    return formulation


def _restrict(constraint: Constraint, large: Array) -> Constraint:
    """The constraint of large groups alone; the multipliers of others stay where they start."""
    masks = _masks(constraint, large)
    if not isinstance(masks, Mapping):
        return restrict(constraint, masks)

    def evaluate(state, observations):
        values, state = constraint.evaluate(state, observations)
        parts = cast(Mapping[str, ConstraintValues], values)
        return {name: activate_when(parts[name], masks[name]) for name in parts}, state

    return constraint._replace(evaluate=evaluate)


def _masks(constraint: Constraint, large: Array) -> Array | dict[str, Array]:
    """`(constraint,)` bool, which constraints are about large groups; a dict for several sets."""
    size, groups = constraint.size, constraint.groups
    if not isinstance(size, Mapping):
        return _mask(size, large, cast(Sequence[int] | None, groups))
    of_set = cast(Mapping[str, Sequence[int] | None], groups or {})
    return {name: _mask(one, large, of_set.get(name)) for name, one in size.items()}


def _mask(size: int, large: Array, groups: Sequence[int] | None) -> Array:
    """`(constraint,)` bool, group by group for each kind of constraint."""
    if groups is not None:
        return large[np.asarray(groups)]
    kinds, rest = divmod(size, large.size)
    if rest:  # not one per group: nothing says which group each is about
        return np.ones(size, bool)
    return np.tile(large, kinds) if isinstance(large, np.ndarray) else jnp.tile(large, kinds)
