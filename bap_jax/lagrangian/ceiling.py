"""How large multipliers may be while the network loses accuracy over them.

    best ← max(best, Â − 3 σ̂)                       of the overall accuracy Â, as it is estimated
    lost = best − Â − σ̂
    z_max ← min(z_max, max_c |I_c|) − .05 clip(lost / .01 − 1, 0, 1)     if lost > .01
    z_max ← z_max + .02 clip(1 − lost / .01, 0, 1)                       else

within [1.5, 6]. Some violations can only be mended at the expense of everything else, those of a
group whose labels are wrong for instance. While the network is more than a point below its own
best, the largest multipliers come down until it no longer is. See docs/method.md, equation (40).
"""

from typing import NamedTuple

import jax.numpy as jnp

from bap_jax.types import Array

HIGHEST = 6.0  # a weight of 403 times the share
_LOWEST = 1.5
_LOSS = 0.01  # of accuracy, which meeting constraints may cost
_DOWN, _UP = 0.05, 0.02  # per step


class Ceiling(NamedTuple):
    """The ceiling of a set of constraints, and what it depends on.

    Attributes:
      exponent: `()` z_max.
      best: `()` accuracy that the network has had for certain, since its constraints act.
    """

    exponent: Array
    best: Array


def init() -> Ceiling:
    """As high as it can be."""
    return Ceiling(exponent=jnp.full((), HIGHEST), best=jnp.zeros(()))


def update(
    ceiling: Ceiling,
    accuracy: Array | float,
    deviation: Array | float,
    size: Array,
    observed: Array,
) -> Ceiling:
    """One step.

    Args:
      ceiling: of the last step.
      accuracy, deviation: `()` overall accuracy and its standard deviation as an estimate; if the
        accuracy is always 0, which stands for unknown, the ceiling stays as high as it can be.
      size: `(constraint,)` |I_c|.
      observed: `(constraint,)` bool; where there is none, nothing moves.
    """
    best = jnp.maximum(ceiling.best, accuracy - 3 * deviation)
    too_much = lost(ceiling._replace(best=best), accuracy, deviation) - _LOSS
    largest = jnp.max(size, initial=0)
    down = jnp.minimum(ceiling.exponent, largest) - _DOWN * jnp.clip(too_much / _LOSS, 0, 1)
    up = ceiling.exponent + _UP * jnp.clip(-too_much / _LOSS, 0, 1)
    exponent = jnp.clip(jnp.where(too_much > 0, down, up), _LOWEST, HIGHEST)
    any_observed = observed.any()
    return Ceiling(
        exponent=jnp.where(any_observed, exponent, ceiling.exponent),
        best=jnp.where(any_observed, best, ceiling.best),
    )


def lost(ceiling: Ceiling, accuracy: Array | float, deviation: Array | float) -> Array:
    """`()` accuracy below the best, beyond what one deviation explains; ≤ 0 where it is unknown."""
    return ceiling.best - accuracy - deviation
