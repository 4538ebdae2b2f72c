"""Paths of a tree's leaves, as `outer/inner/kernel`."""

from typing import Any

import jax

from bap_jax.types import Array, PyTree


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a path from `jax.tree_util`, `outer/inner/kernel`; empty for a lone leaf."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_paths(tree: PyTree) -> list[str]:
    """One path for each leaf, in the order of `jax.tree.leaves`.

    Example:
      >>> leaf_paths({"dense": {"kernel": 1.0, "bias": 0.0}})
      ['dense/bias', 'dense/kernel']
    """
    return [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def leaves_by_path(tree: PyTree) -> dict[str, Array]:
    """The leaves by their paths, in the order of `jax.tree.leaves`."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
