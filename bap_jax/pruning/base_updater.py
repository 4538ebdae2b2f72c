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
from collections.abc import Callable
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
import optax

from bap_jax.errors import UserError
from bap_jax.pruning import mask_calculator, moments, sparsity_distributions
from bap_jax.pruning.counting import check_counting
from bap_jax.pruning.declarations import Declarations
from bap_jax.pruning.exact_counts import ExactCounts
from bap_jax.pruning.masks import (
    apply_masks,
    check_not_nan,
    map_masks,
    map_pruned,
    pack_masks,
    unpack_masks,
)
from bap_jax.pruning.promises import promised
from bap_jax.pruning.schedule_protocol import Schedule, never_falls
from bap_jax.pruning.sparse_state import SparseState, sparse_states
from bap_jax.pruning.sparsity_schedules import NoUpdateSchedule
from bap_jax.pruning.sparsity_types import SparsityType, Unstructured, check_type
from bap_jax.pruning.wrapping import wrap
from bap_jax.types import Array, Params, PyTree


@dataclasses.dataclass(eq=False)
class BaseUpdater(Declarations, ExactCounts):
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
      topk_fn: `(score, sparsity) -> mask`, used in place of `sparsity_type`.
      counting: how many weights stay: `round` (jaxpruner) or `ceil` (the paper), see
        `pruning.counting`. `ceil` takes the distribution's sparsities where these are Python
        numbers, not the float32 ones of the state.
      pruned_moments: see `pruning.moments`.
      is_packed: another name of `use_packed_masks`.

    Raises:
      UserError: an unknown sparsity type, counting rule or rule for moments.
    """

    never_regrows: ClassVar[bool] = True
    keeps_inner_state: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

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
            self.rng_seed = jax.random.key(8 if self.rng_seed is None else int(self.rng_seed))

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
        """New masks, not packed, for the step `sparse_state.count`."""
        targets, count = sparse_state.target_sparsities, sparse_state.count
        sparsities = self.scheduler.get_sparsity_at_step(targets, count)
        scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads)
        return self.create_masks(scores, sparsities, **self._kept_at(params, count))

    def update_state(self, sparse_state: SparseState, params: Params, grads: PyTree) -> SparseState:
        """The state with new masks, made from weights and gradients."""
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
        sparsities = self._needed_targets(params)
        scores = self.calculate_scores(params, grads=grads)
        masks = self.create_masks(scores, sparsities, **self._kept_at_target())
        return apply_masks(params, masks), self._pack(masks)

    def pre_forward_update(self, params: Params, opt_state: PyTree) -> Params:
        """The weights with which to apply the network."""
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

    def may_regrow(self) -> bool:
        """Whether a removed weight may come back."""
        methods = "calculate_scores", "create_masks", "update_masks"
        ranks_last = self.topk_fn is None and promised(type(self), "never_regrows", *methods)
        return not (ranks_last and never_falls(self.scheduler))

    def changes_masks_only(self) -> bool:
        """Whether `update_state` leaves the inner optimiser's state alone."""
        return promised(type(self), "keeps_inner_state", "update_state")

    def zeroes_removed(self) -> bool:
        """Whether removed weights are 0 after every step."""
        return type(self).post_gradient_update is BaseUpdater.post_gradient_update

    @property
    def _key(self) -> Array:
        return cast(Array, self.rng_seed)

    def _needed_targets(self, params):
        if self.sparsity_distribution_fn is None:
            raise UserError("sparsity_distribution_fn needs to be provided for sparsification.")
        return self.sparsity_distribution_fn(params)

    def _pack(self, masks):
        return pack_masks(masks) if self.use_packed_masks else masks


@dataclasses.dataclass(eq=False)
class NoPruning(BaseUpdater):
    """Keeps the weights dense."""

    needs_gradients: ClassVar[bool] = False
    default_schedule: ClassVar[str] = "none"
    has_sparsity: ClassVar[bool] = False
    keeps_inner_state: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

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
