"""What every pruning algorithm shares: jaxpruner's protocol (arXiv 2304.14082).

    score ─► how many stay, by distribution and schedule ─► masks ─► weights times masks

An updater is a recipe; everything that changes is in a `SparseState`. There are two ways to use it:

    params, masks = updater.instant_sparsify(params)                    # once

    tx = updater.wrap_optax(tx)                                         # while training
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    params = updater.post_gradient_update(params, opt_state)

The updates that the wrapped optimiser returns already set removed weights to 0. The last line is
needed where other transformations follow the wrapped optimiser, and by algorithms that override
`post_gradient_update`.
"""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import optax

from bap_jax.errors import UserError
from bap_jax.kernel_uses import KernelAxes
from bap_jax.pruning import hooks, mask_calculator, moments, sparsity_distributions
from bap_jax.pruning.counting import check_counting
from bap_jax.pruning.exact_counts import ExactCounts
from bap_jax.pruning.guarantees import Guarantees
from bap_jax.pruning.masks import (
    apply_masks,
    check_not_nan,
    map_masks,
    map_pruned,
    pack_masks,
    unpack_masks,
)
from bap_jax.pruning.schedule_protocol import Schedule
from bap_jax.pruning.sparse_state import SparseState, sparse_states
from bap_jax.pruning.sparsity_schedules import NoUpdateSchedule
from bap_jax.pruning.sparsity_types import SparsityType, Unstructured, check_type
from bap_jax.pruning.wrapping import wrap
from bap_jax.trees import paths_of_leaves
from bap_jax.types import Array, Params, PyTree


