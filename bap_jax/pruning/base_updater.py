"""What every pruning algorithm shares: jaxpruner's protocol (arXiv 2304.14082).

    score ─► how many stay, by distribution and schedule ─► masks ─► weights times masks

An updater is a recipe; what changes lives in a `SparseState`. Use it in one of two ways:

    params, masks = updater.instant_sparsify(params)                    # once

    tx = updater.wrap_optax(tx)                                         # while training
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    params = updater.post_gradient_update(params, opt_state)

The updates that the wrapped optimiser returns already set removed weights to 0; the last line is
needed where other transformations come after it, and by algorithms of one's own.
"""

import dataclasses
import functools
import numbers
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bap_jax.pruning import mask_calculator, moments, sparsity_distributions
from bap_jax.pruning.counting import check_counting, count_table, counts_at
from bap_jax.pruning.masks import (
    apply_masks,
    check_not_nan,
    map_masks,
    map_pruned,
    pack_masks,
    unpack_masks,
)
from bap_jax.pruning.sparse_state import SparseState, sparse_states
from bap_jax.pruning.sparsity_schedules import NEVER_FALLING, NoUpdateSchedule
from bap_jax.pruning.sparsity_types import NByM, SparsityType, Unstructured, check_type
from bap_jax.pruning.wrapping import wrap
from bap_jax.types import Array, Params, PyTree, UserError


