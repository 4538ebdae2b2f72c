"""What a constraint is: a violation for the multipliers, and a proxy for the weights.

The multipliers see the *violation*, the true value, which needs no gradient. The weights see the
*proxy*, which has one (paper section 4.1; Cotter et al. 2019, arXiv 1807.00028; docs/method.md,
equations (6) and (7)). Violations and proxies each have a mask of the observed constraints.
`ConstraintValues` is all that `bap_jax.lagrangian` knows of a constraint; a `Constraint` computes
such values from a network's forward pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from bap_jax.constraints.observations import Observations
from bap_jax.errors import UserError
from bap_jax.types import Array, PyTree


class ConstraintValues(NamedTuple):
    """Values of a set of constraints at one point; `constraint_values` makes them.

    Attributes:
      violation: `(constraint,)` seen by the multipliers; its gradient is never taken.
      proxy: `(constraint,)` seen by the weights.
      violation_mask: `(constraint,)` bool, constraints whose multiplier may move.
      proxy_mask: `(constraint,)` bool, constraints that enter the weights' gradient.
      overall: `(constraint,)` or `()`, the part of `-proxy` that all constraints share (the overall
        loss), or 0; `overall_term` says whether its gradient is detached or clipped.
      tolerance: `(constraint,)` or `()`, the largest proxy allowed: `proxy ≤ tolerance`. The
        gradient of a plain Lagrangian does not depend on it.
      equality: `(constraint,)` or `()` bool, whether violations must be 0 rather than at most 0;
        multipliers may then have either sign.
      deviation: `(constraint,)` or `()`, standard deviation of `violation` as an estimate.
      unit: `(constraint,)` or `()`, the multiplier that weighs the constraint as much as it weighs
        in the objective, such as the share w_g of a group's loss in the mean; 0 where it is
        unknown. `lagrangian.auto` counts multipliers in it.
      reach: `(constraint,)` or `()`, the size that `violation` has when the constraint is badly
        violated; 0 where it is unknown. `lagrangian.auto` counts violations in it.
      directness: `(constraint,)` or `()` in [0, 1], how much of a multiplier the violation feels at
        once: for groups, `DenseReference.class_overlap`. `lagrangian.auto` moves multipliers faster
        where it is small.
      presence: `(constraint,)` or `()`, in which share of the batches the constraint has a proxy.
        `lagrangian.auto` divides multipliers by it, so that they act in full on average.
      accuracy: `()` the network's estimated accuracy on all samples that the constraints are about,
        0 where it is unknown. `lagrangian.auto` lets multipliers down where it falls.
      accuracy_deviation: `()` standard deviation of `accuracy` as an estimate.
      objective: `()` the objective at the same point; schemes fill it in for the formulation.
    """

    violation: Array
    proxy: Array
    violation_mask: Array
    proxy_mask: Array
    overall: Array | float = 0.0
    tolerance: Array | float = 0.0
    equality: Array | bool = False
    deviation: Array | float = 0.0
    unit: Array | float = 0.0
    reach: Array | float = 0.0
    directness: Array | float = 1.0
    presence: Array | float = 1.0
    accuracy: Array | float = 0.0
    accuracy_deviation: Array | float = 0.0
    objective: Array | float = 0.0


def constraint_values(
    violation: Array,
    proxy: Array | None = None,
    *,
    violation_mask: Array | None = None,
    proxy_mask: Array | None = None,
    **others,
) -> ConstraintValues:
    """Constraints `violation ≤ 0`, one number each.

    Args:
      violation: `(constraint,)`, or `()` for a single constraint. True counts as 1, False as 0.
      proxy: differentiable stand-in of the same shape; by default the violation itself. Bools
        and whole numbers have no gradient, so give a proxy with them.
      violation_mask, proxy_mask: bool, which constraints were observed; by default all.
      **others: `equality` and the other fields of `ConstraintValues`.

    Raises:
      UserError: the shapes differ, or what all constraints share is not a single number.

    Example:
      >>> values = constraint_values(jnp.array(0.03))
      >>> values.violation.shape, bool(values.proxy_mask.all())
      ((1,), True)
    """
    violation = as_floats(jnp.atleast_1d(violation))
    proxy = violation if proxy is None else as_floats(jnp.atleast_1d(proxy))
    everything = jnp.ones(violation.shape, bool)
    masks = [
        everything if mask is None else jnp.atleast_1d(mask)
        for mask in (violation_mask, proxy_mask)
    ]
    values = ConstraintValues(violation, proxy, *masks, **others)
    for name in ("accuracy", "accuracy_deviation", "objective"):
        if jnp.ndim(getattr(values, name)):
            shape = jnp.shape(getattr(values, name))
            raise UserError(f"{name} must be one number for all constraints; got shape {shape}.")
    for name in ("proxy", "violation_mask", "proxy_mask"):
        shape = getattr(values, name).shape
        if violation.ndim != 1 or shape != violation.shape:
            raise UserError(
                f"violation and {name} must have one entry per constraint, shape (constraint,); "
                f"got {violation.shape} and {shape}."
            )
    return values


def as_floats(values: Array) -> Array:
    """Bools and whole numbers as floats; floats as they are."""
    is_float = jnp.issubdtype(values.dtype, jnp.inexact)
    return values if is_float else values.astype(float)


def activate_when(values: ConstraintValues, active: Array) -> ConstraintValues:
    """The same values, hidden from weights and multipliers unless `active`.

    Use it to schedule constraints, or to switch some of them off.

    Args:
      values: of any constraints.
      active: `()` or `(constraint,)` bool, for instance `step >= warmup_steps`.

    Example:
      >>> values = activate_when(constraint_values(jnp.ones(2)), jnp.array([True, False]))
      >>> values.violation_mask.tolist()
      [True, False]
    """
    return values._replace(
        violation_mask=values.violation_mask & active, proxy_mask=values.proxy_mask & active
    )


class StateInit(Protocol):
    """Signature of `Constraint.init` and of the estimators' `init`."""

    def __call__(self) -> PyTree:
        """The state before the first batch: a tree of arrays, or `()`."""
        ...


