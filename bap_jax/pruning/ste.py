"""Straight-through estimators (Bengio et al. 2013, arXiv 1308.3432).

The network sees masked weights, the optimiser moves dense ones by the gradient at the masked: a
weight removed now can come back. Masks are formed anew before every forward pass:

    loss, grads = jax.value_and_grad(loss_fn)(updater.pre_forward_update(params, opt_state))

What is saved or judged at the end is `pre_forward_update(params, opt_state)` as well.
"""

import dataclasses

import jax

from bap_jax.pruning.layerwise_pruners import MagnitudePruning, RandomPruning
from bap_jax.pruning.masks import apply_masks
from bap_jax.pruning.sparse_state import SparseState, sparse_states
from bap_jax.types import Params, PyTree


@dataclasses.dataclass(eq=False)
class SteMixin:
    """Makes a pruner keep dense weights beside the masks of the moment."""

    def pre_forward_update(self, params: Params, opt_state: PyTree) -> Params:
        """The weights that the network is to be applied with: masked by their present scores."""
        for state in sparse_states(opt_state):
            params = apply_masks(params, self.present_masks(params, state))
        return params

    def present_masks(self, params: Params, sparse_state: SparseState) -> PyTree:
        """Masks of the dense weights `params` at the state's step."""
        # Weights that are masked at present compete as the others do.
        masks = self.get_initial_masks(params, None)
        return self.update_masks(sparse_state._replace(masks=masks), params, None)

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """None: the state holds no masks."""
        del target_sparsities
        return jax.tree.map(lambda leaf: None, params)

    def update_state(self, sparse_state: SparseState, params: Params, grads: PyTree) -> SparseState:
        """The state as it is."""
        del params, grads
        return sparse_state

    def post_gradient_update(self, params: Params, sparse_state: PyTree) -> Params:
        """The dense weights as they are."""
        del sparse_state
        return params


@dataclasses.dataclass(eq=False)
class SteMagnitudePruning(SteMixin, MagnitudePruning):
    """Straight-through, by magnitude."""


@dataclasses.dataclass(eq=False)
class SteRandomPruning(SteMixin, RandomPruning):
    """Straight-through, at random."""
