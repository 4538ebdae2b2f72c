"""The last k values of every group, in arrays of fixed shape (paper section 4; method.md 3).

A batch gives few samples of each group, so a group's accuracy is estimated over its last k = 40
samples instead, and only once k of them were seen. One `push` costs a sort of the batch and a
gather of `batch × k` values: nothing grows with the number of groups, and nothing with
groups × batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from bap_jax.types import Array, UserError


class ReplayBuffer(NamedTuple):
    """The newest values of every group.

    Attributes:
      values: `(group, memory)` ring of the newest values of each group.
      total: `(group, ...)` float32 sum of each row, or of each statistic of its values.
      seen: `(group,)` int32 number of values ever pushed.
      updated: `(group,)` int32 the push that last brought a value.
      pushes: `()` int32 number of pushes that brought any value.
    """

    values: Array
    total: Array
    seen: Array
    updated: Array
    pushes: Array


class Estimate(NamedTuple):
    """Means of groups, as far as they are known.

    Attributes:
      mean: `(group, ...)` estimated mean of each group; 0 where not observed.
      observed: `(group,)` bool, the groups for which there is an estimate.
      variance: `(group,)` of `mean` as an estimate; 0 where nothing is known about it.
    """

    mean: Array
    observed: Array
    variance: Array | float = 0.0


def init(
    num_groups: int, memory: int, dtype=jnp.float32, statistics: tuple[int, ...] = ()
) -> ReplayBuffer:
    """An empty buffer. Use `dtype=bool` for correctness: one byte a value.

    Args:
      num_groups: rows.
      memory: k, values of each group.
      dtype: of the values.
      statistics: trailing shape of what `push` makes of a value by `decode`.

    Raises:
      UserError: `memory` is less than 1.
    """
    if memory < 1:
        raise UserError(f"the replay buffer's memory must be at least 1 sample, got {memory}.")
    return ReplayBuffer(
        values=jnp.zeros((num_groups, memory), dtype),
        total=jnp.zeros((num_groups, *statistics), jnp.float32),
        seen=jnp.zeros((num_groups,), jnp.int32),
        updated=jnp.zeros((num_groups,), jnp.int32),
        pushes=jnp.zeros((), jnp.int32),
    )


def push(
    buffer: ReplayBuffer,
    values: Array,
    group_ids: Array,
    decode: Callable[[Array], Array] = lambda rows: rows,
) -> ReplayBuffer:
    """Adds a batch, oldest values overwritten first.

    Where a batch holds more than `memory` samples of a group, the newest of them stay; the last
    sample of the batch is the newest.

    Args:
      buffer: over `num_groups` groups.
      values: `(batch,)`.
      group_ids: `(batch, attribute)`; a sample is pushed once for each attribute, and not at all
        where the id lies outside `[0, num_groups)`.
      decode: `(entry, memory) -> (entry, memory, ...)`, what is summed of each value.
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

    before = buffer.seen.at[groups].get(mode="fill", fill_value=0)
    slot = (before + rank) % memory
    target = jnp.where(behind < memory, groups, num_groups)
    ring = buffer.values.at[target, slot].set(entries, mode="drop")
    # Rows that changed are summed anew: a running sum would drift for real-valued entries.
    rows = ring.at[groups].get(mode="fill", fill_value=0)
    return ReplayBuffer(
        ring,
        buffer.total.at[groups].set(decode(rows).astype(jnp.float32).sum(1), mode="drop"),
        # Set, not add: what is written depends on what was read, so XLA updates in place.
        buffer.seen.at[groups].set(before + rank + behind + 1, mode="drop"),
        buffer.updated.at[groups].set(buffer.pushes, mode="drop"),
        buffer.pushes + (groups < num_groups).any(),
    )


def query(buffer: ReplayBuffer) -> Estimate:
    """The mean of every group whose buffer is full."""
    memory = buffer.values.shape[1]
    observed = buffer.seen >= memory
    known = observed.reshape(-1, *(1,) * (buffer.total.ndim - 1))
    return Estimate(jnp.where(known, buffer.total / memory, 0), observed)


def staleness(buffer: ReplayBuffer) -> Array:
    """`(group,)` pushes since the newest value of each group: 0 if the last one brought one."""
    return buffer.pushes - 1 - buffer.updated
