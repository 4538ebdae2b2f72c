"""What a constraint is: a pure function from a forward pass to a violation and a proxy.

Two players look at the same constraint with different eyes (paper section 4.1; Cotter et al.
2019). The multipliers see the *violation*, the true value, which need not have a gradient. The
weights see the *proxy*, which does. Each player has a mask of the constraints it observed.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from bap_jax.types import Array, PyTree


class Observations(NamedTuple):
    """What one forward pass tells about its batch.

    Attributes:
      loss: `(batch,)`, differentiable.
      correct: `(batch,)` 0 or 1.
      group_ids: `(batch, attribute)`; an id outside the groups marks a sample of no group.
      weight: `(batch,)`, 0 for padding.
    """

    loss: Array
    correct: Array
    group_ids: Array
    weight: Array


class ConstraintValues(NamedTuple):
    """Values of all constraints at one point. Inequalities read `value ≤ 0`.

    Attributes:
      violation: `(constraint,)` seen by the multipliers; its gradient is never taken.
      proxy: `(constraint,)` seen by the weights.
      violation_mask: `(constraint,)` bool, constraints whose multiplier may move.
      proxy_mask: `(constraint,)` bool, constraints that enter the weights' gradient.
      overall: `(constraint,)` the part of `-proxy` that all constraints share (the overall loss),
        or zeros: `lagrangian` may detach or clip its gradient.
    """

    violation: Array
    proxy: Array
    violation_mask: Array
    proxy_mask: Array
    overall: Array


class Constraint(NamedTuple):
    """A set of constraints as two pure functions.

    Attributes:
      size: number of constraints.
      equality: whether values must be 0 rather than at most 0; multipliers then take either sign.
      bound: largest |λ| that the multipliers may take.
      init: `() -> state`.
      evaluate: `(state, Observations) -> (ConstraintValues, state)`.
    """

    size: int
    equality: bool
    bound: Array | float
    init: Callable[[], PyTree]
    evaluate: Callable[[PyTree, Observations], tuple[ConstraintValues, PyTree]]


class DenseReference(NamedTuple):
    """The dense model on the training part, evaluated without augmentation.

    Attributes:
      group_accuracy: `(group,)` fractions A_g(θ_d).
      accuracy: `()` A(θ_d).
      group_loss: `(group,)` ℓ_g(θ_d).
      loss: `()` ℓ(θ_d).
      frequency: `(group,)` w_g = n_g / n.
    """

    group_accuracy: Array
    accuracy: Array
    group_loss: Array
    loss: Array
    frequency: Array


def unconstrained() -> Constraint:
    """No constraint at all: naive fine-tuning (NFT)."""
    nothing = jnp.zeros((0,))
    mask = jnp.zeros((0,), bool)
    values = ConstraintValues(nothing, nothing, mask, mask, nothing)
    return Constraint(0, False, math.inf, lambda: (), lambda state, observations: (values, state))