@dataclasses.dataclass(eq=False)
class BaseUpdater(Guarantees, ExactCounts):
    """Base of all algorithms. A criterion of your own overrides `calculate_scores`:

        class SquaredWeights(pruning.BaseUpdater):
            needs_gradients = False

            def calculate_scores(self, params, sparse_state=None, grads=None):
                return self.removed_last(jax.tree.map(jnp.square, params), sparse_state)

        pruning.register_algorithm("squares", SquaredWeights)

    It then works with `wrap_optax` and `instant_sparsify` and, since it is registered, as
    `pruning.algorithm="squares"` in settings and configs. `Declarations` lists the class attributes
    that say how an algorithm differs from others. An algorithm that is more than a score overrides
    `update_masks` or `get_initial_masks`; a class with more fields is a
    `dataclasses.dataclass(eq=False)` and gives them defaults. A criterion that looks at data once,
    before training, subclasses `pruning.MasksFromData`.

    Attributes:
      scheduler: when masks change, and how sparse they are then.
      skip_gradients: whether the inner optimiser rests on steps that change masks.
      is_sparse_gradients: whether gradients of removed weights are hidden from the inner optimiser.
      sparsity_type: in which shapes weights are removed.
      sparsity_distribution_fn: `params -> ` target of each leaf, None where it is not pruned.
      rng_seed: a key, or an int, for what is random.
      use_packed_masks: whether the state holds masks as bits.
      topk_fn: `(score, sparsity) -> mask`, used in place of `sparsity_type`; where it is left out,
        what the sparsity type does.
      counting: how many weights stay: `round` (jaxpruner) or `ceil` (the paper), see
        `pruning.counting`. `ceil` takes the distribution's sparsities where these are Python
        numbers, not the float32 ones of the state.
      pruned_moments: see `pruning.moments`.
      kernel_axes: from `pruning.kernel_axes`; layers that are stacked in a leaf are pruned each by
        itself. A distribution that has an argument of this name gets it, too.
      is_packed: another name of `use_packed_masks` for the constructor.
      extra_arguments: arguments of `tx.update` and `instant_sparsify` beyond gradients, on a copy
        that lives as long as one call; `calculate_scores` gets those that it takes.

    Raises:
      UserError: an unknown sparsity type, counting rule or rule for moments.
    """

    never_regrows: ClassVar[bool] = True
    keeps_inner_state: ClassVar[bool] = True
    zeroes_after_update: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True
    extra_arguments: ClassVar[Mapping[str, Any]] = {}

    scheduler: Schedule = NoUpdateSchedule()
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
    kernel_axes: Mapping[str, KernelAxes] | None = dataclasses.field(default=None, kw_only=True)
    is_packed: bool | None = dataclasses.field(default=None, kw_only=True, repr=False)

    def __post_init__(self):
        if self.sparsity_type in (Unstructured, Unstructured()):
            self.sparsity_type = Unstructured()
        check_type(self.sparsity_type)
        check_counting(self.counting)
        moments.check_moments_rule(self.pruned_moments)
        if self.is_packed is not None:
            self.use_packed_masks, self.is_packed = self.is_packed, None
        if self.has_standard_topk():
            self.topk_fn = mask_calculator.StandardTopk(self.sparsity_type, self.counting)
        self.rng_seed = self._key

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: PyTree = None
    ) -> PyTree:
        """A score for each weight; the largest stay. Subclasses override this.

        Args:
          params: the weights.
          sparse_state: the state before the update; None for `instant_sparsify`.
          grads: a tree like `params`; None where there are no gradients.

        Returns:
          A tree like `params` of float arrays of the same shapes.
        """
        raise NotImplementedError

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """The masks of the first step: everything stays."""

        def ones(_, leaves):
            return [jnp.ones(jnp.shape(leaf), mask_calculator.MASK_DTYPE) for leaf in leaves]

        return map_pruned(ones, target_sparsities, params)

    def create_masks(self, scores: PyTree, sparsities: PyTree, kept: Array | None = None) -> PyTree:
        """Masks from scores; None where the sparsity is None.

        Args:
          scores: the largest stay.
          sparsities: a float for each pruned leaf.
          kept: `(leaf,)` int32 for the pruned leaves, used in place of `sparsities`.

        Raises:
          UserError: a score is NaN, or a shape does not go with the sparsity type.
        """
        check_not_nan(scores, sparsities)

        def create(amounts, leaves, paths):
            if not self.has_standard_topk():
                return [self._own_mask(*pair) for pair in zip(leaves, amounts, strict=True)]
            axes = self.checked_axes(leaves, paths)
            return mask_calculator.masks_for(
                leaves, amounts, self.sparsity_type, self.counting, kept, axes
            )

        return map_pruned(create, sparsities, scores, paths_of_leaves(scores))

    def init_state(self, params: Params) -> SparseState:
        """The state before the first step, without an inner one."""
        targets = self.leaf_targets(params)
        masks = self.get_initial_masks(params, targets)
        return SparseState(
            masks=self._pack(masks), target_sparsities=targets, count=jnp.zeros([], jnp.int32)
        )

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """New masks, not packed, for the step `sparse_state.count`."""
        targets, count = sparse_state.target_sparsities, sparse_state.count
        sparsities = self.scheduler.get_sparsity_at_step(targets, count)
        scores = hooks.scores(self, params, sparse_state=sparse_state, grads=grads)
        return self._masks_from(scores, sparsities, self._kept_at(params, count))

    def new_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """The masks of `update_state`, packed if the updater packs them."""
        if hooks.is_unchanged(self, BaseUpdater, "update_state"):
            return self._pack(self.update_masks(sparse_state, params, grads))
        return self.update_state(sparse_state, params, grads).masks

    def update_state(self, sparse_state: SparseState, params: Params, grads: PyTree) -> SparseState:
        """The state with new masks, made from weights and gradients.

        Moments of weights that come back are 0, unless `pruned_moments` is `keep`; around an
        optimiser (`wrap_optax`) they are what the optimiser starts with.
        """
        masks = self._pack(self.update_masks(sparse_state, params, grads))
        new = sparse_state._replace(masks=masks)
        if self.pruned_moments == "keep" or not self.may_regrow():
            return new
        before, after = (self.unpacked_masks(each, params) for each in (sparse_state, new))
        back = moments.came_back(before, after)
        return new._replace(inner_state=moments.zeroed(new.inner_state, back))

    def wrap_optax(
        self, inner: optax.GradientTransformation
    ) -> optax.GradientTransformationExtraArgs:
        """An optimiser that also prunes; see `pruning.wrapping.wrap`."""
        return wrap(self, inner)

    def instant_sparsify(
        self, params: Params, grads: PyTree = None, importance: PyTree = None, **extra: Any
    ) -> tuple[Params, PyTree]:
        """Prunes once, to the targets.

        Args:
          params: the weights.
          grads: a tree like `params`.
          importance: scores to use in place of `calculate_scores`; an argument of it if it takes
            one of this name.
          **extra: more arguments of `calculate_scores`.

        Returns:
          Pruned parameters and masks.

        Raises:
          UserError: there is no distribution, a score is NaN, or `calculate_scores` does not take
            an extra argument.
        """
        sparsities = self._needed_targets(params)
        extra |= {} if importance is None else {hooks.IMPORTANCE: importance}
        hooks.check_arguments(self, extra)
        scores = hooks.scores(hooks.with_arguments(self, extra), params, grads=grads)
        masks = self._masks_from(scores, sparsities, self._kept_at_target())
        return self.apply_masks(params, masks, is_packed=False), self._pack(masks)

    def pre_forward_update(self, params: Params, opt_state: PyTree) -> Params:
        """The weights with which to apply the network."""
        del opt_state
        return params

    def post_gradient_update(self, params: Params, sparse_state: PyTree) -> Params:
        """The weights to carry on with: removed ones are 0.

        Args:
          params: after `optax.apply_updates`, or an average of weights.
          sparse_state: the optimiser's state, or any tree that holds it.
        """
        for state in sparse_states(sparse_state):
            params = self.apply_masks(params, state.masks, is_packed=self.use_packed_masks)
        return params

    def apply_masks(self, params: Params, masks: PyTree, is_packed: bool | None = False) -> Params:
        """Weights times masks; `is_packed` None: as the updater packs its own."""
        return apply_masks(params, masks, self.use_packed_masks if is_packed is None else is_packed)

    def unpacked_masks(self, sparse_state: SparseState, params: Params) -> PyTree:
        """The state's masks in the shapes of the weights."""
        masks = sparse_state.masks
        return unpack_masks(masks, params) if self.use_packed_masks else masks

    def removed_last(self, scores: PyTree, sparse_state: SparseState | None) -> PyTree:
        """Scores in which removed weights rank below all others, so that none comes back."""
        if sparse_state is None:
            return scores
        masks = self.unpacked_masks(sparse_state, scores)
        return map_masks(lambda mask, s: jnp.where(mask, s, -jnp.inf), masks, scores)

    def hooks_outside_training(self) -> tuple[str, ...]:
        """Own methods that only a loop around `wrap_optax` calls, not a step of `training`."""
        names = (
            ("wrap_optax",) if self.is_straight_through else ("wrap_optax", "pre_forward_update")
        )
        return tuple(name for name in names if not hooks.is_unchanged(self, BaseUpdater, name))

    @property
    def _key(self) -> Array:
        seed = 8 if self.rng_seed is None else self.rng_seed
        return (
            jax.random.key(int(seed)) if isinstance(seed, numbers.Integral) else cast(Array, seed)
        )

    def _own_mask(self, score, sparsity):
        mask = jnp.asarray(cast(Callable, self.topk_fn)(score, sparsity))
        return mask.astype(mask_calculator.MASK_DTYPE) if mask.dtype == bool else mask

    def _masks_from(self, scores, sparsities, kept):
        return self.create_masks(scores, sparsities, **hooks.accepted(self.create_masks, kept))

    def _needed_targets(self, params):
        if self.sparsity_distribution_fn is None:
            raise UserError("sparsity_distribution_fn needs to be provided for sparsification.")
        return self.leaf_targets(params)

    def _pack(self, masks):
        return pack_masks(masks) if self.use_packed_masks else masks
