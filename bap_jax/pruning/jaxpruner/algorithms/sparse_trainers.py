"""jaxpruner's `sparse_trainers`: sparse from the first step.

Of `SET` and `RigL` subclasses may override `_get_drop_scores`, `_get_grow_scores` and
`_update_masks(old_mask, drop_score, grow_score, drop_fraction)`, which makes one leaf's mask.
"""

import dataclasses

import jax.numpy as jnp

from bap_jax.pruning import moments as _moments
from bap_jax.pruning import sparse_trainers as _engine
from bap_jax.pruning.jaxpruner import base_updater as base_updater
from bap_jax.pruning.jaxpruner.algorithms import pruners as pruners
from bap_jax.pruning.masks import map_masks
from bap_jax.types import PyTree


@dataclasses.dataclass(eq=False)
class StaticRandomSparse(base_updater.BaseUpdater, _engine.StaticRandomSparse):
    """Random masks, made at the start."""

    is_sparse_gradients: bool = True


@dataclasses.dataclass(eq=False)
class SET(StaticRandomSparse, _engine.SET):
    """Drops the smallest weights and grows as many at random (arXiv 1707.04780)."""

    is_sparse_gradients: bool = True
    skip_gradients: bool = True
    pruned_moments: str = dataclasses.field(default="restart", kw_only=True)


@dataclasses.dataclass(eq=False)
class RigL(SET, _engine.RigL):
    """Drops the smallest weights, grows where the gradient is largest (arXiv 1911.11134)."""

    is_sparse_gradients: bool = True
    skip_gradients: bool = True
    pruned_moments: str = dataclasses.field(default="restart", kw_only=True)


def restart_inner_state(state: PyTree, masks_activated: PyTree) -> PyTree:
    """An optimiser's state with 0 for the moments of activated weights.

    Moments are the parts of the state that have the structure and shapes of the masks, whatever
    the optimiser; see `bap_jax.pruning.moments`.
    """
    return _moments.zeroed(state, masks_activated)


def _restart_using_mask(target_tree, masks):
    """A tree with 0 where masks are 1; leaves without a mask as they are."""
    return map_masks(lambda mask, leaf: jnp.where(mask, 0, leaf), masks, target_tree)
