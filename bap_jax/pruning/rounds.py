"""What pruning in rounds needs: leaves, counts and checks.

After round r of R a density of (1 − s)^(r/R) is left, so each round removes the same share of what
the previous one kept (Tanaka et al. 2020, arXiv 2006.05467, algorithm 1).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.sparsity_distributions import check_sparsity
from bap_jax.trees import leaf_paths
from bap_jax.types import Array, Params, PyTree


def to_list(batches: Iterable[Any]) -> list[Any]:
    """The batches in a list, which can be read more than once.

    Raises:
      UserError: there is no batch.
    """
    batches = list(batches)
    if not batches:
        raise UserError(
            "at least one batch is needed to score weights; got none. An iterator that was read "
            "before is empty: pass a list."
        )
    return batches


def prunable_only(params: Params, prunable: PyTree) -> list[Array]:
    """The prunable leaves, in the order of `jax.tree.leaves`.

    Raises:
      UserError: no leaf is prunable.
    """
    leaves = [leaf for leaf, flag in _zip_leaves(params, prunable) if flag]
    if not leaves:
        raise UserError("no parameter is prunable; give `prunable` a True leaf.")
    return leaves


def merge(params: Params, prunable: PyTree, leaves: Sequence[Array]) -> PyTree:
    """`params` with its prunable leaves replaced by `leaves`."""
    new = iter(leaves)
    merged = [next(new) if flag else leaf for leaf, flag in _zip_leaves(params, prunable)]
    return jax.tree.unflatten(jax.tree.structure(params), merged)


def merge_masks(params: Params, prunable: PyTree, masks: Sequence[Array]) -> PyTree:
    """A tree like `params`: the masks of its prunable leaves, None for the others."""
    new = iter(masks)
    leaves = [next(new) if flag else None for flag in jax.tree.leaves(prunable)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def leaf_sparsities(sparsity: float | PyTree, params: Params, prunable: PyTree) -> list[float]:
    """One sparsity for each prunable leaf.

    Args:
      sparsity: one for all, or a tree like `params` of numbers and None, which means 0.
      params: the parameters.
      prunable: a bool for each leaf.

    Raises:
      UserError: a tree of another structure, a sparsity outside [0, 1), or one for a leaf that is
        not prunable.
    """
    flags = jax.tree.leaves(prunable)
    if is_number(sparsity):
        return [_checked(sparsity, "sparsity")] * sum(map(bool, flags))
    paths, values = leaf_paths(params), _flatten_like(params, sparsity)
    for path, value, flag in zip(paths, values, flags, strict=True):
        if value is not None and not flag:
            raise UserError(
                f"{path!r} has a sparsity, {value}, but is not prunable; write None for it, or "
                "True in `prunable`."
            )
    named = [(v, p) for v, p, flag in zip(values, paths, flags, strict=True) if flag]
    return [0.0 if v is None else _checked(v, f"sparsity of {p!r}") for v, p in named]


def is_number(sparsity: float | PyTree) -> bool:
    """Whether `sparsity` is one number, not a tree of them."""
    return sparsity is not None and jax.tree_util.all_leaves([sparsity])


def kept_by_round(
    sparsities: list[float], sizes: list[int], rounds: int, counting: str
) -> list[list[int]]:
    """How many entries of each tensor stay after each round.

    Args:
      sparsities: s of each tensor, in [0, 1).
      sizes: entries of each tensor.
      rounds: R.
      counting: rule of `kept_count`.

    Returns:
      One list for each round; counts never grow, and the last list holds those of s itself.

    Raises:
      UserError: fewer than one round, or an unknown rule.
    """
    if rounds < 1:
        raise UserError(f"rounds must be at least 1, which prunes in one go; got {rounds}.")

    def after(sparsity, done):
        return sparsity if done == rounds else 1 - (1 - sparsity) ** (done / rounds)

    pairs = list(zip(sparsities, sizes, strict=True))
    return [
        [int(kept_count(counting, after(sparsity, done), size)) for sparsity, size in pairs]
        for done in range(1, rounds + 1)
    ]


def check_finite(
    values: list[Array], params: Params, prunable: PyTree, what: str = "scores"
) -> None:
    """Raises `UserError` for a value of a prunable leaf that is not finite, naming the leaf."""
    paths = [path for path, flag in _zip_leaves(leaf_paths(params), prunable) if flag]
    # Arrays on the host may be too large for the device, so they are checked on the host.
    finite = [np.isfinite(v).all() if isinstance(v, np.ndarray) else _all_finite(v) for v in values]
    for path, good in zip(paths, jax.device_get(finite), strict=True):
        if not good:
            raise UserError(
                f"{what} of {path!r} must be finite; got NaN or infinity. Look for NaN in the "
                "parameters, the batches and the loss."
            )


def masked(leaves: Sequence[Array], masks: Sequence[Array]) -> list[Array]:
    """Leaves whose pruned weights are 0."""
    pairs = zip(leaves, masks, strict=True)
    return [jnp.where(mask != 0, leaf, 0).astype(leaf.dtype) for leaf, mask in pairs]


def _checked(sparsity, name):
    check_sparsity(sparsity, name)
    return float(sparsity)


def _flatten_like(params, tree):
    try:
        return jax.tree.structure(params).flatten_up_to(tree)
    except ValueError as error:
        raise UserError(
            "sparsity must be a number, or a tree like the parameters of numbers and None; got a "
            f"tree of another structure: {error}"
        ) from error


def _zip_leaves(params, prunable):
    return zip(jax.tree.leaves(params), jax.tree.leaves(prunable), strict=True)


@jax.jit
def _all_finite(values):
    return jnp.all(jnp.isfinite(values))
