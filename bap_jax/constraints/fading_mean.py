"""Means of groups that old samples leave one by one: 8 bytes a group, whatever their number.

n new samples leave the old ones with a weight of m / (m + n). With m = k the mean has twice the
samples of a buffer of k, in effect, and twice the mean age.
"""

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.observations import Observations
from bap_jax.constraints.replay_buffer import Estimate
from bap_jax.metrics import GroupSums
from bap_jax.types import Array


def init(*shape: int) -> GroupSums:
    """Sums `(..., group)` before the first sample."""
    zeros = jnp.zeros(shape, jnp.float32)
    return GroupSums(zeros, zeros)


def add(sums: GroupSums, new: GroupSums, memory: Array | float) -> GroupSums:
    """Sums in which the old samples have faded by the new ones; pure.

    Args:
      sums: `(..., group)` of `init` or of the last call; leading axes for several memories.
      new: of a batch, with as many axes as `sums`.
      memory: m, samples.
    """
    keep = memory / (memory + new.count)
    total, count = keep * sums.total + new.total, keep * sums.count + new.count
    return GroupSums(total.astype(sums.total.dtype), count.astype(sums.count.dtype))


def update(
    sums: GroupSums, values: Array, observations: Observations, memory: int
) -> tuple[Estimate, GroupSums]:
    """Adds a batch; pure.

    Args:
      sums: `(group,)`, of `init` or of the last call.
      values: `(batch,)` what is averaged.
      observations: of the batch; samples of weight 0 leave the sums as they are.
      memory: m, samples.

    Returns:
      Means `(group,)`, and the new sums. A group is observed from its first sample on.
    """
    num_groups = sums.count.shape[0]
    new = metrics.group_sums(values, observations.group_ids, observations.weight, num_groups)
    sums = add(sums, new, memory)
    return Estimate(metrics.group_means(sums), sums.count > 0), sums
