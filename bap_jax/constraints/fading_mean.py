"""Means of groups that old samples leave one by one: 8 bytes a group, whatever their number.

n new samples leave the old ones with a weight of m / (m + n). With m = k the mean has twice the
samples of a buffer of k, in effect, and twice the mean age.
"""

from typing import NamedTuple

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.observations import Observations
from bap_jax.constraints.replay_buffer import Estimate
from bap_jax.types import Array


class FadingSums(NamedTuple):
    """Sums over the samples of each group, old ones fading.

    Attributes:
      total, count: `(group,)` sum of the values, and samples.
    """

    total: Array
    count: Array


def init(num_groups: int) -> FadingSums:
    """Sums before the first sample."""
    zeros = jnp.zeros((num_groups,), jnp.float32)
    return FadingSums(zeros, zeros)


def update(
    sums: FadingSums, values: Array, observations: Observations, memory: int
) -> tuple[Estimate, FadingSums]:
    """Adds a batch; pure.

    Args:
      sums: of `init` or of the last call.
      values: `(batch,)` what is averaged.
      observations: of the batch; samples of weight 0 leave the sums as they are.
      memory: m, samples.

    Returns:
      Means `(group,)`, and the new sums. A group is observed from its first sample on.
    """
    num_groups = sums.count.shape[0]
    new = metrics.group_sums(values, observations.group_ids, observations.weight, num_groups)
    keep = memory / (memory + new.count)
    total = (keep * sums.total + new.total).astype(sums.total.dtype)
    count = (keep * sums.count + new.count).astype(sums.count.dtype)
    observed = count > 0
    return Estimate(total / jnp.where(observed, count, 1), observed), FadingSums(total, count)
