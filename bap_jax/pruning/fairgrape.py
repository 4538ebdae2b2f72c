"""Fairness-aware gradient pruning: every group keeps its share of a layer's importance.

    I_ig = Σ_batches (w_i ∂ℓ_g/∂w_i)²                         importance of weight i to group g
    T_g  = Σ_i I_ig / Σ_g Σ_i I_ig                            its share before pruning, the target
    P_g  = Σ_{i kept} I_ig / Σ_g Σ_{i kept} I_ig              its share of what is kept

I is the squared first-order change of a group's loss when a weight is removed. Weights are kept one
after another: the next one is the most important, among those not yet kept, to the group with the
largest T_g − P_g. (Lin, Kim & Joo, FairGRAPE, ECCV 2022, arXiv 2207.10888; importance: Molchanov
et al. 2019, arXiv 1906.10771. That the lag is a difference and not a ratio, and that targets are
computed again in every round, is as in the authors' code.)
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.kernel_uses import KernelAxes
from bap_jax.pruning.layers import join_layers, num_layers, split_layers
from bap_jax.pruning.rounds import (
    check_finite,
    kept_by_round,
    leaf_sparsities,
    masked,
    merge,
    merge_masks,
    prunable_only,
    to_list,
)
from bap_jax.trees import leaf_paths
from bap_jax.types import Array, Params, PyTree


class GroupLoss(Protocol):
    """The mean loss of one group's samples in a batch."""

    def __call__(self, params: Params, batch: Any, group: Array) -> Array:
        """`()`; 0, with a gradient of 0, where the batch holds no sample of the group.

        Args:
          params: the parameters.
          batch: one of the batches.
          group: `()` int32, traced.
        """
        ...


