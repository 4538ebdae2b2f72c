"""Structured pruning on a schedule: whole channels, with their biases and norms."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.filters import leaf_paths
from bap_jax.pruning.mask_calculator import MASK_DTYPE
from bap_jax.pruning.masks import apply_masks
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.pruning.sparsity_distributions import check_sparsity
from bap_jax.pruning.structured import channel_masks
from bap_jax.types import Array, ChannelGroup, Params, PyTree, UserError, group_sizes


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
        target, count = sparse_state.target_sparsities, sparse_state.count
        sparsity = self.scheduler.get_sparsity_at_step(target, count)
        return self._masks(masked, sparsity, **self._exactly(params, count))

    def instant_sparsify(self, params: Params, grads: PyTree = None) -> tuple[Params, PyTree]:
        """Prunes once, to the target."""
        del grads
        masks = self._masks(params, self.sparsity, **self._at_target())
        return apply_masks(params, masks), self._pack(masks)

    def take_targets(self, targets: Array | float) -> None:
        """Has this share of each group's channels in place of its own."""
        super().take_targets(targets)
        self.sparsity = targets

    def exact_counts(self, params: Params) -> np.ndarray | None:
        """`(group, update)` int32 channels that stay; None where the schedule has no table."""
        table = self._count_table(params)
        return None if table is None else np.maximum(table, 1)

    def _counted(self, params):
        sizes = group_sizes(self.groups, _by_path(params))
        return [self.sparsity] * len(sizes), sizes

    @functools.cached_property
    def _compiled(self):
        return jax.jit(functools.partial(channel_masks, groups=self.groups))

    def _masks(self, params, sparsity, kept=None):
        if kept is None:
            sizes = group_sizes(self.groups, _by_path(params))
            counts = [kept_count(self.counting, sparsity, size) for size in sizes]
            kept = [jnp.maximum(jnp.asarray(count, jnp.int32), 1) for count in counts]
        masks = self._compiled(params, kept=kept)
        return jax.tree.map(lambda mask: mask.astype(MASK_DTYPE), masks)


def _by_path(params):
    return dict(zip(leaf_paths(params), jax.tree.leaves(params), strict=True))
