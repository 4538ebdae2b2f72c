"""How sparse each tensor becomes, for a given sparsity of the whole network.

A distribution is a function `params -> tree` of floats, None where a tensor is not pruned. A filter
is a function `(key, param) -> bool` of a leaf's path, as a tuple of names, and of the leaf.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
from jax.core import Tracer

from bap_jax.errors import UserError, first_of
from bap_jax.kernel_uses import KernelAxes
from bap_jax.trees import unboxed
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
    """The path of each leaf, in the order of `jax.tree.leaves`; a lone leaf is `("kernel",)`.

    Boxes around arrays, such as variables of NNX, are no part of a path.
    """
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(unboxed(params))[0]]
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
    kernel_axes: Mapping[str, KernelAxes] | None = None,
    unknown_paths: str = "error",
) -> PyTree:
    """The same sparsity in every tensor.

    Args:
      params: only paths and shapes are read.
      sparsity: in [0, 1).
      filter_fn: which leaves are pruned.
      custom_sparsity_map: sparsity of some leaves, by path (a tuple of names, or names joined by
        `/`); these leaves need not pass the filter.
      kernel_axes: has no effect; every distribution takes it.
      unknown_paths: what a path of the map that no leaf has is: `error`, or `ignore` for a map that
        lists alternatives, of which one at least must exist.

    Raises:
      UserError: a sparsity outside [0, 1), a path that no leaf has, or nothing passes the filter,
        although the sparsity is above 0.

    Example:
      >>> import numpy as np
      >>> params = {"kernel": np.ones((3, 2)), "bias": np.ones(2)}
      >>> uniform(params, 0.9)
      {'bias': None, 'kernel': 0.9}
    """
    del kernel_axes
    check_sparsity(sparsity)
    custom = sparsities_of_map(params, custom_sparsity_map, unknown_paths)
    chosen = _chosen(params, filter_fn, custom, sparsity, unknown_paths)
    return _map(params, lambda key: custom.get(key, sparsity if key in chosen else None))


def erk(
    params: Params,
    sparsity: float,
    filter_fn: FilterFn = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: SparsityMap | None = None,
    *,
    kernel_axes: Mapping[str, KernelAxes] | None = None,
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
      kernel_axes: from `pruning.kernel_axes`; the shape of stacked layers is then that of one.
      unknown_paths: as in `uniform`.

    Raises:
      UserError: a sparsity that is traced or outside [0, 1), a path that no leaf has, or nothing
        to prune.
    """
    check_sparsity(sparsity)
    if isinstance(sparsity, Tracer):
        raise UserError("erk needs its sparsity as a number; got a traced value. Use uniform.")
    custom = sparsities_of_map(params, custom_sparsity_map, unknown_paths)
    chosen = _chosen(params, filter_fn, custom, sparsity, unknown_paths)
    if not (chosen or custom):
        raise UserError("nothing to prune: no leaf passes filter_fn.")
    shapes = {key: leaf.shape for key, leaf in chosen.items() if key not in custom}
    sparsities = {**_erk_sparsities(_layers(shapes, kernel_axes or {}), sparsity), **custom}
    return _map(params, sparsities.get)


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


class _Layers(NamedTuple):
    """`count` layers of one shape."""

    shape: tuple[int, ...]
    count: int = 1


def _layers(shapes, kernel_axes):
    axes = {key: kernel_axes.get(_path(key)) for key in shapes}
    return {
        key: _Layers(axes[key].layer_shape(shape), axes[key].num_layers(shape))
        if axes[key]
        else _Layers(shape)
        for key, shape in shapes.items()
    }


def _erk_sparsities(layers, sparsity):
    dense = set()
    size = {key: math.prod(shape) for key, (shape, _) in layers.items()}
    count = {key: count for key, (_, count) in layers.items()}
    zeros = {key: math.floor(sparsity * size[key]) * count[key] for key in layers}
    while len(dense) < len(layers):
        rest = [key for key in layers if key not in dense]
        weight = {key: sum(layers[key].shape) / size[key] for key in rest}
        ones = sum(size[key] * count[key] - zeros[key] for key in rest)
        ones -= sum(zeros[key] for key in dense)
        scale = ones / sum(weight[key] * size[key] * count[key] for key in rest)
        highest = max(weight.values())
        if highest * scale <= 1:
            sparse = {key: 1 - scale * weight[key] for key in rest}
            return {**sparse, **dict.fromkeys(dense, 0.0)}
        dense |= {key for key in rest if weight[key] == highest}
    return dict.fromkeys(layers, 0.0)


def _chosen(params, filter_fn, custom, sparsity, unknown_paths):
    """The leaves that pass the filter, by key; it has to let one pass.

    The default filter need not for a lone array, since some prune a tree leaf by leaf, nor where
    unknown paths are ignored, as in jaxpruner.
    """
    leaves = dict(zip(leaf_keys(params), jax.tree.leaves(params), strict=True))
    chosen = {key: leaf for key, leaf in leaves.items() if filter_fn(key, leaf)}
    is_asked = isinstance(sparsity, Tracer) or sparsity > 0
    is_alone = jax.tree_util.treedef_is_leaf(jax.tree.structure(params))
    is_lenient = is_alone or unknown_paths == "ignore"
    is_exempt = is_lenient and filter_fn is NOT_DIM_ONE_FILTER_FN
    if is_asked and not is_exempt and leaves and not (chosen or custom):
        shown = [f"{_path(key)} {tuple(leaf.shape)}" for key, leaf in leaves.items()]
        raise UserError(
            "nothing to prune: no leaf passes filter_fn, which gets the path of a leaf as a tuple "
            f"of names; paths and shapes: {first_of(shown, 20)}."
        )
    return chosen


def _map(params, function):
    values = [function(key) for key in leaf_keys(params)]
    return jax.tree.unflatten(jax.tree.structure(params), values)


def sparsities_of_map(
    params: Params, sparsity_map: SparsityMap | None, unknown_paths: str = "error"
) -> dict[Key, float | None]:
    """The entries of a map by the keys of `leaf_keys`; arguments and errors as in `uniform`."""
    paths = {_path(key): key for key in leaf_keys(params)}
    custom: dict[Key, float | None] = {}
    for key, value in (sparsity_map or {}).items():
        path = key if isinstance(key, str) else _path(key)
        path = path if path in paths else path.removesuffix("/value")
        if path not in paths:
            if unknown_paths == "error":
                raise UserError(f"unknown parameter path {key!r}; known paths: {', '.join(paths)}.")
            continue
        if value is not None:
            check_sparsity(value, f"sparsity of {path}")
        custom[paths[path]] = value
    if sparsity_map and not custom:
        raise UserError(
            f"no path of custom_sparsity_map is known: {', '.join(map(str, sparsity_map))}; known "
            f"paths: {', '.join(paths)}."
        )
    return custom


def _path(key):
    return "/".join(map(str, key))


def _name(entry):
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return str(entry)
