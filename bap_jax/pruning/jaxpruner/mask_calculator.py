"""jaxpruner's `mask_calculator`: masks of single tensors, `(scores, sparsity) -> mask`."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from bap_jax.errors import UserError
from bap_jax.pruning import mask_calculator as _engine
from bap_jax.pruning import sparsity_types as _types
from bap_jax.pruning.jaxpruner import sparsity_types as sparsity_types
from bap_jax.pruning.selection import keep_largest
from bap_jax.types import Array

MASK_DTYPE = "uint8"
TopKFnType = Callable[[Array, float], Array]


def get_topk_fn(sparsity_type: Any) -> TopKFnType:
    """`(scores, sparsity) -> mask` of one tensor, of a sparsity type or of the class Unstructured.

    Raises:
      UserError: no sparsity type; numbers that make no sense are an error when the function runs.
    """
    if sparsity_type is _types.Unstructured:
        return topk_mask_calculator
    if not _types.is_sparsity_type(sparsity_type):
        raise UserError(f"Not a supported sparsity type: {sparsity_type!r}.")
    if isinstance(sparsity_type, _types.Unstructured):
        return topk_mask_calculator
    return functools.partial(_mask, sparsity_type=sparsity_type)


def topk_mask_calculator(scores: Array, sparsity: Array | float) -> Array:
    """The mask that keeps the largest scores; sparsity 0 keeps all."""
    return _mask(scores, sparsity, _types.Unstructured())


def topk_n_by_m_mask_calculator(
    scores: Array, sparsity: Any, sparsity_type: _types.NByM | None = None
) -> Array:
    """The mask of an N:M type; sparsity 0 keeps all.

    Earlier versions had no sparsity here: `(scores, sparsity_type)` is understood, too.
    """
    if sparsity_type is None:
        if not isinstance(sparsity, _types.NByM):
            raise UserError("write topk_n_by_m_mask_calculator(scores, sparsity, NByM(n, m)).")
        sparsity, sparsity_type = 1.0, sparsity
    return _mask(scores, sparsity, sparsity_type)


def topk_block_mask_calculator(
    scores: Array,
    sparsity: Array | float,
    block_height: int,
    block_width: int,
    use_avg_pooling: bool,
) -> Array:
    """The mask of blocks of the first two axes."""
    shape = block_height, block_width
    return _mask(scores, sparsity, _types.Block(shape, use_avg_pooling, leading=True))


def topk_channel_mask_calculator(
    scores: Array, sparsity: Array | float, sparsity_type: _types.Channel
) -> Array:
    """The mask of the channels along one axis, by their summed scores."""
    return _mask(scores, sparsity, sparsity_type)


def _topk_mask_calculator_internal(scores, sparsity):
    """The mask that keeps the largest scores, at least one of them, also at sparsity 0."""
    scores = jnp.asarray(scores)
    kept = jnp.round(scores.size * (1 - sparsity)).astype(jnp.int32)
    return keep_largest([scores], [jnp.clip(kept, 1, scores.size)])[0]


def _mask(scores, sparsity, sparsity_type):
    _types.check_type(sparsity_type)
    return _engine.masks_for([jnp.asarray(scores)], [sparsity], sparsity_type, "round")[0]
