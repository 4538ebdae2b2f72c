"""Units of multipliers and violations that a problem does not name, measured along the way.

    r_c = max_t  mean of |v_c| over the last steps                       unit of v_c
    s_c = F_c / max(H_c, r_c),   F_c = Σ_t |f_t − f_t−|,   H_c = Σ_t |h_c,t − h_c,t−|     of λ_c
    κ_c = 5 · (mean of |v_c,t − v_c,t−1|) / (mean of |v_c|)   in [.0005, .02]    integral gain

where t− is the step in which c was observed last, and old changes fade over 1,000 steps to make
room for new ones. At a saddle point ∇f = −Σ λ_c ∇h_c, so λ_c is of the size of the change of f for
a change of h_c. Multiplying h_c by a constant multiplies s_c and r_c by just what keeps every step
of the weights as it was; multiplying f by one multiplies their gradient by it. The gain follows the
speed with which violations respond: integrating faster than that would overshoot. Where v_c changes
its sign in nearly every step, steps are too long, and r_c grows until they are not. See
docs/method.md, equation (42).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax.constraints.base import ConstraintValues, as_floats
from bap_jax.types import Array

_FADING = 1 / 1000  # per step
_SMOOTHING, _SMOOTHING_OF_TURNS = 0.1, 0.05
_MOST_TURNS = 0.7  # noise changes sign in half of the steps, a step that is too long in all
_SLOWING = 0.1
_PER_SPEED, _LEAST_GAIN, _MOST_GAIN = 5.0, 0.0005, 0.02
_ROUNDING = 1e-6  # of its size, by which a violation may change unseen
_RESPONSE = 0.02  # of its size: a violation that changed by this does respond to the multipliers
_TINY, HUGE = 1e-30, 1e30  # sums, changes and multipliers stay finite


class Measured(NamedTuple):
    """What was seen so far; 37 bytes a constraint.

    Attributes:
      objective, proxy, violation: `(constraint,)` f, h_c and v_c when c was last observed.
      objective_change, proxy_change: `(constraint,)` F_c and H_c.
      size, speed: `(constraint,)` means of |v_c| and of its change over the last steps.
      largest: `(constraint,)` r_c.
      turns: `(constraint,)` share of the last steps in which v_c changed its sign.
      seen: `(constraint,)` bool, whether the constraint was observed at all.
      fallback: `()` least unit of multipliers. It doubles while a constraint is violated, none has
        responded and f stands still, as at a start in its minimum.
    """

    objective: Array
    objective_change: Array
    proxy: Array
    violation: Array
    proxy_change: Array
    size: Array
    speed: Array
    largest: Array
    turns: Array
    seen: Array
    fallback: Array


def init(size: int) -> Measured:
    """Before the first step, for `size` constraints."""
    zeros = jnp.zeros((size,))
    return Measured(*(zeros,) * 9, seen=zeros.astype(bool), fallback=jnp.full((), _TINY))


def measure(measured: Measured, values: ConstraintValues, observed: Array) -> Measured:
    """Takes one step into account.

    Args:
      measured: of the last step.
      values: of this step, `objective` filled in.
      observed: `(constraint,)` bool, which constraints to look at.
    """
    seen = (values.objective, as_floats(values.proxy), as_floats(values.violation))
    objective, proxy, violation = (
        jnp.clip(jax.lax.stop_gradient(jnp.asarray(one, measured.size.dtype)), -HUGE, HUGE)
        for one in seen
    )
    again = observed & measured.seen
    moved = jnp.where(again, jnp.abs(objective - measured.objective), 0.0)
    proxy_moved = jnp.where(again, jnp.abs(proxy - measured.proxy), 0.0)
    jump = jnp.abs(violation - measured.violation)
    turned = jnp.where(jnp.sign(violation) * jnp.sign(measured.violation) < 0, 1.0, 0.0)
    first = jnp.where(observed, jnp.abs(violation), measured.size)
    size = jnp.where(again, _mean(measured.size, first), first)
    turns = jnp.where(again, _mean(measured.turns, turned, _SMOOTHING_OF_TURNS), measured.turns)
    speed = jnp.where(again, _mean(measured.speed, jump), measured.speed)
    slower = jnp.exp(_SLOWING * jnp.maximum(turns - _MOST_TURNS, 0.0))
    violated = (again & jnp.where(values.equality, violation != 0, violation > 0)).any()
    responded = (measured.proxy_change > _RESPONSE * jnp.maximum(size, _TINY)).any()
    visible = measured.proxy_change + _ROUNDING * unit_of_violations(measured)
    stands_still = measured.objective_change <= measured.fallback * visible
    growth = jnp.where(violated & ~responded & stands_still.any(), 2.0, 1.0)
    return Measured(
        objective=jnp.where(observed, objective, measured.objective),
        objective_change=_gathered(measured.objective_change, moved),
        proxy=jnp.where(observed, proxy, measured.proxy),
        violation=jnp.where(observed, violation, measured.violation),
        proxy_change=_gathered(measured.proxy_change, proxy_moved),
        size=size,
        speed=speed,
        largest=jnp.clip(measured.largest * slower, size, HUGE),
        turns=turns,
        seen=measured.seen | observed,
        fallback=jnp.minimum(measured.fallback * growth, HUGE),
    )


def unit_of_violations(measured: Measured) -> Array:
    """`(constraint,)` r_c > 0."""
    return jnp.maximum(measured.largest, _TINY)


def unit_of_multipliers(measured: Measured) -> Array:
    """`(constraint,)` s_c > 0; `fallback` where the objective has hardly moved yet.

    r_c in the denominator lets λ_c grow with the way that was covered, also where the first steps
    happen to leave h_c alone.
    """
    moved = measured.objective_change
    unit = moved / jnp.maximum(measured.proxy_change, unit_of_violations(measured))
    return jnp.clip(unit, measured.fallback, HUGE)


def integral_gain(measured: Measured) -> Array:
    """`(constraint,)` κ_c per step."""
    rate = measured.speed / jnp.maximum(measured.size, _TINY)
    return jnp.clip(_PER_SPEED * rate, _LEAST_GAIN, _MOST_GAIN)


def _mean(mean, value, smoothing=_SMOOTHING):
    return mean + smoothing * (value - mean)


def _gathered(total, change):
    """Old changes make room for new ones that are as large; small ones leave them as they are."""
    return jnp.maximum(total, (1 - _FADING) * total + change)
