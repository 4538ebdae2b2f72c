"""Masks: a tree like the parameters, 0s and 1s where a leaf is pruned, None where it never is."""

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from bap_jax.errors import UserError
from bap_jax.trees import path_name
from bap_jax.types import Array, Params, PyTree


def is_absent(node) -> bool:
    """None: never pruned. A masked node: belongs to another optimiser of `multi_transform`."""
    return node is None or isinstance(node, optax.MaskedNode)


def map_masks(function, masks: PyTree, *trees: PyTree, otherwise=lambda *leaves: leaves[0]):
    """`function(mask, *leaves)` on pruned leaves and `otherwise(*leaves)` on the others."""

    def on_leaf(mask, *leaves):
        return otherwise(*leaves) if is_absent(mask) else function(mask, *leaves)

    return jax.tree.map(on_leaf, masks, *trees, is_leaf=is_absent)


def map_pruned(function, targets: PyTree, *trees: PyTree) -> PyTree:
    """`function(targets, leaves, …)` of lists of all pruned leaves, as a tree.

    Args:
      function: takes a list of the targets and, for each of `trees`, a list of the leaves in the
        same places; returns a list of as many results.
      targets: None where a leaf is not pruned; the result has None there, too.
      *trees: of the structure of `targets`.
    """
    flat, structure = jax.tree.flatten(targets, is_leaf=is_absent)
    pruned = [i for i, target in enumerate(flat) if not is_absent(target)]
    columns = [[column[i] for i in pruned] for column in map(structure.flatten_up_to, trees)]
    for i, result in zip(pruned, function([flat[i] for i in pruned], *columns), strict=True):
        flat[i] = result
    return jax.tree.unflatten(structure, flat)


def apply_mask(param: Array, mask: Array | None, is_packed: bool = False) -> Array:
    """One tensor whose pruned weights are exactly 0, also where they were not finite.

    Raises:
      UserError: the mask has another shape than the tensor.
    """
    if mask is None or is_absent(mask):
        return param
    mask = unpack_mask(mask, param) if is_packed else mask
    if mask.shape != param.shape:
        raise UserError(
            f"a mask of shape {mask.shape} does not fit weights of shape {param.shape}; "
            "if masks are packed, write is_packed=True."
        )
    return jnp.where(mask, param, 0).astype(param.dtype)


def apply_masks(params: Params, masks: PyTree, is_packed: bool = False) -> Params:
    """θ ⊙ m: pruned weights become exactly 0, also where they were not finite.

    Raises:
      UserError: a mask has another shape than its leaf.

    Example:
      >>> params = {"kernel": jnp.array([3.0, jnp.nan]), "bias": jnp.array([1.0])}
      >>> apply_masks(params, {"kernel": jnp.array([1, 0]), "bias": None})["kernel"].tolist()
      [3.0, 0.0]
    """
    return map_masks(lambda mask, leaf: apply_mask(leaf, mask, is_packed), masks, params)


def pack_masks(masks: PyTree) -> PyTree:
    """Packs eight entries into a byte: each mask becomes a flat uint8 array."""
    return jax.tree.map(jnp.packbits, masks)


def unpack_mask(mask: Array, param: Array) -> Array:
    """The mask, of `param`'s shape, that was packed."""
    return jnp.unpackbits(mask, count=param.size).reshape(param.shape)


def unpack_masks(masks: PyTree, params: Params) -> PyTree:
    """The inverse of `pack_masks`; shapes are those of `params`."""
    return map_masks(unpack_mask, masks, params, otherwise=lambda leaf: None)


def check_not_nan(scores: PyTree, targets: PyTree) -> None:
    """Looks for NaN among the scores of pruned leaves; traced scores pass, and NaN ranks highest.

    Raises:
      UserError: a score is NaN; the message names the leaf.
    """
    paths = jax.tree.map_with_path(lambda path, _: path, scores)

    def check(_, leaves, where):
        for leaf, path in zip(leaves, where, strict=True):
            if not isinstance(leaf, Tracer) and _holds_nan(leaf):
                name = path_name(path)
                raise UserError(
                    f"the scores of {name or 'the array'} hold NaN, so its weights cannot be "
                    "ranked; look for NaN among its weights or gradients before pruning."
                )
        return leaves

    map_pruned(check, targets, scores, paths)


def _holds_nan(leaf):
    # Within a traced function, values computed from constants are traced as well.
    with jax.ensure_compile_time_eval():
        return bool(jnp.isnan(leaf).any())
