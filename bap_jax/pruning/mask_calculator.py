"""From scores to masks, for every sparsity type.

    score ─► pooled score ─► its largest entries ─► mask of the tensor's shape

Weights, blocks and channels differ only in what is pooled. N:M needs no count.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.layers import (
    Axes,
    as_matrices,
    layer_axes,
    num_layers,
    on_layers,
    within_layers,
)
from bap_jax.pruning.selection import keep_largest
from bap_jax.pruning.shape_checks import check_channel, check_n_by_m
from bap_jax.pruning.sparsity_types import (
    Block,
    NByM,
    SparsityType,
    Unstructured,
    check_type,
)
from bap_jax.types import Array

MASK_DTYPE = jnp.uint8
Pooling = tuple[Array, Callable[[Array], Array]]


def get_topk_fn(
    sparsity_type: SparsityType, counting: str = "round"
) -> Callable[[Array, float], Array]:
    """`(scores, sparsity) -> mask` of one tensor.

    Args:
      sparsity_type: an instance; or the class `Unstructured`, which has no numbers.
      counting: a key of `counting.RULES`.

    Raises:
      UserError: the type or the rule is unknown.
    """
    sparsity_type = sparsity_type() if sparsity_type is Unstructured else sparsity_type
    check_type(sparsity_type)

    def topk(scores, sparsity):
        return masks_for([jnp.asarray(scores)], [sparsity], sparsity_type, counting)[0]

    return topk


@dataclasses.dataclass(frozen=True)
class StandardTopk:
    """What an updater's `topk_fn` is where nobody gave one: `(scores, sparsity) -> mask`.

    Attributes:
      sparsity_type, counting: as in `get_topk_fn`.
    """

    sparsity_type: SparsityType
    counting: str = "round"

    def __call__(self, scores: Array, sparsity: Array | float) -> Array:
        """The mask of one tensor."""
        tensors = [jnp.asarray(scores)]
        return masks_for(tensors, [sparsity], self.sparsity_type, self.counting)[0]


def masks_for(
    scores: Sequence[Array],
    sparsities: Sequence[Array | float],
    sparsity_type: SparsityType,
    counting: str,
    kept: Array | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[Array]:
    """Masks of several tensors at once.

    Args:
      scores: the largest stay.
      sparsities: one for each tensor; numbers or traced `()`.
      sparsity_type: the type of all tensors.
      counting: a key of `counting.RULES`.
      kept: `(tensor,)` int32, how many units of each stay, in place of `sparsities` and `counting`;
        of tensors with stacked layers, how many of each layer.
      axes: of each tensor, None where they are not known; by default of none.

    Returns:
      uint8 tensors of the shapes of `scores`.

    Raises:
      UserError: a tensor's shape does not go with the type.
    """
    if not scores:
        return []
    given = [None] * len(scores) if axes is None else axes
    pairs = zip(scores, given, strict=True)
    types, known = zip(
        *(within_layers(sparsity_type, own, score.shape) for score, own in pairs), strict=True
    )
    counts = [num_layers(*pair) for pair in zip(scores, known, strict=True)]
    owner: list[int] = np.repeat(np.arange(len(scores)), counts).tolist()
    if kept is not None and len(owner) > len(scores):
        kept = jnp.asarray(kept)[np.asarray(owner)]
    columns = list(map(layer_axes, known)), types, sparsities
    of_layers = [[column[i] for i in owner] for column in columns]
    make = functools.partial(_layer_masks, counting=counting, kept=kept)
    return on_layers(lambda layers: make(layers, *of_layers), known, scores)


def _layer_masks(scores, axes, types, sparsities, counting, kept):
    """Masks of single layers; arguments as in `masks_for`, one type for each layer."""
    columns = zip(scores, axes, types, strict=True)
    if isinstance(types[0], NByM):
        masks = [n_by_m_mask(*column) for column in columns]
        return [jnp.where(s == 0, 1, m) for s, m in zip(sparsities, masks, strict=True)]
    pooled, expand = zip(*(_pool(*column) for column in columns), strict=True)
    sizes = [score.size for score in pooled]
    counts = counts_of(sizes, sparsities, counting) if kept is None else kept
    masks = keep_largest(pooled, counts)
    return [grow(mask) for grow, mask in zip(expand, masks, strict=True)]


def counts_of(
    sizes: Sequence[int],
    sparsities: Sequence[Array | float] | Array,
    counting: str,
) -> Sequence[Array | int] | Array:
    """How many units of each tensor stay; arguments as in `masks_for`, sparsities also an array."""
    if isinstance(sparsities, jax.Array):
        return jnp.asarray(kept_count(counting, sparsities, jnp.asarray(sizes, jnp.int32)))
    pairs = zip(sparsities, sizes, strict=True)
    return [kept_count(counting, sparsity, size) for sparsity, size in pairs]


def units(shape: Sequence[int], sparsity_type: SparsityType, axes: Axes = None) -> int:
    """How many units of a tensor are kept or removed one by one, where units are counted.

    Args:
      shape: of the tensor.
      sparsity_type: of its masks.
      axes: of the tensor; the units of one layer are counted where several are stacked.

    Raises:
      UserError: the shape does not go with the type.
    """
    sparsity_type, axes = within_layers(sparsity_type, axes, shape)
    shape = axes.layer_shape(shape) if axes else tuple(shape)
    if isinstance(sparsity_type, Unstructured):
        return math.prod(shape)
    score = jax.ShapeDtypeStruct(shape, jnp.float32)
    pool = functools.partial(_pool, axes=layer_axes(axes), sparsity_type=sparsity_type)
    return jax.eval_shape(lambda score: pool(score)[0], score).size


def n_by_m_mask(score: Array, axes: Axes, sparsity_type: NByM) -> Array:
    """The `n` largest of every `m` neighbours; of equal scores the higher index stays.

    Raises:
      UserError: the tensor has no such axis, its length is not divisible by `m`, or the inputs
        are not known.
    """
    n, m, axis = sparsity_type
    check_n_by_m(score.shape, axes, sparsity_type)
    if not score.size:
        return jnp.zeros(score.shape, MASK_DTYPE)
    matrices, in_place = as_matrices(score, axes) if axis is None else (score, lambda mask: mask)
    axis = -2 if axis is None else axis
    line = jnp.moveaxis(matrices, axis, -1)
    line = line.reshape(*line.shape[:-1], -1, m)
    one, other = line[..., :, None], line[..., None, :]
    index = jnp.arange(m)
    after = (index[None] > index[:, None]).reshape((1,) * (line.ndim - 1) + (m, m))
    larger = (other > one) | ((other == one) & after)
    mask = (jnp.sum(larger, axis=-1) < n).astype(MASK_DTYPE)
    return in_place(jnp.moveaxis(mask.reshape(*mask.shape[:-2], -1), -1, axis))


def _pool(score, axes, sparsity_type) -> Pooling:
    if isinstance(sparsity_type, Unstructured) or not score.size:
        return score, lambda mask: mask
    is_block = isinstance(sparsity_type, Block)
    in_matrix = not sparsity_type.leading if is_block else sparsity_type.axis is None
    matrices, in_place = as_matrices(score, axes) if in_matrix else (score, lambda mask: mask)
    if is_block:
        pooled, grow = _pool_blocks(matrices, sparsity_type)
    else:
        pooled, grow = _pool_channels(matrices, -1 if in_matrix else sparsity_type.axis)
    return pooled, lambda mask: in_place(grow(mask))


def _pool_channels(score, axis):
    check_channel(score.shape, axis)
    axis %= score.ndim
    others = tuple(i for i in range(score.ndim) if i != axis)
    pooled = jnp.sum(score, axis=others, keepdims=True)
    return pooled, lambda mask: jnp.broadcast_to(mask, score.shape)


def _pool_blocks(score, block):
    """Blocks over two axes; a vector is one row."""
    height, width = block.block_shape
    shape = score.shape
    if score.ndim < 2:
        rows = score.reshape(1, 1, -1, 1)
    elif block.leading:
        rows = score.reshape(1, *shape[:2], -1)
    else:
        rows = score.reshape(-1, *shape[-2:], 1)
    padding = ((0, 0), (0, -rows.shape[1] % height), (0, -rows.shape[2] % width), (0, 0))
    pooled = _reduce_blocks(rows, padding, block)

    def expand(mask):
        mask = jnp.repeat(jnp.repeat(mask, height, 1), width, 2)
        mask = mask[:, : rows.shape[1], : rows.shape[2], None]
        return jnp.broadcast_to(mask, rows.shape).reshape(shape)

    return pooled, expand


def _reduce_blocks(rows, padding, block):
    height, width = block.block_shape

    def split(value, fill):
        value = jnp.pad(value, padding, constant_values=fill)
        count, high, wide, deep = value.shape
        return value.reshape(count, high // height, height, wide // width, width, deep)

    if not block.use_avg_pooling:
        return jnp.max(split(rows, -jnp.inf), axis=(2, 4, 5))
    total = jnp.sum(split(rows, 0), axis=(2, 4, 5))
    return total / jnp.sum(split(jnp.ones_like(rows), 0), axis=(2, 4, 5))


topk_mask_calculator = get_topk_fn(Unstructured())
