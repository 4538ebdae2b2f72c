"""Masks: a tree like the parameters, 0s and 1s where a leaf is pruned, None where it never is."""

import jax
import jax.numpy as jnp
import optax

from bap_jax.pruning.selection import keep_largest
from bap_jax.types import Array, Params, PyTree, UserError


def _is_absent(node) -> bool:
    """None: never pruned. A masked node: another optimiser's (`optax.multi_transform`)."""
    return node is None or isinstance(node, optax.MaskedNode)


def map_masks(function, masks: PyTree, *trees: PyTree, otherwise=lambda *leaves: leaves[0]):
    """`function(mask, *leaves)` on pruned leaves and `otherwise(*leaves)` on the others."""

    def on_leaf(mask, *leaves):
        return otherwise(*leaves) if _is_absent(mask) else function(mask, *leaves)

    return jax.tree.map(on_leaf, masks, *trees, is_leaf=_is_absent)


def map_pruned(function, targets: PyTree, *trees: PyTree) -> PyTree:
    """`function(targets, leaves, …)` of lists of all pruned leaves, as a tree.

    Args:
      function: takes a list of the targets and, for each of `trees`, a list of the leaves that
        stand where these are; returns a list of as many results.
      targets: None (and so in the result) where a leaf is not pruned.
      *trees: of the structure of `targets`.
    """
    flat, structure = jax.tree.flatten(targets, is_leaf=_is_absent)
    chosen = [i for i, target in enumerate(flat) if not _is_absent(target)]
    columns = [[column[i] for i in chosen] for column in map(structure.flatten_up_to, trees)]
    for i, result in zip(chosen, function([flat[i] for i in chosen], *columns), strict=True):
        flat[i] = result
    return jax.tree.unflatten(structure, flat)


def apply_mask(param: Array, mask: Array | None, is_packed: bool = False) -> Array:
    """One tensor with its pruned weights at exactly 0, also where they were not finite."""
    if _is_absent(mask):
        return param
    mask = unpack_mask(mask, param) if is_packed else mask
    if mask.shape != param.shape:
        raise UserError(
            f"a mask of shape {mask.shape} does not fit weights of shape {param.shape}; "
            "of packed masks say so: is_packed=True."
        )
    return jnp.where(mask, param, 0).astype(param.dtype)


def apply_masks(params: Params, masks: PyTree, is_packed: bool = False) -> Params:
    """θ ⊙ m: pruned weights become exactly 0, also where they were not finite."""
    return map_masks(lambda mask, leaf: apply_mask(leaf, mask, is_packed), masks, params)


def pack_masks(masks: PyTree) -> PyTree:
    """Eight entries in a byte: a flat uint8 array in place of each mask."""
    return jax.tree.map(jnp.packbits, masks)


def unpack_mask(mask: Array, param: Array) -> Array:
    """The mask of `param`'s shape that was packed."""
    return jnp.unpackbits(mask, count=param.size).reshape(param.shape)


def unpack_masks(masks: PyTree, params: Params) -> PyTree:
    """The inverse of `pack_masks`; `params` tells the shapes."""
    return map_masks(unpack_mask, masks, params, otherwise=lambda leaf: None)


def check_not_nan(scores: PyTree, targets: PyTree) -> None:
    """Finds NaN among the scores of pruned leaves; what is traced passes, and ranks highest there.

    Raises:
      UserError: there is one; the message names the leaf.
    """
    paths = jax.tree.map_with_path(lambda path, _: path, scores)

    def check(_, leaves, where):
        for leaf, path in zip(leaves, where, strict=True):
            if not isinstance(leaf, jax.core.Tracer) and _holds_nan(leaf):
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                raise UserError(
                    f"the scores of {name or 'the array'} hold NaN, so its weights cannot be "
                    "ranked; look for NaN among its weights or gradients before pruning."
                )
        return leaves

    map_pruned(check, targets, scores, paths)


def _holds_nan(leaf):
    # Within a traced function what is computed of constants is traced as well.
    with jax.ensure_compile_time_eval():
        return bool(jnp.isnan(leaf).any())


def magnitude_mask(weight: Array, mask: Array, pruned: Array | int) -> Array:
    """Removes the `pruned` smallest weights; what is already pruned counts, and stays, removed.

    Of equal weights those of lower row-major index are kept.

    Args:
      weight: any shape, any float type.
      mask: same shape, the present mask.
      pruned: how many weights the new mask removes in all; may be traced.

    Returns:
      Bool, shape of `weight`, with exactly `pruned` False entries, or more where `mask` has more.
    """
    score = jnp.where(mask, jnp.abs(weight), -jnp.inf)
    return keep_largest([score], [weight.size - pruned])[0].astype(bool) & (mask != 0)