def fairgrape(
    loss: GroupLoss,
    params: Params,
    prunable: PyTree,
    sparsity: float | PyTree,
    batches: Iterable[Any],
    num_groups: int,
    *,
    rounds: int = 1,
    counting: str = "ceil",
    kernel_axes: Mapping[str, KernelAxes] | None = None,
) -> PyTree:
    """Prunes each leaf so that the groups keep their shares of its importance.

    Args:
      loss: see `GroupLoss`; it is jitted.
      params: the parameters of the trained network.
      prunable: a bool for each leaf.
      sparsity: fraction to remove from every prunable leaf, in [0, 1); or a tree of one fraction
        for each leaf, None where a leaf loses nothing.
      batches: read once and held in memory.
      num_groups: number of groups.
      rounds: how often importances and targets are computed, each time from the weights still
        there; nothing is trained in between and nothing grows back.
      counting: rule of `kept_count`.
      kernel_axes: from `pruning.kernel_axes`; layers that are stacked in a leaf are then pruned
        each by itself.

    Returns:
      Masks: uint8 of the leaf's shape for prunable leaves, None for the others.

    Raises:
      UserError: no batch, group or prunable leaf, an argument out of range, or importances that are
        not finite.

    Source: Lin, Kim & Joo, ECCV 2022, arXiv 2207.10888.
    """
    batches, leaves = to_list(batches), prunable_only(params, prunable)
    each = leaf_sparsities(sparsity, params, prunable)
    flags = zip(leaf_paths(params), jax.tree.leaves(prunable), strict=True)
    axes = [(kernel_axes or {}).get(path) for path, is_prunable in flags if is_prunable]
    sizes = [leaf.size // num_layers(leaf, own) for leaf, own in zip(leaves, axes, strict=True)]
    kept = kept_by_round(each, sizes, rounds, counting)
    squares = squared_terms(lambda w, fixed, *rest: loss(merge(fixed, prunable, w), *rest))
    masks = [np.ones(leaf.shape, np.uint8) for leaf in leaves]
    for counts in kept:
        importance = group_importance(squares, masked(leaves, masks), params, batches, num_groups)
        check_finite(importance, params, prunable)
        columns = zip(importance, masks, counts, axes, strict=True)
        masks = [_select_in_layers(*column) for column in columns]
    return merge_masks(params, prunable, [jnp.asarray(mask) for mask in masks])


def select_fair(importance: Array, kept: int) -> np.ndarray:
    """Keeps `kept` weights such that the groups' shares of importance stay near those of all.

    A group is passed over if it has no importance, or if all its important weights are kept
    already; when that holds for all groups, the lowest indices fill up the rest. Runs on the host,
    with one sorted order for each group: sorting takes time in group · weights, and selecting in
    group · `kept`.

    Args:
      importance: `(group, n)`, not negative, finite.
      kept: how many weights stay, 0 to n.

    Returns:
      `(n,)` uint8 with exactly `kept` ones. Of weights that are equally important to a group, the
      lower index comes first; of groups that lag equally, the first.

    Raises:
      UserError: another shape, a count out of range, or values negative or not finite.

    Source: Lin, Kim & Joo, ECCV 2022, arXiv 2207.10888, section 3.

    Example:
      >>> select_fair(np.array([[8.0, 7.0, 6.0, 0.0], [0.0, 0.0, 0.0, 1.0]]), 2).tolist()
      [1, 0, 0, 1]
    """
    importance = np.asarray(importance)
    _check_selection(importance, kept)
    taken = bytearray(importance.shape[1])
    if kept:
        _keep_greedily(importance, kept, taken)
    mask = np.frombuffer(taken, np.uint8)
    mask[np.flatnonzero(mask == 0)[: kept - np.count_nonzero(mask)]] = 1
    return mask


def _keep_greedily(importance, kept, taken):
    """Sets up to `kept` entries of `taken`; fewer where all groups run out of importance."""
    total = importance.sum(1, dtype=np.float64)
    target = total / max(total.sum(), np.finfo(np.float64).tiny)
    orders = [iter(_most_important(row, kept)) for row in importance]
    closed = np.where(total > 0, 0.0, -np.inf)
    behind, sums = target + closed, np.zeros_like(target)
    for _ in range(kept):
        weight = None
        while weight is None:
            group = int(behind.argmax())
            if behind[group] == -np.inf:
                return
            weight = next((i for i in orders[group] if not taken[i]), None)
            if weight is None:
                behind[group] = closed[group] = -np.inf
        taken[weight] = 1
        sums += importance[:, weight]
        behind = target - sums / sums.sum() + closed


def _most_important(row, kept):
    """Indices with importance, largest first, ties by index; enough of them to keep `kept`."""
    # At most kept − 1 of the first `kept` were kept for other groups, so no more are ever needed.
    least = np.partition(row, row.size - kept)[row.size - kept]
    places = np.flatnonzero((row >= least) & (row > 0))
    return places[np.argsort(-row[places], kind="stable")]


def _select_in_layers(importance, mask, kept, axes):
    """`_select_among` within each of the layers that are stacked in a leaf."""
    if not (axes and axes.stacked):
        return _select_among(importance, mask, kept)
    groups = [split_layers(row, axes) for row in importance]
    layers = zip(zip(*groups, strict=True), split_layers(mask, axes), strict=True)
    new = [_select_among(np.stack(rows), np.asarray(part), kept) for rows, part in layers]
    return np.asarray(join_layers(new, mask.shape, axes))


def _select_among(importance, mask, kept):
    """`select_fair` among the weights that `mask` still has."""
    places = np.flatnonzero(mask)
    flat = importance.reshape(importance.shape[0], -1)
    new = np.zeros(mask.size, np.uint8)
    new[places] = select_fair(flat[:, places], kept)
    return new.reshape(mask.shape)


class SquaredTerms(Protocol):
    """Adds one batch's squared terms (w ∂ℓ_g/∂w)² to sums."""

    def __call__(
        self, sums: PyTree, weights: PyTree, fixed: Any, batch: Any, group: Array
    ) -> PyTree:
        """A tree like `sums`, which are like `weights`, float32, in squared loss units."""
        ...


def squared_terms(loss: Callable[..., Array]) -> SquaredTerms:
    """Compiles the terms of a loss `(weights, fixed, batch, group) -> ()`."""

    def add(total, weight, gradient):
        return total + jnp.square(weight.astype(jnp.float32) * gradient.astype(jnp.float32))

    @jax.jit
    def squares(sums, weights, fixed, batch, group):
        return jax.tree.map(add, sums, weights, jax.grad(loss)(weights, fixed, batch, group))

    return squares


def group_importance(
    squares: SquaredTerms, weights: PyTree, fixed: Any, batches: list[Any], num_groups: int
) -> PyTree:
    """I_ig, the importance of each weight to each group.

    One group follows another, so the device holds one gradient and one sum at a time, twice the
    weights; the result, `group` times the weights, is gathered on the host. There are group × batch
    gradients, also of batches without a sample of the group.

    Args:
      squares: from `squared_terms`.
      weights: a tree of float arrays.
      fixed: what else the loss depends on.
      batches: at least one.
      num_groups: number of groups.

    Returns:
      A tree like `weights` of float32 NumPy arrays `(group, *shape)`, squared loss units.

    Raises:
      UserError: there is no group.
    """
    if num_groups < 1:
        raise UserError(f"num_groups must be at least 1; got {num_groups}.")
    rows = jax.tree.map(lambda w: np.zeros((num_groups, *w.shape), np.float32), weights)
    for group in range(num_groups):
        sums = jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.float32), weights)
        for batch in batches:
            sums = squares(sums, weights, fixed, batch, jnp.int32(group))
        for row, value in zip(jax.tree.leaves(rows), jax.tree.leaves(sums), strict=True):
            row[group] = value
    return rows


def _check_selection(importance, kept):
    if importance.ndim != 2 or not importance.shape[0]:
        raise UserError(f"importance must have shape (group, n); got {importance.shape}.")
    if not 0 <= kept <= importance.shape[1]:
        raise UserError(f"kept must lie in 0 to {importance.shape[1]} weights; got {kept}.")
    if not (np.isfinite(importance).all() and (importance >= 0).all()):
        raise UserError(
            "importance must be finite and not negative; got NaN, infinity or a negative value. "
            "Square or take absolute values first."
        )
