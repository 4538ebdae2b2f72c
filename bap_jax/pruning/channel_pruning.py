"""Structured pruning on a schedule: whole channels go, with their biases and norms."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.declarations import UpdaterOptions
from bap_jax.pruning.mask_calculator import MASK_DTYPE
from bap_jax.pruning.masks import apply_masks
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.pruning.sparsity_distributions import check_sparsity
from bap_jax.pruning.structured import channel_masks
from bap_jax.trees import leaves_by_path
from bap_jax.types import Array, ChannelGroup, Params, PyTree, group_sizes


@dataclasses.dataclass(eq=False, kw_only=True)
class ChannelPruning(BaseUpdater):
    """Removes the same share of the channels of each group, smallest first.

    At least one channel of a group stays. `bap_jax.models.compact` then makes the network smaller.

    Attributes:
      groups: channels that are kept or removed together, see `bap_jax.models.channel_groups`.
      sparsity: share of each group's channels to remove, in [0, 1).

    Raises:
      UserError: no groups, or a sparsity outside [0, 1).
    """

    needs_gradients: ClassVar[bool] = False
    needs_channel_groups: ClassVar[bool] = True
    is_layerwise: ClassVar[bool] = False
    takes_sparsity_type: ClassVar[bool] = False
    never_regrows: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

    groups: Sequence[ChannelGroup]
    sparsity: Array | float

    def __post_init__(self):
        super().__post_init__()
        check_sparsity(self.sparsity)
        if not self.groups:
            raise UserError("channel pruning needs at least one group of channels; got none.")
        self.sparsity_distribution_fn = lambda params: self.sparsity

    @classmethod
    def constructor_arguments(cls, options: UpdaterOptions) -> dict[str, Any]:
        """The groups and the sparsity of `options`, and what every updater takes."""
        return {
            "groups": options.groups,
            "sparsity": options.sparsity,
            "scheduler": options.scheduler,
            "counting": options.counting,
            "rng_seed": options.rng_seed,
        }

    def check_shapes(self, params: Params) -> None:
        """Checks that the groups fit the parameters; raises `UserError` where they do not."""
        group_sizes(self.groups, leaves_by_path(params))

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """Every channel stays."""
        del target_sparsities
        sizes = group_sizes(self.groups, leaves_by_path(params))
        return channel_masks(params, self.groups, sizes)

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """Masks at the schedule's share; removed channels are 0 and stay removed."""
        del grads
        masked = apply_masks(params, self.unpacked_masks(sparse_state, params))
        target, count = sparse_state.target_sparsities, sparse_state.count
        sparsity = self.scheduler.get_sparsity_at_step(target, count)
        return self._masks(masked, sparsity, **self._kept_at(params, count))

    def instant_sparsify(
        self, params: Params, grads: PyTree = None, importance: PyTree = None, **extra: Any
    ) -> tuple[Params, PyTree]:
        """Prunes once, to the target."""
        del grads, importance, extra
        masks = self._masks(params, self.sparsity, **self._kept_at_target())
        return apply_masks(params, masks), self._pack(masks)

    def take_targets(self, targets: Array | float) -> None:
        """Replaces the share of each group's channels to remove."""
        super().take_targets(targets)
        self.sparsity = targets

    def exact_counts(self, params: Params) -> np.ndarray | None:
        """`(group, update)` int32 channels that stay; None where the schedule has no table."""
        table = self._count_table(params)
        return None if table is None else np.maximum(table, 1)

    def _counted(self, params):
        sizes = group_sizes(self.groups, leaves_by_path(params))
        return [self.sparsity] * len(sizes), list(sizes)

    @functools.cached_property
    def _compiled(self):
        return jax.jit(functools.partial(channel_masks, groups=self.groups))

    def _masks(self, params, sparsity, kept=None):
        if kept is None:
            sizes = group_sizes(self.groups, leaves_by_path(params))
            counts = [kept_count(self.counting, sparsity, size) for size in sizes]
            kept = [jnp.maximum(jnp.asarray(count, jnp.int32), 1) for count in counts]
        masks = self._compiled(params, kept=kept)
        return jax.tree.map(lambda mask: mask.astype(MASK_DTYPE), masks)
