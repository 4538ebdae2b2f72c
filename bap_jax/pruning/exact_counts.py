"""How many weights an updater keeps, as far as that is known before training.

Within a program a sparsity is known by its float32 value only, so exact counts are made here, on
the host and in double precision, and the program looks them up.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from bap_jax.pruning import mask_calculator
from bap_jax.pruning.counting import count_table, counts_at
from bap_jax.pruning.masks import map_pruned
from bap_jax.pruning.schedule_protocol import Schedule
from bap_jax.pruning.sparsity_types import NByM, SparsityType
from bap_jax.types import Array, Params, PyTree


class ExactCounts:
    """The part of `BaseUpdater` that knows targets and counts; its fields are described there."""

    _given_counts: ClassVar[Array | None] = None  # set on a copy that `with_arrays` makes

    scheduler: Schedule
    sparsity_type: SparsityType
    sparsity_distribution_fn: Callable[[Params], PyTree] | None
    has_standard_topk: Callable[[], bool]
    counting: str

    def find_targets(self, params: Params) -> PyTree:
        """Target sparsities of the first state; None without a distribution."""
        return self.sparsity_distribution_fn and self.sparsity_distribution_fn(params)

    def take_targets(self, targets: PyTree) -> None:
        """Replaces the updater's own targets by `targets`, as `find_targets` returns them."""
        self.sparsity_distribution_fn = lambda params: targets

    def find_masks(self) -> PyTree:
        """Masks that the updater was given; None where it makes its own."""
        return None

    def take_masks(self, masks: PyTree) -> None:
        """Replaces the masks that the updater was given."""
        raise NotImplementedError

    def exact_counts(self, params: Params) -> np.ndarray | None:
        """How many units stay at each update, where sparsities are known beforehand.

        Args:
          params: only paths and shapes are read.

        Returns:
          `(leaf, update)` int32, or None where counts follow from float32 sparsities.
        """
        is_counted = self.has_standard_topk() and not isinstance(self.sparsity_type, NByM)
        return self._count_table(params) if is_counted and self.counting == "ceil" else None

    def _count_table(self, params):
        return count_table(self.counting, self._counting_schedule(), *self._counted(params))

    def _counted(self, params) -> tuple[list[Any], list[int]]:
        """The target and the size of everything that has its own count."""
        targets = self.find_targets(params)

        def sizes(_, leaves):
            return [mask_calculator.units(leaf.shape, self.sparsity_type) for leaf in leaves]

        return jax.tree.leaves(targets), jax.tree.leaves(map_pruned(sizes, targets, params))

    def _counting_schedule(self) -> Schedule:
        return self.scheduler

    def _kept_at(self, params, count) -> dict[str, Array]:
        """The argument `kept` of `create_masks` at a step; empty where it is not known."""
        table = self._given_counts
        table = self.exact_counts(params) if table is None else table
        return {} if table is None else {"kept": counts_at(table, self._counting_schedule(), count)}

    def _kept_at_target(self) -> dict[str, Array]:
        """As `_kept_at`, at the target; where targets are Python numbers no table is needed."""
        return {} if self._given_counts is None else {"kept": self._given_counts[:, -1]}
