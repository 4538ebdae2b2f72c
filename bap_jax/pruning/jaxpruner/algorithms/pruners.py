"""jaxpruner's `pruners`: dense to sparse, layer by layer.

Scores are plain here: a removed weight has the score of a weight that is 0, so it may come back
where the other scores of its leaf are 0, too.
"""

import dataclasses

import jax.numpy as jnp

from bap_jax.pruning import layerwise_pruners as _engine
from bap_jax.pruning.jaxpruner import base_updater as base_updater
from bap_jax.pruning.layerwise_pruners import generate_random_scores as generate_random_scores
from bap_jax.pruning.masks import map_masks
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.types import Params, PyTree

BaseUpdater = base_updater.BaseUpdater


class _PlainScores(BaseUpdater):
    """Scores that do not look at which weights are removed."""

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """The scores of `params`, whatever the masks are."""
        del sparse_state
        return super().calculate_scores(params, None, grads)


@dataclasses.dataclass(eq=False)
class MagnitudePruning(_PlainScores, _engine.MagnitudePruning):
    """Scores |θ|."""


@dataclasses.dataclass(eq=False)
class SaliencyPruning(_PlainScores, _engine.SaliencyPruning):
    """Scores |θ ∇ℓ|."""


@dataclasses.dataclass(eq=False)
class RandomPruning(BaseUpdater, _engine.RandomPruning):
    """Random scores; a removed weight has the score 0."""

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """Random numbers in [0, 1) from `rng_seed` and the step."""
        scores = super().calculate_scores(params, sparse_state, grads)
        if sparse_state is None:
            return scores
        masks = self.unpacked_masks(sparse_state, scores)
        return map_masks(lambda mask, score: jnp.where(mask, score, 0), masks, scores)