@dataclasses.dataclass(eq=False)
class BaseUpdater:
    """Base of all algorithms; one of your own overrides `calculate_scores`.

    Attributes:
      scheduler: when masks are formed anew, and how sparse.
      skip_gradients: whether the inner optimiser rests on steps that form masks anew.
      is_sparse_gradients: whether the inner optimiser sees no gradients of removed weights.
      sparsity_type: in which shapes weights are removed.
      sparsity_distribution_fn: `params -> ` target of each leaf, None where it is not pruned.
      rng_seed: a key, or an int, for what is random.
      use_packed_masks: whether the state holds masks as bits.
      topk_fn: `(score, sparsity) -> mask`, in place of what `sparsity_type` says.
      counting: how many weights stay: `round` (jaxpruner) or `ceil` (the paper), see
        `pruning.counting`. With `ceil`, where the distribution's sparsities are Python numbers,
        these count and not those of the state.
      pruned_moments: see `pruning.moments`.
      is_packed: another name of `use_packed_masks`.

    Raises:
      UserError: an unknown sparsity type, counting rule or rule for moments.
    """

    needs_gradients: ClassVar[bool] = True  # whether `update_state` reads them
    _given_counts: ClassVar[Array | None] = None  # of a copy that `pruning.with_arrays` makes

    scheduler: Any = NoUpdateSchedule()
    skip_gradients: bool = False
    is_sparse_gradients: bool = False
    sparsity_type: SparsityType = Unstructured()
    sparsity_distribution_fn: Callable[[Params], PyTree] | None = functools.partial(
        sparsity_distributions.uniform, sparsity=0.0
    )
    rng_seed: Array | int | None = None
    use_packed_masks: bool = False
    topk_fn: Callable[[Array, Array], Array] | None = None
    counting: str = dataclasses.field(default="round", kw_only=True)
    pruned_moments: str = dataclasses.field(default="restart", kw_only=True)
    is_packed: dataclasses.InitVar[bool | None] = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self, is_packed: bool | None):
        if self.sparsity_type in (Unstructured, Unstructured()):
            self.sparsity_type = Unstructured()
        check_type(self.sparsity_type)
        check_counting(self.counting)
        moments.check_moments_rule(self.pruned_moments)
        if is_packed is not None:
            self.use_packed_masks = is_packed
        if self.rng_seed is None or isinstance(self.rng_seed, numbers.Integral):
            self.rng_seed = jax.random.key(8 if self.rng_seed is None else self.rng_seed)

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """A score for each weight; the largest stay. For subclasses."""
        raise NotImplementedError

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """Masks to start with: everything stays."""

        def ones(_, leaves):
            return [jnp.ones(jnp.shape(leaf), mask_calculator.MASK_DTYPE) for leaf in leaves]

        return map_pruned(ones, target_sparsities, params)

    def create_masks(self, scores: PyTree, sparsities: PyTree, kept: Array | None = None) -> PyTree:
        """Masks from scores; None where the sparsity is.

        Args:
          scores: what is largest stays.
          sparsities: a float for each pruned leaf.
          kept: `(leaf,)` int32, of pruned leaves, in place of what `sparsities` say.

        Raises:
          UserError: a score is NaN, or a shape does not go with the sparsity type.
        """
        check_not_nan(scores, sparsities)

        def create(amounts, leaves):
            if self.topk_fn is not None:
                return [self.topk_fn(*pair) for pair in zip(leaves, amounts, strict=True)]
            return mask_calculator.masks_for(
                leaves, amounts, self.sparsity_type, self.counting, kept
            )

        return map_pruned(create, sparsities, scores)

    def init_state(self, params: Params) -> SparseState:
        """The state before the first step, without an inner one."""
        targets = self.sparsity_distribution_fn and self.sparsity_distribution_fn(params)
        masks = self.get_initial_masks(params, targets)
        return SparseState(
            masks=self._pack(masks), target_sparsities=targets, count=jnp.zeros([], jnp.int32)
        )

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """New masks, not packed, for the step of `sparse_state.count`."""
        targets, count = sparse_state.target_sparsities, sparse_state.count
        sparsities = self.scheduler.get_sparsity_at_step(targets, count)
        scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads)
        return self.create_masks(scores, sparsities, **self._exactly(params, count))

    def update_state(self, sparse_state: SparseState, params: Params, grads: PyTree) -> SparseState:
        """The state with masks formed anew from weights and gradients."""
        masks = self.update_masks(sparse_state, params, grads)
        return sparse_state._replace(masks=self._pack(masks))

    def wrap_optax(
        self, inner: optax.GradientTransformation
    ) -> optax.GradientTransformationExtraArgs:
        """An optimiser that also prunes; see `pruning.wrapping.wrap`."""
        return wrap(self, inner)

    def instant_sparsify(self, params: Params, grads: PyTree = None) -> tuple[Params, PyTree]:
        """Prunes once, to the targets.

        Returns:
          Pruned parameters and masks.

        Raises:
          UserError: there is no distribution, or a score is NaN.
        """
        if self.sparsity_distribution_fn is None:
            raise UserError("sparsity_distribution_fn needs to be provided for sparsification.")
        sparsities = self.sparsity_distribution_fn(params)
        scores = self.calculate_scores(params, grads=grads)
        masks = self.create_masks(scores, sparsities, **self._at_target())
        return apply_masks(params, masks), self._pack(masks)

    def pre_forward_update(self, params: Params, opt_state: PyTree) -> Params:
        """The weights that the network is to be applied with."""
        del opt_state
        return params

    def post_gradient_update(self, params: Params, sparse_state: PyTree) -> Params:
        """The weights to carry on with: removed ones are 0.

        Args:
          params: after `optax.apply_updates`.
          sparse_state: the optimiser's state, or any tree that holds it.
        """
        for state in sparse_states(sparse_state):
            params = self.apply_masks(params, state.masks, is_packed=self.use_packed_masks)
        return params

    def apply_masks(self, params: Params, masks: PyTree, is_packed: bool | None = False) -> Params:
        """Weights times masks; `is_packed` None: as the updater's are."""
        return apply_masks(params, masks, self.use_packed_masks if is_packed is None else is_packed)

    def unpacked_masks(self, sparse_state: SparseState, params: Params) -> PyTree:
        """The state's masks in the shapes of the weights."""
        masks = sparse_state.masks
        return unpack_masks(masks, params) if self.use_packed_masks else masks

    def removed_last(self, scores: PyTree, sparse_state: SparseState | None) -> PyTree:
        """Scores in which weights already removed rank below all others, so none comes back."""
        if sparse_state is None:
            return scores
        masks = self.unpacked_masks(sparse_state, scores)
        return map_masks(lambda mask, s: jnp.where(mask, s, -jnp.inf), masks, scores)

    def may_regrow(self) -> bool:
        """Whether a weight once removed may come back."""
        schedule = getattr(self.scheduler, "schedule", self.scheduler)  # of InEpochs
        rises = type(schedule) in NEVER_FALLING and not getattr(schedule, "initial", 0)
        own_scores = type(self).calculate_scores.__module__.startswith("bap_jax.")
        return not (rises and own_scores and self.topk_fn is None)

    def changes_masks_only(self) -> bool:
        """Whether `update_state` leaves the inner optimiser's state alone."""
        return type(self).update_state in (BaseUpdater.update_state, NoPruning.update_state)

    def zeroes_removed(self) -> bool:
        """Whether removed weights are to be 0 after every step."""
        return type(self).post_gradient_update is BaseUpdater.post_gradient_update

    def find_targets(self, params: Params) -> PyTree:
        """Target sparsities of a state to start with; None without a distribution."""
        return self.sparsity_distribution_fn and self.sparsity_distribution_fn(params)

    def take_targets(self, targets: PyTree) -> None:
        """Has these in place of its own, of the structure that `find_targets` returns."""
        self.sparsity_distribution_fn = lambda params: targets

    def exact_counts(self, params: Params) -> np.ndarray | None:
        """How many units stay, where sparsities are known beforehand.

        Args:
          params: only paths and shapes are read.

        Returns:
          `(leaf, update)` int32, or None where counts follow from float32 sparsities.
        """
        is_counted = self.topk_fn is None and not isinstance(self.sparsity_type, NByM)
        return self._count_table(params) if is_counted and self.counting == "ceil" else None

    def _count_table(self, params):
        return count_table(self.counting, self._counting_schedule(), *self._counted(params))

    def _counted(self, params):
        """Targets and sizes of what has a count of its own."""
        targets = self.find_targets(params)

        def sizes(_, leaves):
            return [mask_calculator.units(leaf.shape, self.sparsity_type) for leaf in leaves]

        return jax.tree.leaves(targets), jax.tree.leaves(map_pruned(sizes, targets, params))

    def _counting_schedule(self):
        return self.scheduler

    def _exactly(self, params, count):
        """`kept` of `create_masks` at a step, where it is known beforehand."""
        table = self._given_counts
        table = self.exact_counts(params) if table is None else table
        return {} if table is None else {"kept": counts_at(table, self._counting_schedule(), count)}

    def _at_target(self):
        """As `_exactly`, at the target; of targets that are Python numbers counts are exact."""
        return {} if self._given_counts is None else {"kept": self._given_counts[:, -1]}

    def _pack(self, masks):
        return pack_masks(masks) if self.use_packed_masks else masks


@dataclasses.dataclass(eq=False)
class NoPruning(BaseUpdater):
    """Keeps the weights dense."""

    needs_gradients: ClassVar[bool] = False

    sparsity_distribution_fn: Callable[[Params], PyTree] | None = None

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """No masks."""
        del target_sparsities
        return jax.tree.map(lambda leaf: None, params)

    def update_state(self, sparse_state: SparseState, params: Params, grads: PyTree) -> SparseState:
        """The state as it is."""
        del params, grads
        return sparse_state

    def instant_sparsify(self, params: Params, grads: PyTree = None) -> tuple[Params, PyTree]:
        """The parameters as they are, and no masks."""
        del grads
        return params, self.get_initial_masks(params, None)
