"""Dense to sparse, layer by layer: scores are magnitudes, saliencies or random numbers.

A removed weight ranks below all others, so it comes back only if the sparsity falls.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from bap_jax.errors import UserError
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.hooks import IMPORTANCE, is_unchanged
from bap_jax.pruning.mask_calculator import counts_of
from bap_jax.pruning.masks import check_not_nan, map_pruned
from bap_jax.pruning.selection import keep_largest_by
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.pruning.sparsity_types import Unstructured
from bap_jax.trees import in_containers_of
from bap_jax.types import Array, Params, PyTree


@dataclasses.dataclass(eq=False)
class MagnitudePruning(BaseUpdater):
    """Scores |θ| (Zhu & Gupta 2017, arXiv 1710.01878; the paper's criterion)."""

    needs_gradients: ClassVar[bool] = False
    never_regrows: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """|θ|."""
        del grads
        return self.removed_last(jax.tree.map(jnp.abs, params), sparse_state)

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """New masks; where single weights are ranked by |θ|, one program ranks all leaves."""
        if self.has_stacked_layers() or not self._ranks_single_weights():
            return super().update_masks(sparse_state, params, grads)
        count, masks = sparse_state.count, self.unpacked_masks(sparse_state, params)
        targets = sparse_state.target_sparsities
        kept = self._kept_at(params, count).get("kept")
        check_not_nan(params, targets)

        def rank(targets, weights, masks):
            if not targets:
                return []
            counts: Any = kept
            if kept is None:
                # As one array: a scalar for each leaf would be a program for each leaf.
                amounts = jnp.stack([jnp.asarray(target, jnp.float32) for target in targets])
                amounts = self.scheduler.get_sparsity_at_step(amounts, count)
                counts = counts_of([w.size for w in weights], amounts, self.counting)
            if any(mask is None for mask in masks):
                return keep_largest_by(jnp.abs, [weights], counts)
            return keep_largest_by(_magnitude_of_kept, [weights, masks], counts)

        return map_pruned(rank, targets, params, masks)

    def _ranks_single_weights(self):
        is_plain = is_unchanged(self, MagnitudePruning, "calculate_scores")
        is_plain &= is_unchanged(self, BaseUpdater, "create_masks")
        is_plain &= self.has_standard_topk() and IMPORTANCE not in self.extra_arguments
        return is_plain and self.sparsity_type == Unstructured()


def _magnitude_of_kept(weight, mask):
    return jnp.where(mask, jnp.abs(weight), -jnp.inf)


@dataclasses.dataclass(eq=False)
class SaliencyPruning(BaseUpdater):
    """Scores |θ ∇ℓ|, how much the loss changes to first order (arXiv 1611.06440)."""

    never_regrows: ClassVar[bool] = True

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """|θ ∇ℓ|.

        Raises:
          UserError: there are no gradients.
        """
        if grads is None:
            raise UserError(
                "saliency pruning needs gradients; write instant_sparsify(params, grads)."
            )
        grads = in_containers_of(params, grads)
        scores = jax.tree.map(lambda param, grad: jnp.abs(param * grad), params, grads)
        return self.removed_last(scores, sparse_state)


def generate_random_scores(params: Params, rng_seed: Array) -> PyTree:
    """Uniform numbers in [0, 1) for each leaf, in float32 or wider so that few are equal."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(rng_seed, len(leaves))
    scores = [
        jax.random.uniform(key, leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32))
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, scores)


@dataclasses.dataclass(eq=False)
class RandomPruning(BaseUpdater):
    """Random scores, drawn again at each update: a control for other criteria."""

    needs_gradients: ClassVar[bool] = False
    never_regrows: ClassVar[bool] = True

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """Random numbers from `rng_seed` and the step."""
        del grads
        if sparse_state is None:
            return generate_random_scores(params, self._key)
        key = jax.random.fold_in(self._key, sparse_state.count)
        return self.removed_last(generate_random_scores(params, key), sparse_state)
