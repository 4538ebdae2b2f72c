"""Sparse from the first step: random masks that stay, or that exchange weights now and then."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from bap_jax.compilation import with_usual_promotion
from bap_jax.errors import UserError
from bap_jax.pruning import hooks
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.layers import on_layers
from bap_jax.pruning.layerwise_pruners import generate_random_scores
from bap_jax.pruning.masks import map_pruned
from bap_jax.pruning.selection import keep_largest
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.pruning.sparsity_schedules import NoUpdateSchedule
from bap_jax.pruning.sparsity_types import Unstructured
from bap_jax.trees import paths_of_leaves
from bap_jax.types import Array, Params, PyTree


@dataclasses.dataclass(eq=False)
class StaticRandomSparse(BaseUpdater):
    """Random masks, made at the start."""

    needs_gradients: ClassVar[bool] = False
    default_schedule: ClassVar[str] = "none"
    never_regrows: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

    is_sparse_gradients: bool = True

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """The masks as they are."""
        del grads
        return self.unpacked_masks(sparse_state, params)

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """Random masks at the targets."""
        scores = generate_random_scores(params, self._key)
        return self._masks_from(scores, target_sparsities, self._kept_at(params, 0))

    def instant_sparsify(
        self, params: Params, grads: PyTree = None, importance: PyTree = None, **extra: Any
    ) -> tuple[Params, PyTree]:
        """The parameters and masks with which training would start; `importance` if it is given."""
        if importance is not None:
            return super().instant_sparsify(params, grads, importance, **extra)
        masks = self.get_initial_masks(params, self._needed_targets(params))
        return self.apply_masks(params, masks, is_packed=False), self._pack(masks)

    def _counting_schedule(self):
        return NoUpdateSchedule()  # whatever the schedule, masks start at the target


@dataclasses.dataclass(eq=False)
class SET(StaticRandomSparse):
    """Drops the smallest weights and grows as many at random (Mocanu et al., arXiv 1707.04780).

    A grown weight starts at 0 with fresh moments. The number of weights in a leaf never changes.

    Attributes:
      eps: unused; jaxpruner's callers pass it.
      drop_fraction_fn: `step -> ` share of the weights to exchange, in [0, 1].
      is_debug: unused; jaxpruner's callers pass it.

    Raises:
      UserError: the sparsity type is not unstructured.
    """

    default_schedule: ClassVar[str] = "periodic"
    supports_arrays: ClassVar[bool] = True

    eps: float = 1e-5
    drop_fraction_fn: Callable[[Array], Array | float] = lambda step: 0.3
    is_debug: bool = False
    skip_gradients: bool = True

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.sparsity_type, Unstructured):
            raise UserError(
                f"{type(self).__name__} exchanges single weights; sparsity_type must be "
                f"Unstructured(), got {self.sparsity_type}."
            )

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """Masks after the exchange."""
        drop_scores = self._get_drop_scores(sparse_state, params, grads)
        grow_scores = self._get_grow_scores(sparse_state, params, grads)
        fraction = self.drop_fraction_fn(sparse_state.count)
        masks = self.unpacked_masks(sparse_state, params)
        is_plain = hooks.is_unchanged(self, SET, "_update_masks") and self.has_standard_topk()

        def swap(old, drop, grow, paths):
            if is_plain:
                axes = list(map(self.axes_of, paths))
                swapped = functools.partial(exchange, fraction=fraction)
                return on_layers(swapped, axes, old, drop, grow)
            leaves = zip(old, drop, grow, strict=True)
            return [self._update_masks(*leaf, drop_fraction=fraction) for leaf in leaves]

        return map_pruned(swap, masks, drop_scores, grow_scores, paths_of_leaves(params))

    def _update_masks(self, old_mask, drop_score, grow_score, drop_fraction):
        """One leaf's mask after the exchange; subclasses may override it."""
        if self.has_standard_topk():
            return exchange([old_mask], [drop_score], [grow_score], drop_fraction)[0]
        density = jnp.mean(old_mask, dtype=jnp.float32)
        lowest, highest = jnp.min(drop_score) - self.eps, jnp.max(grow_score) + self.eps
        left = self._own_mask(
            jnp.where(old_mask == 0, lowest, drop_score), 1 - density * (1 - drop_fraction)
        )
        return self._own_mask(jnp.where(left == 1, highest, grow_score), 1 - density)

    def _get_drop_scores(self, sparse_state, params, grads):
        """Scores by which weights go, the smallest first; subclasses may override it."""
        del sparse_state, grads
        return jax.tree.map(jnp.abs, params)

    def _get_grow_scores(self, sparse_state, params, grads):
        """Scores by which weights come, the largest first; subclasses may override it."""
        del grads
        return generate_random_scores(params, jax.random.fold_in(self._key, sparse_state.count))


@dataclasses.dataclass(eq=False)
class RigL(SET):
    """Drops the smallest weights, grows where the gradient is largest (arXiv 1911.11134)."""

    needs_gradients: ClassVar[bool] = True

    def _get_grow_scores(self, sparse_state, params, grads):
        del sparse_state, params
        if grads is None:
            raise UserError("RigL grows by gradients; write update_state(state, params, grads).")
        return jax.tree.map(jnp.abs, grads)


@with_usual_promotion
def exchange(
    masks: Sequence[Array],
    drop_scores: Sequence[Array],
    grow_scores: Sequence[Array],
    fraction: Array | float,
) -> Sequence[Array]:
    """Masks of several leaves after an exchange that leaves each leaf's number of weights alone.

    Args:
      masks: before.
      drop_scores: of the weights there are, all but the largest (1 − fraction) go; one stays.
      grow_scores: of the weights that are not there then, the largest come.
      fraction: share to exchange, in [0, 1].
    """
    sizes = [jnp.sum(mask, dtype=jnp.int32) for mask in masks]
    staying = [jnp.maximum(1, jnp.round(size * (1 - fraction)).astype(jnp.int32)) for size in sizes]
    staying = [jnp.minimum(stay, size) for stay, size in zip(staying, sizes, strict=True)]
    present = [
        jnp.where(mask, score, -jnp.inf) for mask, score in zip(masks, drop_scores, strict=True)
    ]
    left = keep_largest(present, staying)
    scores = [
        jnp.where(mask, jnp.inf, jnp.where(jnp.isnan(score), -jnp.inf, score))
        for mask, score in zip(left, grow_scores, strict=True)
    ]
    return keep_largest(scores, sizes)
