"""Straight-through estimators (Bengio et al. 2013, arXiv 1308.3432).

The network is applied with masked weights, and the optimiser moves dense ones by the gradient at
the masked ones, so a weight that is removed now can come back. New masks are made before every
forward pass:

    loss, grads = jax.value_and_grad(loss_fn)(updater.pre_forward_update(params, opt_state))

At the end, save and evaluate `pre_forward_update(params, opt_state)`, too.
"""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import jax

from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.layerwise_pruners import MagnitudePruning, RandomPruning
from bap_jax.pruning.masks import apply_masks
from bap_jax.pruning.sparse_state import SparseState, sparse_states
from bap_jax.types import Params, PyTree

_Mixed = BaseUpdater if TYPE_CHECKING else object  # at run time its fields come from the pruner


@dataclasses.dataclass(eq=False)
class SteMixin(_Mixed):
    """Makes a pruner keep dense weights; masks are made from them when they are needed."""

    is_straight_through: ClassVar[bool] = True
    keeps_inner_state: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

    def pre_forward_update(self, params: Params, opt_state: PyTree) -> Params:
        """The weights with which to apply the network: masked by their present scores."""
        for state in sparse_states(opt_state):
            params = apply_masks(params, self.present_masks(params, state))
        return params

    def present_masks(self, params: Params, sparse_state: SparseState) -> PyTree:
        """Masks of the dense weights `params` at the state's step."""
        # Weights that are masked now compete like all others.
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
