"""How sparse each tensor becomes, for a given sparsity of the whole network.

A distribution is a function `params -> tree` of floats, None where a tensor is not pruned. A filter
is a function `(key, param) -> bool` of a leaf's path, as a tuple of names, and of the leaf.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from jax.core import Tracer

from bap_jax.errors import UserError
from bap_jax.types import Array, Params, PyTree

Key = tuple[Any, ...]
FilterFn = Callable[[Key, Array], bool]
SparsityMap = Mapping[Key | str, float]


class Distribution(Protocol):
    """How sparse each tensor becomes, once everything but the parameters is given."""

    def __call__(self, params: Params, /) -> PyTree:
        """A sparsity in [0, 1) for each leaf, None where it is not pruned; reads shapes only."""
        ...


def KERNEL_FILTER_FN(key: Key, param: Array) -> bool:
    """Leaves called `kernel`."""
    return key[-1] == "kernel"


def NOT_DIM_ONE_FILTER_FN(key: Key, param: Array) -> bool:
    """Leaves of two and more dimensions."""
    return len(param.shape) > 1


def leaf_keys(params: PyTree) -> list[Key]:
    """The path of each leaf, in the order of `jax.tree.leaves`; a lone leaf is `("kernel",)`."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    return [tuple(map(_name, path)) or ("kernel",) for path in paths]


def filter_from_tree(prunable: PyTree) -> FilterFn:
    """A filter that looks a leaf up, by path, in a tree of bools."""
    flags = dict(zip(leaf_keys(prunable), jax.tree.leaves(prunable), strict=True))
    return lambda key, param: flags[key]


def uniform(
    params: Params,
    sparsity: Array | float,
    filter_fn: FilterFn = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: SparsityMap | None = None,
    *,
    unknown_paths: str = "error",
) -> PyTree:
    """The same sparsity in every tensor.

    Args:
      params: only paths and shapes are read.
      sparsity: in [0, 1).
      filter_fn: which leaves are pruned.
      custom_sparsity_map: sparsity of some leaves, by path (a tuple of names, or names joined by
        `/`); these leaves need not pass the filter.
      unknown_paths: what a path of the map that no leaf has is: `error`, or `ignore` for a map that
        lists alternatives, of which one at least must exist.

    Raises:
      UserError: a sparsity outside [0, 1), or a path that no leaf has.

    Example:
      >>> import numpy as np
      >>> params = {"kernel": np.ones((3, 2)), "bias": np.ones(2)}
      >>> uniform(params, 0.9)
      {'bias': None, 'kernel': 0.9}
    """
    custom = _by_key(params, custom_sparsity_map, unknown_paths)
    check_sparsity(sparsity)
    return _map(
        params, lambda key, leaf: custom.get(key, sparsity if filter_fn(key, leaf) else None)
    )


def erk(
    params: Params,
    sparsity: float,
    filter_fn: FilterFn = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: SparsityMap | None = None,
    *,
    unknown_paths: str = "error",
) -> PyTree:
    """Erdős–Rényi-kernel: density of a tensor ∝ Σ shape / Π shape (arXiv 1911.11134, section 3).

    Small tensors stay denser. A tensor whose density would exceed 1 stays dense, and the others
    become sparser, so that all together have the given sparsity.

    Args:
      params: only paths and shapes are read; a tree, not a lone array.
      sparsity: in [0, 1), of the leaves that pass the filter and are not in the map.
      filter_fn: which leaves are pruned.
      custom_sparsity_map: as in `uniform`.

    Raises:
      UserError: a sparsity that is traced or outside [0, 1), a path that no leaf has, or nothing
        to prune.
    """
    check_sparsity(sparsity)
    if isinstance(sparsity, Tracer):
        raise UserError("erk needs its sparsity as a number; got a traced value. Use uniform.")
    custom = _by_key(params, custom_sparsity_map, unknown_paths)
    shapes = {
        key: leaf.shape
        for key, leaf in zip(leaf_keys(params), jax.tree.leaves(params), strict=True)
        if filter_fn(key, leaf) and key not in custom
    }
    if not shapes and not custom:
        raise UserError("nothing to prune: no leaf passes filter_fn.")
    sparsities = {**_erk_sparsities(shapes, sparsity), **custom}
    return _map(params, lambda key, leaf: sparsities.get(key))


def check_sparsity(sparsity: Array | float, name: str = "sparsity") -> None:
    """Checks that a number is a fraction of weights to remove; traced numbers pass.

    Raises:
      UserError: outside [0, 1).
    """
    if not isinstance(sparsity, Tracer) and not 0 <= sparsity < 1:
        raise UserError(
            f"{name} must lie in [0, 1), the fraction of weights removed; "
            f"got {sparsity}. For 95 % write 0.95."
        )


def _erk_sparsities(shapes, sparsity):
    dense = set()
    zeros = {key: math.floor(sparsity * math.prod(shape)) for key, shape in shapes.items()}
    while len(dense) < len(shapes):
        rest = [key for key in shapes if key not in dense]
        weight = {key: sum(shapes[key]) / math.prod(shapes[key]) for key in rest}
        ones = sum(math.prod(shapes[key]) - zeros[key] for key in rest)
        ones -= sum(zeros[key] for key in dense)
        scale = ones / sum(weight[key] * math.prod(shapes[key]) for key in rest)
        highest = max(weight.values())
        if highest * scale <= 1:
            sparse = {key: 1 - scale * weight[key] for key in rest}
            return {**sparse, **dict.fromkeys(dense, 0.0)}
        dense |= {key for key in rest if weight[key] == highest}
    return dict.fromkeys(shapes, 0.0)


def _map(params, function):
    leaves, structure = jax.tree.flatten(params)
    values = [function(key, leaf) for key, leaf in zip(leaf_keys(params), leaves, strict=True)]
    return jax.tree.unflatten(structure, values)


def _by_key(params, sparsity_map, unknown_paths):
    """The map with its keys as tuples."""
    keys = leaf_keys(params)
    paths = {"/".join(map(str, key)): key for key in keys}
    custom = {}
    for key, value in (sparsity_map or {}).items():
        key = paths.get(key, key) if isinstance(key, str) else tuple(key)
        if key not in keys and unknown_paths == "ignore":
            continue
        if key not in keys:
            raise UserError(f"unknown parameter path {key!r}; known paths: {', '.join(paths)}.")
        if value is not None:
            check_sparsity(value, f"sparsity of {'/'.join(map(str, key))}")
        custom[key] = value
    if sparsity_map and not custom:
        raise UserError(
            f"no path of custom_sparsity_map is known: {', '.join(map(str, sparsity_map))}; "
            f"known paths: {', '.join(paths)}."
        )
    return custom


def _name(entry):
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return str(entry)
