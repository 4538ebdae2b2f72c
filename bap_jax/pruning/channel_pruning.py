"""Structured pruning on a schedule: whole channels, with their biases and norms."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.filters import leaf_paths
from bap_jax.pruning.mask_calculator import MASK_DTYPE
from bap_jax.pruning.masks import apply_masks
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.pruning.sparsity_distributions import check_sparsity
from bap_jax.pruning.sparsity_schedules import exact_table
from bap_jax.pruning.structured import channel_masks
from bap_jax.types import ChannelGroup, Params, PyTree, UserError, group_sizes


@dataclasses.dataclass(eq=False, kw_only=True)
class ChannelPruning(BaseUpdater):
    """Removes the same share of the channels of each group, smallest first.

    At least one channel of a group stays. `bap_jax.models.compact` then makes the network smaller.

    Attributes:
      groups: channels that live and die together, see `bap_jax.models.channel_groups`.
      sparsity: share of each group's channels to remove, in [0, 1).

    Raises:
      UserError: no groups, or a sparsity outside [0, 1).
    """

    needs_gradients: ClassVar[bool] = False

    groups: Sequence[ChannelGroup]
    sparsity: float

    def __post_init__(self, is_packed):
        super().__post_init__(is_packed)
        check_sparsity(self.sparsity)
        if not self.groups:
            raise UserError("channel pruning needs at least one group of channels; got none.")
        self.sparsity_distribution_fn = lambda params: self.sparsity

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """Every channel stays."""
        del target_sparsities
        sizes = group_sizes(self.groups, _by_path(params))
        return channel_masks(params, self.groups, sizes)

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """Masks at the schedule's share; channels once removed are 0 and stay removed."""
        del grads
        masked = apply_masks(params, self.unpacked_masks(sparse_state, params))
        count = sparse_state.count
        table = exact_table(self.scheduler, self.sparsity, count)
        target = sparse_state.target_sparsities
        if table is None:
            table = [self.scheduler.get_sparsity_at_step(target, count)], 0
        return self._masks(masked, *table)

    def instant_sparsify(self, params: Params, grads: PyTree = None) -> tuple[Params, PyTree]:
        """Prunes once, to the target."""
        del grads
        masks = self._masks(params, [self.sparsity], 0)
        return apply_masks(params, masks), self._pack(masks)

    def _masks(self, params, sparsities, now):
        kept = []
        for size in group_sizes(self.groups, _by_path(params)):
            counts = [kept_count(self.counting, sparsity, size) for sparsity in sparsities]
            kept.append(jnp.maximum(jnp.asarray(counts, jnp.int32)[now], 1))
        masks = jax.jit(lambda params, kept: channel_masks(params, self.groups, kept))(params, kept)
        return jax.tree.map(lambda mask: mask.astype(MASK_DTYPE), masks)


def _by_path(params):
    return dict(zip(leaf_paths(params), jax.tree.leaves(params), strict=True))
