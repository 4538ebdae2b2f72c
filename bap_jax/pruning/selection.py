"""Which entries are the largest: exact counts and ties, without a sort.

The bits of a float order as the float does, so a threshold is an integer t with

    #{key ≤ t} ≥ pruned > #{key < t}

found by counting. All tensors are laid out in one block of rows, and each pass over it counts for
every tensor at once, so the program hardly grows with the number of tensors. The next threshold to
try comes from a straight line through the counts at the bracket's ends, or from the bracket's
middle where that stalls. Where too many entries equal the threshold, their places are searched in
the same way. Of equal entries those of lower row-major index stay.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.types import Array

_ROW, _LANES = 4096, 128  # 128 hits still fit a uint8, which vector units count fastest


def keep_largest(scores: Sequence[Array], kept: Sequence[Array | int] | Array) -> Sequence[Array]:
    """The largest entries of each tensor.

    Args:
      scores: float tensors of any shapes; NaN ranks highest, and −0 equals 0.
      kept: how many entries of each stay; may be traced.

    Returns:
      uint8 of the shapes of `scores`, with exactly `kept` ones each.

    Example:
      >>> keep_largest([jnp.array([3.0, 1.0, 2.0])], [2])[0].tolist()
      [1, 0, 1]
    """
    return keep_largest_by(_itself, [scores], kept)


def keep_largest_jointly(scores: Sequence[Array], kept: Array | int) -> Sequence[Array]:
    """The largest entries of all tensors together, in one ranking.

    Of equal entries those of earlier tensors, then of lower index, stay.

    Args:
      scores: float tensors of any shapes.
      kept: how many entries stay in total; may be traced.

    Returns:
      uint8 of the shapes of `scores`, with `kept` ones in total.
    """
    if not any(score.size for score in scores):
        return _nothing(scores)
    return _select((tuple(scores),), jnp.asarray(kept, jnp.int32)[None], True, _itself)


def keep_largest_by(
    score: Callable[..., Array],
    parts: Sequence[Sequence[Array]],
    kept: Sequence[Array | int] | Array,
) -> Sequence[Array]:
    """The entries of each tensor with the largest score; one program scores all tensors.

    It compiles faster than scores that are computed tensor by tensor.

    Args:
      score: an elementwise function of as many arrays as there are parts; pass the same object in
        every call, since a new one is compiled again.
      parts: the tensors, and others of the same shapes that the score also reads.
      kept: how many entries of each stay; may be traced.

    Returns:
      uint8 of the shapes of the tensors, with exactly `kept` ones each.
    """
    if not any(tensor.size for tensor in parts[0]):
        return _nothing(parts[0])
    counts = kept
    if not isinstance(kept, jax.Array):
        counts = jnp.stack([jnp.asarray(count, jnp.int32) for count in kept])
    return _select(tuple(map(tuple, parts)), counts, False, score)


def _itself(score):
    return score


def _nothing(tensors):
    return [jnp.zeros(tensor.shape, jnp.uint8) for tensor in tensors]


@jax.jit(static_argnames=("jointly", "score"))
def _select(parts, kept, jointly, score):
    sizes = [tensor.size for tensor in parts[0]]
    layout = _layout(sizes, jointly)
    scores = score(*map(_pack, parts))
    keys = _order_key(scores, jnp.int64 if scores.dtype == jnp.float64 else jnp.int32)
    # Padding in a tensor's last row is larger than any entry.
    filled = np.concatenate([np.clip(n - np.arange(0, n, _ROW), 0, _ROW) for n in sizes])
    real = jnp.arange(_ROW)[None] < jnp.asarray(filled, jnp.int32)[:, None]
    keys = jnp.where(real, keys, jnp.iinfo(keys.dtype).max)
    pruned = layout.sizes - jnp.clip(kept, 0, layout.sizes)
    mask = ~_removed(keys, layout, *_thresholds(keys, layout, pruned))
    return _unpack(mask.astype(jnp.uint8), parts[0])


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


def _pack(tensors):
    """`(row, _ROW)`; every tensor begins at the start of a row."""
    dtype = jnp.result_type(*tensors)
    flat = [tensor.astype(dtype).ravel() for tensor in tensors]
    flat = [jnp.pad(row, (0, -row.size % _ROW)) if row.size % _ROW else row for row in flat]
    return jnp.concatenate(flat).reshape(-1, _ROW)


def _unpack(block, like):
    """The inverse of `_pack`, in the shapes of `like`."""
    starts = np.cumsum([0, *(_rows(tensor.size) * _ROW for tensor in like[:-1])])
    # XLA:CPU compiles a slice faster, in two thirds of the time, if it does not know the start.
    starts = jax.lax.optimization_barrier(tuple(jnp.int32(start) for start in starts))
    return [
        jax.lax.dynamic_slice(block.ravel(), (start,), (tensor.size,)).reshape(tensor.shape)
        for start, tensor in zip(starts, like, strict=True)
    ]


def _removed(keys, layout, key, back):
    """Entries below `key` `(segment,)`, and of those equal to it the last `back` places."""
    row = jnp.arange(keys.shape[0]) - layout.start[layout.owner]
    places = layout.places[layout.owner] - row * _ROW
    from_end = places[:, None] - jnp.arange(_ROW)[None]
    key, back = key[layout.owner][:, None], back[layout.owner][:, None]
    return (keys < key) | ((keys == key) & (from_end <= back))


class _Bracket(NamedTuple):
    """For each segment: the searched value, a key or a place from the end, lies in (low, high].

    A threshold of `low` removes too few entries (`below`), one of `high` enough (`upto`).
    """

    low: Array
    high: Array
    below: Array
    upto: Array
    stalled: Array  # the last pass left more than .6 of the entries between
    key: Array  # whose ties are searched
    in_ties: Array  # whether places are searched


def _thresholds(keys, layout, pruned):
    """`key` and `back` of `_removed` that remove exactly `pruned` entries of each segment."""
    limits, none = jnp.iinfo(keys.dtype), jnp.zeros_like(pruned, bool)
    lowest = jnp.full(pruned.shape, limits.min, keys.dtype)
    bracket = _Bracket(
        lowest, lowest + limits.max + limits.max + 1, 0 * pruned, layout.sizes, ~none, lowest, none
    )

    def narrow(bracket):
        bracket = _enter_ties(bracket, layout, pruned)
        tried = _propose(bracket, pruned)
        count = _count(keys, layout, *_as_threshold(bracket, tried, layout))
        return _narrow(bracket, tried, count, pruned)

    bracket = jax.lax.while_loop(lambda now: jnp.any(now.upto > pruned), narrow, bracket)
    return _as_threshold(bracket, bracket.high, layout)


def _as_threshold(bracket, value, layout):
    """The key and the places from the end that a searched value means."""
    places = layout.places.astype(value.dtype)
    return (
        jnp.where(bracket.in_ties, bracket.key, value),
        jnp.where(bracket.in_ties, value, places),
    )


def _count(keys, layout, key, back):
    hit = _removed(keys, layout, key, back).reshape(-1, _ROW // _LANES, _LANES)
    rows = jnp.sum(jnp.sum(hit, -1, dtype=jnp.uint8), -1, dtype=jnp.int32)
    # Only the largest key, which removes every entry, also removes padding.
    return jnp.minimum(_per_segment(rows, layout), layout.sizes)


def _per_segment(rows, layout):
    segments = layout.sizes.shape[0]
    return jax.ops.segment_sum(rows, layout.owner, segments, indices_are_sorted=True)


def _gap(bracket):
    unsigned = jnp.uint64 if bracket.low.dtype == jnp.int64 else jnp.uint32
    return (bracket.high - bracket.low).astype(unsigned)


def _enter_ties(bracket, layout, pruned):
    """Where one key is left and too many entries equal it, goes on among their places."""
    enters = (_gap(bracket) == 1) & (bracket.upto > pruned) & ~bracket.in_ties
    return bracket._replace(
        low=jnp.where(enters, 0, bracket.low),
        high=jnp.where(enters, layout.places.astype(bracket.high.dtype), bracket.high),
        key=jnp.where(enters, bracket.high, bracket.key),
        in_ties=bracket.in_ties | enters,
    )


def _narrow(bracket, tried, count, pruned):
    enough = count >= pruned
    below = jnp.where(enough, bracket.below, count)
    upto = jnp.where(enough, count, bracket.upto)
    return bracket._replace(
        low=jnp.where(enough, bracket.low, tried),
        high=jnp.where(enough, tried, bracket.high),
        below=below,
        upto=upto,
        stalled=(upto - below).astype(float) > 0.6 * (bracket.upto - bracket.below).astype(float),
    )


def _propose(bracket, pruned):
    """The next value to try, near where a straight line through the counts reaches `pruned`."""
    wanted = (pruned - bracket.below).astype(jnp.float32)
    between = (bracket.upto - bracket.below).astype(jnp.float32)
    near = jnp.minimum(wanted, between - wanted)
    # Counts scatter by about √near; aiming that much beyond the target closes the longer side.
    few = near <= 8
    margin = jnp.where(few, 0.5, 2 * jnp.sqrt(near))
    aim = wanted + jnp.where(few | (wanted < between - wanted), margin, -margin)
    gap = _gap(bracket)
    share = jnp.where(bracket.stalled, 0.5, jnp.clip(aim / (between + 1), 0, 1))
    # Below 1, so that the product, rounded to float32, fits the gap's type.
    step = (jnp.minimum(share, 1 - 2.0**-20) * gap.astype(jnp.float32)).astype(gap.dtype)
    step = jnp.clip(step, 1, jnp.maximum(gap, 2) - 1)
    return bracket.low + step.astype(bracket.low.dtype)
