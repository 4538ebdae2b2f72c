"""Masks: a tree like the parameters, bool where a leaf is pruned and None where it never is."""

import jax
import jax.numpy as jnp

from bap_jax.types import Array, Params, PyTree


def _is_none(leaf) -> bool:
    return leaf is None


def map_masks(function, masks: PyTree, *trees: PyTree, otherwise=lambda *leaves: leaves[0]):
    """`function(mask, *leaves)` on pruned leaves and `otherwise(*leaves)` on the others."""

    def on_leaf(mask, *leaves):
        return otherwise(*leaves) if mask is None else function(mask, *leaves)

    return jax.tree.map(on_leaf, masks, *trees, is_leaf=_is_none)


def apply_masks(params: Params, masks: PyTree) -> Params:
    """θ ⊙ m: pruned weights become exactly 0, also where they were not finite."""
    return map_masks(lambda mask, leaf: jnp.where(mask, leaf, 0).astype(leaf.dtype), masks, params)


def dense_masks(params: Params, prunable: PyTree) -> PyTree:
    """All weights kept.

    Args:
      params: the parameters.
      prunable: a bool for each leaf of `params`.
    """
    return jax.tree.map(
        lambda leaf, chosen: jnp.ones(jnp.shape(leaf), bool) if chosen else None, params, prunable
    )


def magnitude_mask(weight: Array, mask: Array, pruned: Array | int) -> Array:
    """Removes the `pruned` smallest weights; what is already pruned counts, and stays, removed.

    The threshold is found by bisection on the bits of |w|, which order as the numbers do: 32
    passes of counting in place of a sort, and exact. Of equal weights those of lower row-major
    index are kept.

    Args:
      weight: any shape, any float type; compared in float32.
      mask: same shape, bool, the present mask.
      pruned: how many weights the new mask removes in all; may be traced.

    Returns:
      Bool, shape of `weight`, with exactly `pruned` False entries, or more where `mask` has more.
    """
    magnitude = jax.lax.bitcast_convert_type(jnp.abs(weight).astype(jnp.float32), jnp.int32)
    rank = jnp.where(mask, magnitude, -1)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum(rank <= middle, dtype=jnp.int32) >= pruned
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    # The smallest threshold with at least `pruned` weights at or below it; −1 needs 32 bits.
    bounds = (jnp.int32(-1), jnp.int32(2**31 - 2))
    threshold, _ = jax.lax.fori_loop(0, 32, halve, bounds)
    tied = rank == threshold
    kept_ties = jnp.sum(rank <= threshold, dtype=jnp.int32) - pruned
    order = jnp.cumsum(tied.ravel(), dtype=jnp.int32).reshape(tied.shape)
    return ((rank > threshold) | (tied & (order <= kept_ties))) & mask
