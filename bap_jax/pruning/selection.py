"""Which entries are the largest: exact counts and ties, without a sort.

The bits of a float order as the float does, so a threshold is an integer t with

    #{key ≤ t} ≥ pruned > #{key < t}

found by counting. All tensors are laid out in one block of rows, and each pass over it counts for
every tensor at once, so the program does not grow with the number of tensors. A sorted sample gives
the first bracket; then the next threshold is where a straight line through the bracket's counts
puts it, or its middle where that stalls (values that repeat). About 20 passes serve 25 million
weights, 70 are the most. Of equal entries those of lower row-major index stay.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.types import Array

_ROW, _LANES = 4096, 128  # 128 hits still fit a uint8, which vector units count fastest
_SAMPLE = 1024


def keep_largest(scores: Sequence[Array], kept: Sequence[Array | int]) -> list[Array]:
    """The largest entries of each tensor.

    Args:
      scores: float tensors of any shapes; NaN ranks highest, −0 as 0.
      kept: how many entries of each stay; may be traced.

    Returns:
      uint8 of the shapes of `scores`, with exactly `kept` ones each.
    """
    if not any(score.size for score in scores):
        return _nothing(scores)
    return _select(tuple(scores), jnp.stack([jnp.asarray(k, jnp.int32) for k in kept]), False)


def keep_largest_jointly(scores: Sequence[Array], kept: Array | int) -> list[Array]:
    """The largest entries of all tensors together, in one ranking.

    Of equal entries those of earlier tensors, then of lower index, stay.

    Args:
      scores: float tensors of any shapes.
      kept: how many entries stay in all; may be traced.

    Returns:
      uint8 of the shapes of `scores`, with `kept` ones in all.
    """
    if not any(score.size for score in scores):
        return _nothing(scores)
    return _select(tuple(scores), jnp.asarray(kept, jnp.int32)[None], True)


def _nothing(scores):
    return [jnp.zeros(score.shape, jnp.uint8) for score in scores]


@jax.jit(static_argnames="jointly")
def _select(scores, kept, jointly):
    layout = _layout([score.size for score in scores], jointly)
    dtype = jnp.int64 if any(score.dtype == jnp.float64 for score in scores) else jnp.int32
    keys = _pack([_order_key(score, dtype) for score in scores])
    pruned = layout.sizes - jnp.clip(kept, 0, layout.sizes)
    threshold, last = _thresholds(keys, layout, pruned)
    mask = _above(keys, layout, threshold, last).astype(jnp.uint8).ravel()
    starts = np.cumsum([0, *(_rows(score.size) * _ROW for score in scores)])
    return [
        mask[start : start + score.size].reshape(score.shape)
        for start, score in zip(starts, scores, strict=False)
    ]


class _Layout(NamedTuple):
    """Which rows belong to which segment (a tensor, or all of them)."""

    owner: Array  # (row,) the segment
    start: Array  # (segment,) its first row
    sizes: Array  # (segment,) its entries, without padding
    places: Array  # (segment,) its entries, padding included


def _rows(size):
    return -(-size // _ROW)


def _layout(sizes, jointly):
    rows = [_rows(size) for size in sizes]
    if jointly:
        rows, sizes = [sum(rows)], [sum(sizes)]
    numbers = (np.repeat(np.arange(len(rows)), rows), np.cumsum([0, *rows[:-1]]), sizes)
    places = [row * _ROW for row in rows]
    return _Layout(*(jnp.asarray(value, jnp.int32) for value in (*numbers, places)))


def _order_key(score, dtype):
    """Integers that order as the scores do."""
    wide = score.astype(jnp.float64 if dtype == jnp.int64 else jnp.float32)
    bits = jax.lax.bitcast_convert_type(jnp.where(wide == 0, 0, wide), dtype)
    key = bits ^ ((bits >> (8 * dtype.dtype.itemsize - 1)) & jnp.iinfo(dtype).max)
    return jnp.where(jnp.isnan(wide), jnp.iinfo(dtype).max - 1, key)


def _pack(keys):
    """`(row, _ROW)`; what fills the last row of a tensor is larger than any key."""
    fill = jnp.iinfo(keys[0].dtype).max
    flat = [jnp.pad(key.ravel(), (0, -key.size % _ROW), constant_values=fill) for key in keys]
    return jnp.concatenate(flat).reshape(-1, _ROW)


def _count_rows(hit):
    """`(row,)` how many entries of `hit (row, _ROW)` are True."""
    hit = hit.reshape(-1, _ROW // _LANES, _LANES).astype(jnp.uint8)
    return jnp.sum(jnp.sum(hit, -1, dtype=jnp.uint8), -1, dtype=jnp.int32)


def _per_segment(rows, layout):
    segments = layout.sizes.shape[0]
    return jax.ops.segment_sum(rows, layout.owner, segments, indices_are_sorted=True)


class _Bracket(NamedTuple):
    """`below` and `upto` entries have keys ≤ `low` and ≤ `high`; below < pruned ≤ upto."""

    low: Array
    high: Array
    below: Array
    upto: Array
    stalled: Array  # the last pass left more than .6 of the entries between


def _thresholds(keys, layout, pruned):
    """Threshold and, among the entries equal to it, the last position that stays; `(segment,)`."""
    limits = jnp.iinfo(keys.dtype)
    everywhere = jnp.zeros_like(pruned, keys.dtype)
    bracket = _Bracket(
        everywhere + limits.min,
        everywhere + limits.max,
        jnp.zeros_like(pruned),
        layout.sizes,
        jnp.zeros_like(pruned, bool),
    )
    first, second = _from_sample(keys, layout, pruned)

    def unfinished(carry):
        _, found = carry
        return jnp.any((found.upto > pruned) & (_gap(found) > 1))

    def narrow(carry):
        step, found = carry
        sampled = jnp.clip(jnp.where(step == 0, first, second), found.low, found.high)
        threshold = jnp.where(step < 2, sampled, _propose(found, pruned))
        return step + 1, _narrow(found, threshold, keys, layout, pruned)

    _, bracket = jax.lax.while_loop(unfinished, narrow, (0, bracket))
    return bracket.high, _last_tie(keys, layout, bracket.high, bracket.upto - pruned)


def _gap(bracket):
    unsigned = jnp.uint64 if bracket.low.dtype == jnp.int64 else jnp.uint32
    return (bracket.high - bracket.low).astype(unsigned)


def _narrow(bracket, threshold, keys, layout, pruned):
    rows = _count_rows(keys <= threshold[layout.owner][:, None])
    # Padding is never ≤ a threshold but the largest, which counts every entry.
    count = jnp.minimum(_per_segment(rows, layout), layout.sizes)
    enough = count >= pruned
    below = jnp.where(enough, bracket.below, count)
    upto = jnp.where(enough, count, bracket.upto)
    return _Bracket(
        jnp.where(enough, bracket.low, threshold),
        jnp.where(enough, threshold, bracket.high),
        below,
        upto,
        (upto - below) > 0.6 * (bracket.upto - bracket.below),
    )


def _propose(bracket, pruned):
    """The next threshold: on the near side of where a straight line puts the wanted count."""
    wanted = (pruned - bracket.below).astype(jnp.float32)
    between = (bracket.upto - bracket.below).astype(jnp.float32)
    near = jnp.minimum(wanted, between - wanted)
    # Counts scatter by about √near; aiming beyond the target by that much closes the longer side.
    few = near <= 8
    margin = jnp.where(few, 0.5, 2 * jnp.sqrt(near))
    aim = wanted + jnp.where(few | (wanted < between - wanted), margin, -margin)
    gap = _gap(bracket)
    share = jnp.where(bracket.stalled, 0.5, jnp.clip(aim / (between + 1), 0, 1))
    # Below 1, so that the product, rounded to float32, stays within the gap's type.
    step = (jnp.minimum(share, 1 - 2.0**-20) * gap.astype(jnp.float32)).astype(gap.dtype)
    step = jnp.clip(step, 1, jnp.maximum(gap, 2) - 1)
    return bracket.low + step.astype(bracket.low.dtype)


def _from_sample(keys, layout, pruned):
    """Two thresholds around the wanted one, from evenly spaced entries of each segment."""
    stride = jnp.maximum(layout.places // _SAMPLE, 1)
    place = jnp.minimum(jnp.arange(_SAMPLE)[None] * stride[:, None], layout.places[:, None] - 1)
    found = keys[layout.start[:, None] + place // _ROW, place % _ROW]
    found = jnp.sort(found, axis=-1)
    size = jnp.sum(found < jnp.iinfo(keys.dtype).max, axis=-1)
    share = pruned / jnp.maximum(layout.sizes, 1)
    middle = share * size
    spread = 3 * jnp.sqrt(middle * (1 - share)) + 1

    def at(rank):
        rank = jnp.clip(rank.astype(jnp.int32), 0, jnp.maximum(size - 1, 0))
        return jnp.take_along_axis(found, rank[:, None], axis=-1)[:, 0]

    low = jnp.where(pruned > 0, at(middle - spread) - 1, jnp.iinfo(keys.dtype).min + 1)
    return low, at(middle + spread)


def _last_tie(keys, layout, threshold, kept):
    """`(segment,)` position of the `kept`-th entry equal to the threshold; −1 where kept is 0."""
    ties = jnp.cumsum(_count_rows(keys == threshold[layout.owner][:, None]))
    before = jnp.concatenate([jnp.zeros(1, ties.dtype), ties])[layout.start]
    ties = ties - before[layout.owner]
    full = _per_segment((ties < kept[layout.owner]).astype(jnp.int32), layout)
    row = jnp.minimum(layout.start + full, keys.shape[0] - 1)
    missing = kept - jnp.where(full > 0, ties[jnp.maximum(row - 1, 0)], 0)
    in_row = jnp.cumsum((keys[row] == threshold[:, None]).astype(jnp.int32), axis=-1)
    column = jnp.sum(in_row < missing[:, None], axis=-1)
    return jnp.where(kept > 0, full * _ROW + column, -1)


def _above(keys, layout, threshold, last):
    row = jnp.arange(keys.shape[0]) - layout.start[layout.owner]
    place = row[:, None] * _ROW + jnp.arange(_ROW)[None]
    threshold, last = threshold[layout.owner][:, None], last[layout.owner][:, None]
    return (keys > threshold) | ((keys == threshold) & (place <= last))
