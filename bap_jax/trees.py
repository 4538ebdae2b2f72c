"""Paths of a tree's leaves, as `outer/inner/kernel`, whatever the tree is made of.

Flax puts arrays into boxes that hold one value each: `nnx.Param` and other variables,
`nn.Partitioned` and other metadata of Linen. A box is no part of a path, so filters and maps read
the same paths for boxed and for plain parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bap_jax.errors import UserError
from bap_jax.types import Array, PyTree

_NEVER_BOXES = (dict, list, tuple, str, int, float, complex, type(None), np.generic, np.ndarray)


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a path from `jax.tree_util`, `outer/inner/kernel`; empty for a lone leaf."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def array_on_device(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """Shape and type of an array in a program; what has 64 bits on the host has 32 there."""
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def is_box(node: Any) -> bool:
    """Whether a node of a tree holds nothing but one attribute called `value`."""
    if isinstance(node, (*_NEVER_BOXES, jax.Array)):
        return False
    return [path_name(path) for path, _ in _children(node)] == ["value"]


def unboxed(tree: PyTree) -> PyTree:
    """The tree with what each box holds in place of the box; leaves and their order stay."""

    def content(node):
        return unboxed(_children(node)[0][1]) if is_box(node) else node

    return jax.tree.map(content, tree, is_leaf=is_box)


def leaf_paths(tree: PyTree) -> list[str]:
    """One path for each leaf, in the order of `jax.tree.leaves`.

    Example:
      >>> leaf_paths({"dense": {"kernel": 1.0, "bias": 0.0}})
      ['dense/bias', 'dense/kernel']
    """
    return [path_name(path) for path, _ in _flatten(unboxed(tree))]


def leaves_by_path(
    tree: PyTree,
    *,
    is_leaf: Callable[[Any], bool] | None = None,
    with_boxes: bool = False,
) -> dict[str, Array]:
    """The leaves by their paths, in the order of `jax.tree.leaves`.

    Args:
      tree: any tree.
      is_leaf: which other nodes count as leaves.
      with_boxes: whether boxes are a part of the paths, `kernel/value`.
    """
    tree = tree if with_boxes else unboxed(tree)
    return {path_name(path): leaf for path, leaf in _flatten(tree, is_leaf)}


def paths_of_leaves(tree: PyTree) -> PyTree:
    """A tree like `tree` with each leaf's path in its place."""
    return jax.tree.unflatten(jax.tree.structure(tree), leaf_paths(tree))


def in_containers_of(like: PyTree, tree: PyTree) -> PyTree:
    """The leaves of `tree`, by path, in the containers of `like`; as it is where these are equal.

    Raises:
      UserError: one of the trees has a leaf that the other one lacks.
    """
    structure = jax.tree.structure(like)
    if jax.tree.structure(tree) == structure:
        return tree
    return jax.tree.unflatten(structure, leaves_in_order_of(like, tree))


def leaves_in_order_of(
    like: PyTree, tree: PyTree, is_leaf: Callable[[Any], bool] | None = None
) -> list[Any]:
    """The leaves of `tree`, by path, in the order of those of `like`; errors as above."""
    found = leaves_by_path(tree, is_leaf=is_leaf)
    wanted = leaves_by_path(like, is_leaf=is_leaf)
    if found.keys() != wanted.keys():
        odd = sorted(found.keys() ^ wanted.keys())
        raise UserError(
            "masks, targets, scores and gradients must be trees like the parameters; these paths "
            f"are in one of two trees only: {', '.join(odd)}."
        )
    return [found[path] for path in wanted]


def _flatten(tree, is_leaf=None):
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf)[0]


def _children(node):
    """Keys and values one level below a node."""
    return _flatten(node, lambda inner: inner is not node)
