"""Dense to sparse, layer by layer: scores are magnitudes, saliencies or random numbers.

A weight once removed ranks below all others, so it comes back only if sparsity falls.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.types import Array, Params, PyTree, UserError


@dataclasses.dataclass(eq=False)
class MagnitudePruning(BaseUpdater):
    """Scores |θ| (Zhu & Gupta 2017, arXiv 1710.01878; the paper's criterion)."""

    needs_gradients: ClassVar[bool] = False

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """|θ|."""
        del grads
        return self.removed_last(jax.tree.map(jnp.abs, params), sparse_state)


@dataclasses.dataclass(eq=False)
class SaliencyPruning(BaseUpdater):
    """Scores |θ ∇ℓ|, how much the loss changes to first order (arXiv 1611.06440)."""

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
        scores = jax.tree.map(lambda param, grad: jnp.abs(param * grad), params, grads)
        return self.removed_last(scores, sparse_state)


def generate_random_scores(params: Params, rng_seed: Array) -> PyTree:
    """Uniform numbers in [0, 1), another key for each leaf."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(rng_seed, len(leaves))
    scores = [
        jax.random.uniform(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, scores)


@dataclasses.dataclass(eq=False)
class RandomPruning(BaseUpdater):
    """Random scores, drawn anew at each update: what any other criterion has to beat."""

    needs_gradients: ClassVar[bool] = False

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """Random numbers from `rng_seed` and the step."""
        del grads
        if sparse_state is None:
            return generate_random_scores(params, self.rng_seed)
        key = jax.random.fold_in(self.rng_seed, sparse_state.count)
        return self.removed_last(generate_random_scores(params, key), sparse_state)
