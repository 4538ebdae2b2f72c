"""Masks: a tree like the parameters, 0s and 1s where a leaf is pruned, None where it never is."""

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from bap_jax.errors import UserError
from bap_jax.trees import is_box, leaves_in_order_of, paths_of_leaves
from bap_jax.types import Array, Params, PyTree


def is_absent(node) -> bool:
    """None: never pruned. A masked node: belongs to another optimiser of `multi_transform`."""
    return node is None or isinstance(node, optax.MaskedNode)


def map_masks(function, masks: PyTree, *trees: PyTree, otherwise=lambda *leaves: leaves[0]):
    """`function(mask, *leaves)` on pruned leaves and `otherwise(*leaves)` on the others.

    Where the containers differ, as between NNX variables and plain arrays, leaves correspond by
    their paths, and the result has the containers of the first of `trees`.
    """

    def on_leaf(mask, *leaves):
        return otherwise(*leaves) if is_absent(mask) else function(mask, *leaves)

    if not trees or all(_fits(masks, tree) for tree in trees):
        return jax.tree.map(on_leaf, masks, *trees, is_leaf=is_absent)
    structure = jax.tree.structure(trees[0])
    columns = [leaves_in_order_of(trees[0], tree, is_absent) for tree in (masks, *trees)]
    return jax.tree.unflatten(structure, [on_leaf(*row) for row in zip(*columns, strict=True)])


def map_pruned(function, targets: PyTree, *trees: PyTree) -> PyTree:
    """`function(targets, leaves, …)` of lists of all pruned leaves, as a tree.

    Args:
      function: takes a list of the targets and, for each of `trees`, a list of the leaves in the
        same places; returns a list of as many results.
      targets: None where a leaf is not pruned; the result has None there, too.
      *trees: of the structure of `targets`, or of other containers with the same paths.
    """
    flat, structure = jax.tree.flatten(targets, is_leaf=is_absent)
    pruned = [i for i, target in enumerate(flat) if not is_absent(target)]

    def leaves_of(tree):
        if _fits(targets, tree):
            return structure.flatten_up_to(tree)
        return leaves_in_order_of(targets, tree, is_absent)

    columns = [[column[i] for i in pruned] for column in map(leaves_of, trees)]
    for i, result in zip(pruned, function([flat[i] for i in pruned], *columns), strict=True):
        flat[i] = result
    return jax.tree.unflatten(structure, flat)


def _fits(prefix, tree):
    """Whether `tree` has the containers of `prefix`, boxes around arrays included."""
    leaves, structure = jax.tree.flatten(prefix, is_leaf=is_absent)
    try:
        found = structure.flatten_up_to(tree)
    except ValueError:
        return False
    pairs = zip(leaves, found, strict=True)
    return not any(is_box(node) and not is_absent(leaf) for leaf, node in pairs)


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

    Of `optax.LookaheadParams`, fast and slow weights alike.

    Raises:
      UserError: a mask has another shape than its leaf.

    Example:
      >>> params = {"kernel": jnp.array([3.0, jnp.nan]), "bias": jnp.array([1.0])}
      >>> apply_masks(params, {"kernel": jnp.array([1, 0]), "bias": None})["kernel"].tolist()
      [3.0, 0.0]
    """
    if isinstance(params, optax.LookaheadParams):
        return optax.LookaheadParams(*(apply_masks(one, masks, is_packed) for one in params))
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

    def check(_, leaves, paths):
        for leaf, path in zip(leaves, paths, strict=True):
            if not isinstance(leaf, Tracer) and _holds_nan(leaf):
                raise UserError(
                    f"the scores of {path or 'the array'} hold NaN, so its weights cannot be "
                    "ranked; look for NaN among its weights or gradients before pruning."
                )
        return leaves

    map_pruned(check, targets, scores, paths_of_leaves(scores))


def _holds_nan(leaf):
    # Within a traced function, values computed from constants are traced as well.
    with jax.ensure_compile_time_eval():
        return bool(jnp.isnan(leaf).any())
