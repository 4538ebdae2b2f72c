"""How many weights an updater keeps, as far as that is known before training.

Within a program a sparsity is known by its float32 value only, so exact counts are made here, on
the host and in double precision, and the program looks them up.
"""

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from bap_jax.kernel_uses import KernelAxes
from bap_jax.pruning import mask_calculator
from bap_jax.pruning.counting import count_table, counts_at, kept_count
from bap_jax.pruning.layers import Axes
from bap_jax.pruning.masks import map_pruned
from bap_jax.pruning.schedule_protocol import Schedule
from bap_jax.pruning.shape_checks import check_shape, check_units
from bap_jax.pruning.sparsity_types import Block, Channel, NByM, SparsityType
from bap_jax.trees import paths_of_leaves
from bap_jax.types import Array, Params, PyTree


class ExactCounts:
    """The part of `BaseUpdater` that knows targets and counts; its fields are described there."""

    _given_counts: ClassVar[Array | None] = None  # set on a copy that `with_arrays` makes

    scheduler: Schedule
    sparsity_type: SparsityType
    sparsity_distribution_fn: Callable[[Params], PyTree] | None
    kernel_axes: Mapping[str, KernelAxes] | None
    has_standard_topk: Callable[[], bool]
    counting: str

    def find_targets(self, params: Params) -> PyTree:
        """Target sparsities of the first state; None without a distribution."""
        return self.leaf_targets(params)

    def leaf_targets(self, params: Params) -> PyTree:
        """What the distribution says of each leaf; None without a distribution."""
        distribution: Callable[..., PyTree] | None = self.sparsity_distribution_fn
        if distribution is None:
            return None
        if self.kernel_axes is None or not _takes_axes(distribution):
            return distribution(params)
        return distribution(params, kernel_axes=self.kernel_axes)

    def axes_of(self, path: str) -> KernelAxes | None:
        """The entry of `kernel_axes` for a leaf; None where there is none."""
        return (self.kernel_axes or {}).get(path)

    def checked_axes(self, leaves: Sequence[Array], paths: Sequence[str]) -> list[Axes]:
        """The entries of some leaves, whose shapes are checked; errors as in `check_shapes`."""
        for leaf, path in zip(leaves, paths, strict=True):
            check_shape(path, leaf.shape, self.sparsity_type, self.kernel_axes)
        return list(map(self.axes_of, paths))

    def has_stacked_layers(self) -> bool:
        """Whether a leaf holds several layers, as far as `kernel_axes` says."""
        return any(axes.stacked for axes in (self.kernel_axes or {}).values())

    def check_shapes(self, params: Params) -> None:
        """Checks all that shapes and sparsities decide.

        Args:
          params: only paths and shapes are read.

        Raises:
          UserError: a leaf cannot be pruned in the shapes of `sparsity_type`; the message names it.
        """
        if not self.has_standard_topk():
            return

        def check(targets, leaves, paths):
            for target, leaf, path in zip(targets, leaves, paths, strict=True):
                self._check_shape(target, leaf.shape, path)
            return targets

        map_pruned(check, self.leaf_targets(params), params, paths_of_leaves(params))

    def _check_shape(self, target, shape, path):
        check_shape(path, shape, self.sparsity_type, self.kernel_axes)
        is_coarse = isinstance(self.sparsity_type, Block | Channel)
        if is_coarse and isinstance(target, numbers.Real):
            units = mask_calculator.units(shape, self.sparsity_type, self.axes_of(path))
            kept = int(kept_count(self.counting, float(target), units))
            check_units(path, self.sparsity_type, units, kept, float(target))

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

        def sizes(_, leaves, paths):
            pairs = zip((leaf.shape for leaf in leaves), map(self.axes_of, paths), strict=True)
            return [mask_calculator.units(shape, self.sparsity_type, own) for shape, own in pairs]

        sizes = map_pruned(sizes, targets, params, paths_of_leaves(params))
        return jax.tree.leaves(targets), jax.tree.leaves(sizes)

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


def _takes_axes(distribution):
    """Whether a distribution has an argument `kernel_axes` that is not filled in yet."""
    parameters = inspect.signature(distribution).parameters
    filled = getattr(distribution, "keywords", {})
    return "kernel_axes" in parameters and "kernel_axes" not in filled
