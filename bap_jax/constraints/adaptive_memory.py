"""Group accuracies from a short and a long exponential average of correctness.

    fast_g, slow_g    means over the group's last samples: n new ones leave old ones with a weight
                      of m / (m + n), and M / (M + n)
    Â_g = slow_g + c_g (fast_g − slow_g),   c_g = d² / (d² + 4 Var(fast_g)),  d = fast_g − slow_g

with m = k/2 samples, which has the mean age and the variance of a buffer of k, and M = n_g, about
an epoch. While the network changes, the two differ by more than chance, c_g is near 1 and the
estimate has little delay. Once it changes slowly they agree, c_g is near 0, and the variance is
that of the whole group rather than of k samples: for k = 40 and 107 samples of a group, a third.
What is stated is c_g Var(fast_g) + (1 − c_g) Var(slow_g): c_g is large where the two differ, by
chance as well, so c_g² Var(fast_g) would be two to three times too small. Var(slow_g) is that of
all samples so far until it has had n_g of them. See docs/method.md, equation (37).
"""

from typing import NamedTuple

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.base import DenseReference
from bap_jax.constraints.observations import Observations
from bap_jax.constraints.replay_buffer import Estimate
from bap_jax.types import Array

_DOUBT = 4.0  # a difference of two standard deviations is believed by half


class TwoMemories(NamedTuple):
    """Sums over the samples of each group, old ones fading; 16 bytes a group.

    Attributes:
      fast_right, fast_count: `(group,)` right samples and samples, fading after m samples.
      slow_right, slow_count: `(group,)` the same, fading after M samples.
    """

    fast_right: Array
    fast_count: Array
    slow_right: Array
    slow_count: Array


def init(num_groups: int) -> TwoMemories:
    """Sums before the first sample."""
    zeros = jnp.zeros((num_groups,), jnp.float32)
    return TwoMemories(zeros, zeros, zeros, zeros)


def update(
    memory: TwoMemories, observations: Observations, reference: DenseReference, buffer_size: int
) -> tuple[Estimate, TwoMemories]:
    """Adds a batch; pure.

    Args:
      memory: of `init` or of the last call.
      observations: of the batch; samples of weight 0 leave the sums as they are.
      reference: gives the numbers of groups and of their samples n_g; where these are unknown (0),
        M = 5 k.
      buffer_size: k.

    Returns:
      Accuracies `(group,)` with their variances, and the new sums. A group is observed once it has
      had about k/3 samples in one batch, or k/2 to 3k/5 of them one by one, or all that it has.
    """
    num_groups = memory.fast_right.shape[0]
    sums = metrics.group_sums(
        observations.correct, observations.group_ids, observations.weight, num_groups
    )
    known = jnp.broadcast_to(jnp.asarray(reference.count, jnp.float32), (num_groups,))
    size = jnp.where(known > 0, known, 5.0 * buffer_size)
    short = jnp.minimum(buffer_size / 2, size)
    keep_fast, keep_slow = _kept(sums.count, short, size)
    fast_right, fast_count = _added(memory.fast_right, memory.fast_count, keep_fast, sums)
    slow_right, slow_count = _added(memory.slow_right, memory.slow_count, keep_slow, sums)
    per_fast, per_slow = _reciprocals(jnp.maximum(fast_count, 1e-9), jnp.maximum(slow_count, 1e-9))
    fast, slow = fast_right * per_fast, slow_right * per_slow
    # A group that was always right so far is not certain to stay so.
    least, per_sample = _reciprocals(size + 2, size)
    spread = jnp.maximum(slow * (1 - slow), least)
    fast_variance = spread * jnp.maximum(1 / buffer_size, per_sample / 2)
    difference = (fast - slow) ** 2
    belief = difference / (difference + _DOUBT * fast_variance)
    observed = fast_count >= jnp.minimum(0.35 * buffer_size, 0.63 * size)
    mean = jnp.where(observed, slow + belief * (fast - slow), 0)
    settled = per_sample / 2
    slow_variance = spread * jnp.maximum(jnp.minimum(per_slow, 1) - settled, settled)
    variance = belief * fast_variance + (1 - belief) * jnp.where(observed, slow_variance, 0)
    return Estimate(mean, observed, variance), TwoMemories(
        fast_right, fast_count, slow_right, slow_count
    )


def _kept(count, short, size):
    """`(group,)` m / (m + n) and M / (M + n); just 1 where nothing is new."""
    per_fast, per_slow = _reciprocals(short + count, size + count)
    return tuple(jnp.where(count > 0, kept, 1) for kept in (short * per_fast, size * per_slow))


def _added(right, count, keep, sums):
    return keep * right + sums.total, keep * count + sums.count


def _reciprocals(a, b):
    """1 / a and 1 / b for the price of one division, which is what a step here consists of."""
    both = 1 / (a * b)
    return b * both, a * both
