"""Sparsity as the masks have it, not as zeros that happen to be there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.pruning.filters import leaf_paths
from bap_jax.pruning.masks import map_masks
from bap_jax.types import Array, Params, PyTree, UserError


class Sparsity(NamedTuple):
    """How much of a network is gone.

    Attributes:
      prunable: fraction of weights removed, over the leaves that may be pruned.
      total: the same over all parameters.
    """

    prunable: float
    total: float


def sparsity(params: Params, masks: PyTree) -> Sparsity:
    """Fractions of weights that `masks` remove.

    Raises:
      UserError: a mask is packed.
    """
    map_masks(_check_shape, masks, params, otherwise=lambda leaf: None)
    masks = jax.tree.leaves(masks)
    removed = sum(int(np.size(m)) - int(np.count_nonzero(m)) for m in masks)
    prunable = sum(int(np.size(m)) for m in masks)
    total = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
    return Sparsity(removed / max(prunable, 1), removed / max(total, 1))


def _check_shape(mask, leaf):
    if np.shape(mask) != np.shape(leaf):
        raise UserError(
            "packed masks cannot be counted; take updater.unpacked_masks(state, params)."
        )


def leaf_sparsity(masks: PyTree) -> dict[str, float]:
    """Fraction removed of each leaf that has a mask, by path."""
    found = zip(leaf_paths(masks), jax.tree.leaves(masks), strict=True)
    return {path: 1 - np.count_nonzero(mask) / max(np.size(mask), 1) for path, mask in found}


def summarize_sparsity(param_tree: PyTree, only_total_sparsity: bool = False) -> dict[str, Array]:
    """jaxpruner's summary: shares of zeros, of whatever tree it is given.

    Of parameters it counts the zeros of biases too, and zeros that no mask made; of masks it tells
    what the masks remove from the leaves that have one.

    Args:
      param_tree: parameters or masks (not packed).
      only_total_sparsity: whether to leave out the single leaves.

    Returns:
      `_total_sparsity`, `_nparams_nnz`, `_nparams` and, by path, the share of each leaf.
    """
    leaves = jax.tree.leaves(param_tree)
    left = [jnp.count_nonzero(leaf) for leaf in leaves]
    summary: dict[str, Any] = {}
    if not only_total_sparsity:
        for path, count, leaf in zip(leaf_paths(param_tree), left, leaves, strict=True):
            summary[path] = 1 - jnp.float32(count) / jnp.float32(max(jnp.size(leaf), 1))
    nonzero = sum((jnp.float32(count) for count in left), jnp.float32(0))
    size = jnp.float32(sum(jnp.size(leaf) for leaf in leaves))
    summary["_total_sparsity"] = 1 - nonzero / jnp.maximum(size, 1)
    return {**summary, "_nparams_nnz": nonzero, "_nparams": size}


def summarize_intersection(
    mask_tree1: PyTree, mask_tree2: PyTree, only_total_intersection: bool = False
) -> dict[str, Array]:
    """Which share of the weights that the first masks keep the second ones keep as well.

    Args:
      mask_tree1, mask_tree2: masks of one structure.
      only_total_intersection: whether to leave out the single leaves.

    Returns:
      `_total_intersection` and, by path, the share of each leaf.
    """
    pairs = zip(jax.tree.leaves(mask_tree1), jax.tree.leaves(mask_tree2), strict=True)
    counts = [
        (jnp.sum((one == 1) & (other == 1)), jnp.maximum(jnp.sum(one == 1), 1))
        for one, other in pairs
    ]
    summary = {}
    if not only_total_intersection:
        for path, (both, first) in zip(leaf_paths(mask_tree1), counts, strict=True):
            summary[path] = both / first
    both, first = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 1)
    return {**summary, "_total_intersection": jnp.asarray(both / first)}
