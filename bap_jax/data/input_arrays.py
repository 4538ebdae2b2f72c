"""Inputs of several arrays: any pytree, such as `{"tokens": …, "mask": …}`, of one kind of leaf.

Mappings, tuples, NamedTuples and classes that JAX knows as pytrees are structure. A list is an
array, and so is a tuple that holds numbers alone.
"""

import numbers
from collections.abc import Iterator, KeysView, Mapping, ValuesView
from typing import Any

import jax
import numpy as np

from bap_jax.errors import UserError, first_of
from bap_jax.trees import array_on_device
from bap_jax.types import PyTree

MOST_LEAVES = 8  # that an error lists


def as_arrays(tree: Any, keep: type | tuple[type, ...] = ()) -> PyTree:
    """The same structure with NumPy arrays for leaves.

    Args:
      tree: an array, or arrays in a pytree; other mappings, such as those of a tokenizer, become
        dicts.
      keep: leaves of these types stay as they are.

    Raises:
      UserError: a leaf cannot be an array; the message names it.

    Example:
      >>> as_arrays({"tokens": [[1, 2], [3, 4]], "pair": (1.0, 2.0)})["tokens"].shape
      (2, 2)
    """
    if _is_plain(tree):
        return np.asarray(tree)
    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_array_like)
    if all(map(_is_plain, leaves)):  # five times as fast: this runs for every sample of a stream
        return jax.tree.unflatten(structure, list(map(np.asarray, leaves)))

    def leaf_as_array(path, leaf):
        if isinstance(leaf, keep):
            return leaf
        if isinstance(leaf, Mapping):
            return as_arrays(dict(leaf), keep)
        _check_exact(path, leaf)
        try:
            return np.asarray(leaf)
        except (TypeError, ValueError, RuntimeError) as error:
            text = str(error).rstrip(".")
            raise UserError(
                f"{leaf_name(path)} cannot be made an array: {text}. Give numbers, every sample of "
                "one shape, for instance by padding."
            ) from error

    return jax.tree_util.tree_map_with_path(leaf_as_array, tree, is_leaf=_is_array_like)


def _is_plain(leaf):
    return isinstance(leaf, (np.ndarray, np.generic)) and not isinstance(leaf, np.ma.MaskedArray)


def _check_exact(path, leaf):
    """Finds arrays from which NumPy would make something else."""
    if isinstance(leaf, np.ma.MaskedArray) and np.ma.is_masked(leaf):
        raise UserError(
            f"{leaf_name(path)} hold {int(leaf.mask.sum())} masked values; leave these samples "
            "out, or fill the values, for instance by .filled(0)."
        )
    if hasattr(leaf, "nnz") and hasattr(leaf, "toarray"):
        raise UserError(f"{leaf_name(path)} are a sparse matrix; write .toarray().")


def _is_array_like(node):
    # JAX warns of iterators; the check of the types refuses them.
    return isinstance(node, (list, Iterator, KeysView, ValuesView)) or (
        isinstance(node, tuple) and not hasattr(node, "_fields") and _holds_numbers_alone(node)
    )


def _holds_numbers_alone(node):
    if isinstance(node, (list, tuple)):
        return bool(node) and all(map(_holds_numbers_alone, node))
    return isinstance(node, (numbers.Number, np.generic))


def leaf_name(path: tuple[Any, ...]) -> str:
    """How a user writes a leaf, `inputs['tokens']`, from a path of `jax.tree_util`."""
    return "inputs" + jax.tree_util.keystr(path)


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """Each leaf with its name, in the order of `jax.tree.leaves`.

    Example:
      >>> named_leaves({"tokens": 1, "pair": (2, 3)})
      [("inputs['pair'][0]", 2), ("inputs['pair'][1]", 3), ("inputs['tokens']", 1)]
    """
    return [(leaf_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def of_one_sample(tree: PyTree) -> PyTree:
    """Shapes and types of one sample, from arrays `(sample, ...)`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)


def batch_of(sample: PyTree, size: int) -> PyTree:
    """Shapes and types of a batch `(size, ...)` in a program, from those of one sample."""
    return jax.tree.map(lambda leaf: array_on_device((size, *leaf.shape), leaf.dtype), sample)


def describe(tree: PyTree) -> str:
    """Shapes and types, for errors.

    Example:
      >>> describe(np.zeros((2, 3)))
      'shape (2, 3) and type float64'
      >>> describe({"tokens": np.zeros((2, 3), np.int32), "length": np.zeros(2)})
      "inputs['length'] (2,) float64, inputs['tokens'] (2, 3) int32"
    """
    if jax.tree.structure(tree) == jax.tree.structure(0):
        return f"shape {tree.shape} and type {tree.dtype}"
    leaves = [f"{name} {tuple(leaf.shape)} {leaf.dtype}" for name, leaf in named_leaves(tree)]
    return first_of(leaves, MOST_LEAVES) if leaves else "no array"


def is_alike(one: PyTree, other: PyTree) -> bool:
    """Whether two pytrees have the same structure, shapes and types."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    pairs = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
