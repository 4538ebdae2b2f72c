"""How far a multiplier may go before its constraint is seen to respond.

    z_c ≤ 1 + (max_t v_c,t − v_c) / r_c

Weight is worth its price where it helps. Any violated group gets up to e times its share. Beyond,
its exponent may grow by 1 for each unit r_c by which its violation has fallen from the largest,
which is what an exponent of 1 is to bring about. So a group that no weight helps, one with random
labels for instance, takes little from all others. See docs/method.md, equation (40).
"""

import jax.numpy as jnp

from bap_jax.types import Array

_UNPROVEN = 1.0  # an exponent that needs no response


def init(size: int) -> Array:
    """`(constraint,)` largest violations before the first step."""
    return jnp.zeros((size,))


def update(largest: Array, violation: Array, observed: Array) -> Array:
    """`(constraint,)` largest violations so far.

    Args:
      largest: of the last step.
      violation: `(constraint,)`; of an equality its absolute value.
      observed: `(constraint,)` bool; others stay as they are.
    """
    return jnp.where(observed, jnp.maximum(largest, violation), largest)


def highest_exponent(largest: Array, violation: Array, per_unit: Array) -> Array:
    """`(constraint,)` how large |z_c| may be, at least 1.

    Args:
      largest: of `update`.
      violation: `(constraint,)`, as there.
      per_unit: `(constraint,)` 1 / r_c.
    """
    return _UNPROVEN + jnp.maximum(largest - violation, 0) * per_unit
