"""Which leaves are pruned: presets over the kernels of a network, in the order it uses them."""

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

import jax

from bap_jax.errors import UserError
from bap_jax.pruning.sparsity_distributions import FilterFn
from bap_jax.trees import leaf_paths, leaves_by_path
from bap_jax.types import Params, PyTree


class Kernel(NamedTuple):
    """A parameter that multiplies activations.

    Attributes:
      path: the leaf's path.
      convolution: whether a convolution uses it; otherwise a matrix product does.
    """

    path: str
    convolution: bool


def all_kernels(kernels: Sequence[Kernel]) -> list[str]:
    """Every kernel."""
    return [kernel.path for kernel in kernels]


def all_but_first_and_last(kernels: Sequence[Kernel]) -> list[str]:
    """Every kernel but the first convolution's and the last linear layer's (paper section 5)."""
    dense = [kernel for kernel in kernels if kernel.convolution][:1]
    dense += [kernel for kernel in kernels if not kernel.convolution][-1:]
    return [kernel.path for kernel in kernels if kernel not in dense]


PRESETS = {"all_but_first_and_last": all_but_first_and_last, "kernels": all_kernels}


def prunable_leaves(choice: str, params: Params, kernels: Sequence[Kernel]) -> PyTree:
    """Which leaves may be pruned, by a preset or by their paths.

    Args:
      choice: a key of `PRESETS`, or paths and patterns of paths joined by commas, see
        `select_paths`.
      params: the parameters.
      kernels: leaves that multiply activations, in the order in which the network uses them; a
        preset never chooses those of one dimension.

    Returns:
      A bool for each leaf.

    Raises:
      UserError: a path is unknown, or nothing is left to prune.
    """
    if choice not in PRESETS:
        return select_paths(params, [path.strip() for path in choice.split(",")])
    paths = leaf_paths(params)
    ndim = dict(zip(paths, (leaf.ndim for leaf in jax.tree.leaves(params)), strict=True))
    kernels = [kernel for kernel in kernels if ndim[kernel.path] >= 2]
    selected = PRESETS[choice](kernels)
    if not selected:
        raise UserError(
            f"nothing to prune: {choice!r} selects none of the network's kernels "
            f"({', '.join(all_kernels(kernels)) or 'it has none'}). "
            f"Write another preset ({', '.join(PRESETS)}) or paths joined by commas."
        )
    return select_paths(params, selected)


def path_filter(
    include: str | Sequence[str] = "*",
    exclude: str | Sequence[str] = (),
    *,
    min_ndim: int = 2,
    min_size: int = 1,
) -> FilterFn:
    """A `filter_fn` by path and shape.

    Paths are those of `pruning.leaf_paths`: variables of NNX and other boxes are no part of them.
    A distribution to which a filter leaves nothing raises an error that lists the paths.

    Args:
      include: patterns of paths such as `*/kernel` or `stage_?/*`; at least one must match. `*`
        also stands for `/`; `**/kernel` is `kernel` at any depth, the top included.
      exclude: patterns; none may match.
      min_ndim: smallest number of dimensions.
      min_size: smallest number of weights.

    Example:
      >>> import numpy as np
      >>> is_pruned, leaf = path_filter("*/kernel", exclude="stem/*"), np.ones((2, 2))
      >>> is_pruned(("body", "kernel"), leaf), is_pruned(("stem", "kernel"), leaf)
      (True, False)
    """
    include, exclude = (
        [patterns] if isinstance(patterns, str) else list(patterns)
        for patterns in (include, exclude)
    )

    def filter_fn(key, param):
        path = "/".join(map(str, key))
        if len(param.shape) < min_ndim or param.size < min_size:
            return False
        return _matches(path, include) and not _matches(path, exclude)

    return filter_fn


def _matches(path, patterns):
    return any(fnmatch.fnmatchcase(path, form) for pattern in patterns for form in _forms(pattern))


def _forms(pattern):
    """The pattern, also without `**/`, and without the name of a box as JAX prints it."""
    yield pattern
    if pattern.startswith("**/"):
        yield pattern.removeprefix("**/")
    if pattern.endswith("/value"):
        yield pattern.removesuffix("/value")


def select_paths(params: Params, paths: Sequence[str]) -> PyTree:
    """True for the leaves named by `paths`.

    Args:
      params: the parameters.
      paths: of leaves, or patterns as in `path_filter`, which choose leaves of two or more
        dimensions.

    Raises:
      UserError: one of `paths` is not the path of a leaf and no pattern of one; the message lists
        the known paths.
    """
    leaves = leaves_by_path(params)
    chosen = set().union(*(_chosen_by(path, leaves) for path in paths))
    return jax.tree.unflatten(jax.tree.structure(params), [path in chosen for path in leaves])


def _chosen_by(choice, leaves):
    """The leaves that a path or a pattern names."""
    for path in (choice, choice.removesuffix("/value")):
        if path in leaves:
            return [path]
    found = [path for path in leaves if leaves[path].ndim >= 2 and _matches(path, [choice])]
    if not found:
        raise UserError(
            f"unknown parameter path {choice!r}; known paths: {', '.join(leaves)}; "
            f"known presets: {', '.join(PRESETS)}."
        )
    return found
