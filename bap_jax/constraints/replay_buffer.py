"""The last k values of every group, in arrays of fixed shape.

A batch holds few samples of each group, so the accuracy of a group is estimated from its last
k = 40 samples instead, and only once it has had k of them (paper section 4; docs/method.md,
equation (13)). A `push` compares the batch with itself, or sorts a large one, and gathers
`batch × k` values: its cost does not grow with the number of groups.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax.errors import UserError
from bap_jax.types import Array

_LARGEST_COMPARED = 1024  # entries of a batch that are compared in pairs


class ReplayBuffer(NamedTuple):
    """The newest values of every group.

    Attributes:
      values: `(group, memory)` ring of the newest values of each group.
      total: `(group, ...)` float32 sum of each row, or of each statistic of its values.
      seen: `(group,)` int32 number of values ever pushed.
      updated: `(group,)` int32 number of the last push that held a value of the group.
      pushes: `()` int32 number of pushes that held any value.
    """

    values: jax.Array
    total: jax.Array
    seen: jax.Array
    updated: jax.Array
    pushes: jax.Array


class Estimate(NamedTuple):
    """Estimated means of groups.

    Attributes:
      mean: `(group, ...)` estimated mean of each group; 0 where not observed.
      observed: `(group,)` bool, the groups for which there is an estimate.
      variance: `(group,)` variance of the estimate `mean`; 0 where it is unknown.
    """

    mean: Array
    observed: Array
    variance: Array | float = 0.0


def init(
    num_groups: int, memory: int, dtype=jnp.float32, statistics: tuple[int, ...] = ()
) -> ReplayBuffer:
    """An empty buffer. Use `dtype=bool` for correctness: one byte per value.

    Args:
      num_groups: rows.
      memory: k, values of each group.
      dtype: of the values.
      statistics: trailing shape of what `decode` in `push` makes of a value.

    Raises:
      UserError: `memory` is less than 1.

    Example:
      >>> buffer = init(num_groups=2, memory=2)
      >>> buffer = push(buffer, jnp.array([1.0, 0.0, 1.0]), jnp.array([[0], [0], [1]]))
      >>> query(buffer).mean.tolist(), query(buffer).observed.tolist()
      ([0.5, 0.0], [True, False])
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
    """Adds a batch; the oldest values are overwritten first.

    If a batch holds more than `memory` samples of a group, the newest of them stay; the last sample
    of the batch is the newest.

    Args:
      buffer: of `num_groups` groups.
      values: `(batch,)`.
      group_ids: `(batch, attribute)`; a sample is pushed once for each attribute, and not at all
        where the id lies outside `[0, num_groups)`.
      decode: `(entry, memory) -> (entry, memory, ...)`, the statistics of each value to sum.
    """
    num_groups, memory = buffer.values.shape
    num_attributes = group_ids.shape[1]
    entries = jnp.repeat(values.astype(buffer.values.dtype), num_attributes)
    groups = group_ids.ravel()
    groups = jnp.where((groups >= 0) & (groups < num_groups), groups, num_groups)

    groups, entries, rank, newer = _places(groups, entries)

    # Each row of the buffer at most once, and a row beyond it for every entry that is not written:
    # where indices may occur twice, a GPU writes one after the other.
    beyond = num_groups + jnp.arange(groups.size, dtype=groups.dtype)
    is_member = groups < num_groups
    target = jnp.where(is_member & (newer < memory), groups, beyond)
    row = jnp.where(is_member & (newer == 0), groups, beyond)
    write = functools.partial(_write, row)

    before = buffer.seen.at[groups].get(mode="fill", fill_value=0)
    slot = (before + rank) % memory
    ring = buffer.values.at[target, slot].set(entries, mode="drop", unique_indices=True)
    # Rows that changed are summed again: a running sum of real numbers would drift.
    rows = ring.at[groups].get(mode="fill", fill_value=0)
    return ReplayBuffer(
        ring,
        write(buffer.total, decode(rows).astype(jnp.float32).sum(1)),
        # Set, not add: what is written depends on what was read, so XLA updates in place.
        write(buffer.seen, before + rank + 1),
        write(buffer.updated, buffer.pushes),
        buffer.pushes + is_member.any().astype(buffer.pushes.dtype),
    )


def _places(groups, entries):
    """Groups and entries, in any order, and of how many of its group each is in front and behind.

    A small batch is compared with itself, which is one operation on a GPU; a sort and two binary
    searches are loops. Both give the same numbers.
    """
    size = groups.size
    if size <= _LARGEST_COMPARED:
        same = groups[:, None] == groups[None]
        return groups, entries, jnp.tril(same, -1).sum(1), jnp.triu(same, 1).sum(1)
    order = jnp.argsort(groups, stable=True)
    groups, entries, position = groups[order], entries[order], jnp.arange(size)
    rank = position - jnp.searchsorted(groups, groups, side="left")
    newer = jnp.searchsorted(groups, groups, side="right") - 1 - position
    return groups, entries, rank, newer


def _write(rows, array, values):
    return array.at[rows].set(values, mode="drop", unique_indices=True)


def query(buffer: ReplayBuffer) -> Estimate:
    """Means `(group, ...)` of the groups whose buffers are full."""
    memory = buffer.values.shape[1]
    observed = buffer.seen >= memory
    full = observed.reshape(-1, *(1,) * (buffer.total.ndim - 1))
    return Estimate(jnp.where(full, buffer.total / memory, 0), observed)


def staleness(buffer: ReplayBuffer) -> Array:
    """`(group,)` pushes since the newest value of each group; 0 if the last push held one."""
    return buffer.pushes - 1 - buffer.updated
