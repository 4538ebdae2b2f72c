"""What a constraint is: a value that two players look at with different eyes.

The multipliers see the *violation*, the true value, which need not have a gradient. The weights
see the *proxy*, which does (paper section 4.1; Cotter et al. 2019, arXiv 1807.00028). Each player
has a mask of the constraints that it observed. `ConstraintValues` is all that `bap_jax.lagrangian`
knows of a constraint; `Constraint` makes such values from a network's forward pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from bap_jax.types import Array, PyTree, UserError


class Observations(NamedTuple):
    """What one forward pass tells about its batch.

    Attributes:
      loss: `(batch,)`, differentiable.
      correct: `(batch,)` 0 or 1.
      group_ids: `(batch, attribute)`; an id outside the groups marks a sample of no group.
      weight: `(batch,)`, 0 for samples that are not to be seen (padding, or constraints still off).
      labels: `(batch,)` class ids.
      logits: `(batch, class)`, differentiable.
      dense_logits: `(batch, class)` of the dense model on the same samples, where they are needed.
    """

    loss: Array
    correct: Array
    group_ids: Array
    weight: Array
    labels: Array | None = None
    logits: Array | None = None
    dense_logits: Array | None = None


def dense_logits_of(observations: Observations) -> Array:
    """`(batch, class)` logits of the dense model.

    Raises:
      UserError: the observations have none.
    """
    if observations.dense_logits is None:
        raise UserError(
            "this constraint or objective needs the dense model's logits, and the data have "
            "none; write data._replace(dense_logits=training.predict(model, variables, data))."
        )
    return observations.dense_logits


class ConstraintValues(NamedTuple):
    """Values of a set of constraints at one point. Made by `constraint_values`.

    Attributes:
      violation: `(constraint,)` seen by the multipliers; its gradient is never taken.
      proxy: `(constraint,)` seen by the weights.
      violation_mask: `(constraint,)` bool, constraints whose multiplier may move.
      proxy_mask: `(constraint,)` bool, constraints that enter the weights' gradient.
      overall: `(constraint,)` or `()`, the part of `-proxy` that all constraints share (the overall
        loss), or zeros: `lagrangian.gradient_ascent` may detach or clip its gradient.
      tolerance: `(constraint,)` or `()`, what the proxy may reach: the constraint reads
        `proxy ≤ tolerance`. A plain Lagrangian's gradient does not depend on it.
      equality: `(constraint,)` or `()` bool, whether violations must be 0 rather than at most 0;
        multipliers then take either sign.
      deviation: `(constraint,)` or `()`, standard deviation of `violation` as an estimate.
    """

    violation: Array
    proxy: Array
    violation_mask: Array
    proxy_mask: Array
    overall: Array | float = 0.0
    tolerance: Array | float = 0.0
    equality: Array | bool = False
    deviation: Array | float = 0.0


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
      violation: `(constraint,)`, or `()` for a single constraint.
      proxy: differentiable stand-in of the same shape; by default the violation itself.
      violation_mask, proxy_mask: bool, which were observed; by default all.
      **others: `equality` and the other fields of `ConstraintValues`.

    Raises:
      UserError: shapes differ.
    """
    violation = jnp.atleast_1d(violation)
    proxy = violation if proxy is None else jnp.atleast_1d(proxy)
    seen = jnp.ones(violation.shape, bool)
    masks = (
        seen if mask is None else jnp.atleast_1d(mask) for mask in (violation_mask, proxy_mask)
    )
    values = ConstraintValues(violation, proxy, *masks, **others)
    for name in ("proxy", "violation_mask", "proxy_mask"):
        shape = getattr(values, name).shape
        if violation.ndim != 1 or shape != violation.shape:
            raise UserError(
                f"violation and {name} must have one entry a constraint, shape (constraint,); got "
                f"{violation.shape} and {shape}."
            )
    return values


def activate_when(values: ConstraintValues, active: Array) -> ConstraintValues:
    """The same values, seen by neither player unless `active`: a schedule for constraints.

    Args:
      values: of any constraints.
      active: `()` or `(constraint,)` bool, for instance `step >= warmup_steps`.
    """
    return values._replace(
        violation_mask=values.violation_mask & active, proxy_mask=values.proxy_mask & active
    )


class Constraint(NamedTuple):
    """Constraints on a network's groups as pure functions.

    Attributes:
      size: number of constraints; of several sets (`combine`), a dict by name.
      init: `() -> state`.
      evaluate: `(state, Observations) -> (ConstraintValues, state)`. Samples of weight 0 leave the
        state as it is.
      names: `group names -> ` one name a constraint.
    """

    size: int | dict[str, int]
    init: Callable[[], PyTree]
    evaluate: Callable[[PyTree, Observations], tuple[ConstraintValues, PyTree]]
    names: Callable[[Sequence[str]], list[str] | dict[str, list[str]]] = list


class DenseReference(NamedTuple):
    """The dense model on the training split, evaluated without augmentation.

    Attributes:
      group_accuracy: `(group,)` fractions A_g(θ_d).
      accuracy: `()` A(θ_d).
      group_loss: `(group,)` ℓ_g(θ_d).
      loss: `()` ℓ(θ_d).
      frequency: `(group,)` w_g = n_g / n.
      count: `(group,)` n_g; 0 where it is not known and not needed.
    """

    group_accuracy: Array
    accuracy: Array
    group_loss: Array
    loss: Array
    frequency: Array
    count: Array | float = 0.0


def unconstrained() -> Constraint:
    """No constraint at all: naive fine-tuning (NFT)."""
    values = constraint_values(jnp.zeros((0,)))
    return Constraint(0, lambda: (), lambda state, observations: (values, state))


def combine(constraints: Mapping[str, Constraint]) -> Constraint:
    """Several constraints at once: sizes, states, values and names become dicts by name."""

    def evaluate(state, observations):
        pairs = {name: c.evaluate(state[name], observations) for name, c in constraints.items()}
        values = {name: value for name, (value, _) in pairs.items()}
        return values, {name: state for name, (_, state) in pairs.items()}

    return Constraint(
        {name: c.size for name, c in constraints.items()},
        lambda: {name: c.init() for name, c in constraints.items()},
        evaluate,
        lambda group_names: {name: c.names(group_names) for name, c in constraints.items()},
    )


def restrict(constraint: Constraint, mask: Array) -> Constraint:
    """The same constraint, watched only where `mask` `(constraint,)` is True.

    For groups too small to constrain: their multipliers stay where they start.
    """

    def evaluate(state, observations):
        values, state = constraint.evaluate(state, observations)
        return activate_when(values, mask), state

    return constraint._replace(evaluate=evaluate)