class ConstraintEvaluate(Protocol):
    """Signature of `Constraint.evaluate`."""

    def __call__(
        self, state: PyTree, observations: Observations, /
    ) -> tuple[ConstraintValues, PyTree]:
        """Evaluates the constraints on one batch; pure.

        Args:
          state: of `init` or of the last call.
          observations: of the batch. Samples of weight 0 must leave the state as it is.

        Returns:
          Values `(constraint,)`, and the new state.
        """
        ...


class ConstraintNames(Protocol):
    """Signature of `Constraint.names`."""

    def __call__(self, group_names: Sequence[str], /) -> list[str] | dict[str, list[str]]:
        """One name per constraint, in order; for several sets, a dict of such lists."""
        ...


class Constraint(NamedTuple):
    """Constraints on the groups of a network, as pure functions.

    Attributes:
      size: number of constraints; for several sets (`combine`), a dict by name.
      init: `() -> state`.
      evaluate: `(state, Observations) -> (ConstraintValues, state)`; for several sets, the values
        are a dict by name.
      names: `group names -> ` one name per constraint; by default that of its group.
      groups: the group that each constraint is about, for leaving small groups out; None where all
        groups follow one another, once or several times. For several sets, a dict by name.
    """

    size: int | dict[str, int]
    init: StateInit
    evaluate: ConstraintEvaluate
    names: ConstraintNames = list
    groups: Sequence[int] | dict[str, Sequence[int] | None] | None = None


class DenseReference(NamedTuple):
    """The dense model on the training split, evaluated without augmentation.

    Attributes:
      group_accuracy: `(group,)` fractions A_g(θ_d).
      accuracy: `()` A(θ_d).
      group_loss: `(group,)` ℓ_g(θ_d).
      loss: `()` ℓ(θ_d).
      frequency: `(group,)` w_g = n_g / n.
      count: `(group,)` n_g; 0 where it is unknown and not needed.
      class_overlap: `(group,)` how far a group coincides with classes, from 0 (independent of the
        label) to 1 (a class), see `training.class_overlap`; 1 where it is unknown.
    """

    group_accuracy: Array
    accuracy: Array
    group_loss: Array
    loss: Array
    frequency: Array
    count: Array | float = 0.0
    class_overlap: Array | float = 1.0


def unconstrained() -> Constraint:
    """No constraint, as in naive fine-tuning (NFT)."""
    values = constraint_values(jnp.zeros((0,)))
    return Constraint(0, lambda: (), lambda state, observations: (values, state))


def combine(constraints: Mapping[str, Constraint]) -> Constraint:
    """Several constraints at once: sizes, states, values and names become dicts by name."""

    def evaluate(state, observations) -> Any:
        pairs = {name: c.evaluate(state[name], observations) for name, c in constraints.items()}
        values = {name: value for name, (value, _) in pairs.items()}
        return values, {name: state for name, (_, state) in pairs.items()}

    def names(group_names) -> Any:
        return {name: c.names(group_names) for name, c in constraints.items()}

    def init():
        return {name: c.init() for name, c in constraints.items()}

    sizes: Any = {name: c.size for name, c in constraints.items()}
    groups: Any = {name: c.groups for name, c in constraints.items()}
    return Constraint(sizes, init, evaluate, names, groups)


def restrict(constraint: Constraint, mask: Array) -> Constraint:
    """The same constraint, active only where `mask` `(constraint,)` is True.

    For groups that are too small to constrain: their multipliers keep their initial value.
    """

    def evaluate(state, observations):
        values, state = constraint.evaluate(state, observations)
        return activate_when(values, mask), state

    return constraint._replace(evaluate=evaluate)
