"""How long the weights' steps may be while constraints are violated.

    log W ← [log W + γ max_c e_c]      in [0, log W_max], while the loss does not rise
    log W ← log W − σ ρ                where the loss rises, ρ = fast / slow − 1 > 0
    log W ← log W − γ clip(lost / .05 − 1, 0, 1), and no longer     while lost > .05

W is the total weight of loss and constraints in the weights' gradient, e_c ≤ 1 the violation in its
unit, fast and slow are exponential averages of the loss over 5 and 33 steps, and lost is what the
network has lost of its best accuracy: steps that are too long may keep the loss high without
raising it. Multipliers that grow without bound lengthen the steps too, and much of what they
achieve is due to that; here the length is a quantity of its own, which shrinks as soon as it does
harm. Where the loss is not positive, ρ is unknown and W = 1. See docs/method.md, equation (41).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from bap_jax.types import Array

_GROWTH = 0.15  # γ, per step
_SHRINKING = 3.0  # σ
_MUCH = 0.05  # of accuracy
_FAST, _SLOW = 0.2, 0.03
_HUGE = 1e30  # averages of larger losses would not be finite


class StepLength(NamedTuple):
    """Length of the steps and what it depends on.

    Attributes:
      log_weight: `()` log W.
      fast, slow: `()` averages of the loss.
      steps: `()` steps with an observed constraint so far.
    """

    log_weight: Array
    fast: Array
    slow: Array
    steps: Array


def init() -> StepLength:
    """W = 1."""
    zero = jnp.zeros(())
    return StepLength(zero, zero, zero, zero)


def update(
    length: StepLength, loss: Array, worst: Array, active: Array, longest, lost: Array | float = 0.0
) -> StepLength:
    """One step.

    Args:
      length: of the last step.
      loss: `()` objective of this step.
      worst: `()` largest e_c of the observed constraints.
      active: `()` bool, whether any was observed.
      longest: W_max ≥ 1.
      lost: `()` accuracy below its best.
    """
    steps, loss = length.steps + 1, jnp.clip(loss, -_HUGE, _HUGE)
    fast = length.fast + jnp.maximum(_FAST, 1 / steps) * (loss - length.fast)
    slow = length.slow + jnp.maximum(_SLOW, 1 / steps) * (loss - length.slow)
    is_positive = slow > 0
    rise = jnp.where(is_positive, fast / jnp.where(is_positive, slow, 1) - 1, 0)
    change = jnp.where(rise > 0, -_SHRINKING * rise, _GROWTH * jnp.maximum(worst, 0))
    too_much = lost / _MUCH - 1
    shorter = jnp.minimum(change, 0) - _GROWTH * jnp.clip(too_much, 0, 1)
    change = jnp.where(too_much > 0, shorter, change)
    most = jnp.where(is_positive, jnp.log(jnp.minimum(longest, math.exp(80))), 0)
    log_weight = jnp.clip(length.log_weight + change, 0, jnp.maximum(most, 0))
    new = StepLength(log_weight, fast, slow, steps)
    return StepLength(*(jnp.where(active, a, b) for a, b in zip(new, length, strict=True)))
