"""The last k values of every group, in arrays of fixed shape (paper section 4; method.md 3).

A batch gives few samples of each group, so a group's accuracy is estimated over its last k = 40
samples instead, and only once k of them were seen. One `push` costs a sort of the batch and a
gather of `batch × k` values: nothing grows with the number of groups, and nothing with
groups × batch.
"""

from typing import NamedTuple

import jax.numpy as jnp

from bap_jax.types import Array, UserError


class ReplayBuffer(NamedTuple):
    """The newest values of every group.

    Attributes:
      values: `(group, memory)` ring of the newest values of each group.
      total: `(group,)` float32 sum of each row.
      seen: `(group,)` int32 number of values ever pushed.
    """

    values: Array
    total: Array
    seen: Array


class Estimate(NamedTuple):
    """Means of groups, as far as they are known.

    Attributes:
      mean: `(group,)` estimated mean of each group; 0 where not observed.
      observed: `(group,)` bool, the groups for which there is an estimate.
    """

    mean: Array
    observed: Array


def init(num_groups: int, memory: int, dtype=jnp.float32) -> ReplayBuffer:
    """An empty buffer. Use `dtype=bool` for correctness: one byte a value.

    Raises:
      UserError: `memory` is less than 1.
    """
    if memory < 1:
        raise UserError(f"the replay buffer's memory must be at least 1 sample, got {memory}.")
    return ReplayBuffer(
        jnp.zeros((num_groups, memory), dtype),
        jnp.zeros((num_groups,), jnp.float32),
        jnp.zeros((num_groups,), jnp.int32),
    )


def push(buffer: ReplayBuffer, values: Array, group_ids: Array) -> ReplayBuffer:
    """Adds a batch, oldest values overwritten first.

    Where a batch holds more than `memory` samples of a group, the newest of them stay; the last
    sample of the batch is the newest.

    Args:
      buffer: over `num_groups` groups.
      values: `(batch,)`.
      group_ids: `(batch, attribute)`; a sample is pushed once for each attribute, and not at all
        where the id lies outside `[0, num_groups)`.
    """
    num_groups, memory = buffer.values.shape
    num_attributes = group_ids.shape[1]
    entries = jnp.repeat(values.astype(buffer.values.dtype), num_attributes)
    groups = group_ids.ravel()
    groups = jnp.where((groups >= 0) & (groups < num_groups), groups, num_groups)

    order = jnp.argsort(groups, stable=True)
    groups, entries = groups[order], entries[order]
    position = jnp.arange(groups.size)
    rank = position - jnp.searchsorted(groups, groups, side="left")
    behind = jnp.searchsorted(groups, groups, side="right") - 1 - position

    slot = (buffer.seen.at[groups].get(mode="fill", fill_value=0) + rank) % memory
    target = jnp.where(behind < memory, groups, num_groups)
    ring = buffer.values.at[target, slot].set(entries, mode="drop")
    # Rows that changed are summed anew: a running sum would drift for real-valued entries.
    row_sums = ring.at[groups].get(mode="fill", fill_value=0).astype(jnp.float32).sum(1)
    return ReplayBuffer(
        ring,
        buffer.total.at[groups].set(row_sums, mode="drop"),
        buffer.seen.at[groups].add(1, mode="drop"),
    )


def query(buffer: ReplayBuffer) -> Estimate:
    """The mean of every group whose buffer is full."""
    memory = buffer.values.shape[1]
    observed = buffer.seen >= memory
    return Estimate(jnp.where(observed, buffer.total / memory, 0), observed)
