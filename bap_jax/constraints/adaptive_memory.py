"""Group accuracies from a short and a long exponential average of correctness.

    fast_g, slow_g    means over the group's last samples: n new ones leave old ones with a weight
                      of m / (m + n), and M / (M + n)
    Â_g = slow_g + c_g (fast_g − slow_g),   c_g = d² / (d² + 4 Var(fast_g)),  d = fast_g − slow_g

with m = k/2 samples, which has the mean age and the variance of a buffer of k, and M = min(n_g,
100 k), about an epoch of a small group: a longer memory would keep the start of a run for thousands
of steps. While the network changes, the two differ by more than chance, c_g is near 1 and the
estimate has little delay. Once it changes slowly they agree, c_g is near 0, and the variance is
that of M samples rather than of k: for k = 40 and a group of 107, a third.
What is stated is c_g Var(fast_g) + (1 − c_g) Var(slow_g): c_g is large where the two differ, by
chance as well, so c_g² Var(fast_g) would be two to three times too small. Var(slow_g) is that of
all samples so far until it has had M of them. See docs/method.md, equation (37).
"""

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints import fading_mean
from bap_jax.constraints.base import DenseReference
from bap_jax.constraints.observations import Observations
from bap_jax.constraints.replay_buffer import Estimate
from bap_jax.metrics import GroupSums

_DOUBT = 4.0  # a difference of two standard deviations is believed by half
_LONGEST = 100.0  # M / k, at most


def init(num_groups: int) -> GroupSums:
    """Sums `(2, group)` of right samples before the first one; 16 bytes a group. The first row
    fades after m samples, the second after M."""
    return fading_mean.init(2, num_groups)


def update(
    memory: GroupSums, observations: Observations, reference: DenseReference, buffer_size: int
) -> tuple[Estimate, GroupSums]:
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
    num_groups = memory.count.shape[1]
    new = metrics.group_sums(
        observations.correct, observations.group_ids, observations.weight, num_groups
    )
    known = jnp.broadcast_to(jnp.asarray(reference.count, jnp.float32), (num_groups,))
    longest = _LONGEST * buffer_size
    size = jnp.where(known > 0, jnp.minimum(known, longest), 5.0 * buffer_size)
    short = jnp.minimum(buffer_size / 2, size)
    lengths = jnp.stack([short, size])
    memory = fading_mean.add(memory, GroupSums(*(x[None] for x in new)), lengths)
    right, count = memory
    fast, slow = right / jnp.maximum(count, 1e-9)
    # A group that was always right so far is not certain to stay so.
    likely = (right[1] + 1) / (count[1] + 2)
    spread = likely * (1 - likely)
    fast_variance, slow_variance = spread[None] * _one_over_samples(count, lengths)
    difference = (fast - slow) ** 2
    belief = difference / (difference + _DOUBT * fast_variance)
    observed = count[0] >= 0.7 * jnp.minimum(short, 0.9 * size)
    mean = jnp.where(observed, slow + belief * (fast - slow), 0)
    variance = jnp.where(observed, slow_variance + belief * (fast_variance - slow_variance), 0)
    return Estimate(mean, observed, variance), memory


def _one_over_samples(count, lengths):
    """What the variance of one sample is multiplied by in that of a mean with fading weights: first
    while the memory fills sample by sample, then in the long run, whatever a batch brings."""
    is_filling, seen = count <= lengths, jnp.maximum(count, 1e-9)
    numerator = jnp.where(is_filling, 2 * lengths - count, 1)
    return numerator / jnp.where(is_filling, 2 * lengths * seen, lengths + count)
