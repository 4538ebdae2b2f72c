"""Pruning within a training step: an updater, what its schedule counts, and what the network sees.

Removed weights are 0 after every step, whoever wrote the updater, so a user has nothing to call.
Straight-through updaters keep dense weights and the masks of the current step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from bap_jax.errors import UserError
from bap_jax.pruning import NoPruning, SparseState, apply_masks, hooks, moments
from bap_jax.pruning.masks import map_masks
from bap_jax.pruning.members import cond_per_member
from bap_jax.types import Array, Params, PyTree


class GradientFn(Protocol):
    """The gradient of the mean loss of a batch."""

    def __call__(self, params: Params, *operands: PyTree) -> Params:
        """A tree like `params`, with respect to every weight, removed ones included.

        Args:
          params: the weights.
          *operands: what else the loss depends on.
        """
        ...


class Pruner(NamedTuple):
    """A pruning updater and what its schedule counts.

    Of what `update_state` returns, masks and the optimiser's state are kept. `skip_gradients` and
    `is_sparse_gradients` have no effect here: removed weights get no gradient, and the optimiser
    moves at every step.

    Attributes:
      updater: a `pruning.BaseUpdater`, or any object with jaxpruner's protocol.
      unit: `epoch` (masks change as an epoch begins) or `step`.
    """

    updater: Any
    unit: str = "epoch"

    @property
    def last_epoch(self) -> int | None:
        """The last epoch that changes a mask; −1: none does, None: not known."""
        last = getattr(self.updater.scheduler, "last_update_step", None)
        return last if self.unit == "epoch" or last == -1 else None

    @property
    def is_straight_through(self) -> bool:
        """Whether the weights stay dense and only what the network sees is masked."""
        return getattr(self.updater, "is_straight_through", False)

    @property
    def masks_last_an_epoch(self) -> bool:
        """Whether masks change in the first step of an epoch, and in no other."""
        return self.unit == "epoch" and not self.is_straight_through


def no_pruning() -> Pruner:
    """Keeps every weight and has no masks."""
    return Pruner(NoPruning())


def check_pruner(pruner: Pruner) -> None:
    """Raises an error for a pruner that a training step cannot use.

    Raises:
      UserError: its masks are packed, or its unit is unknown.
    """
    if pruner.unit not in ("epoch", "step"):
        raise UserError(f"a pruner's unit is 'epoch' or 'step'; got {pruner.unit!r}.")
    if pruner.updater.use_packed_masks:
        raise UserError("training keeps its masks unpacked; leave out use_packed_masks=True.")
    if own := getattr(pruner.updater, "hooks_outside_training", tuple)():
        written = getattr(pruner.updater, "original", pruner.updater)  # by the user
        raise UserError(
            f"{type(written).__name__} has its own {' and '.join(own)}, which a training "
            "step does not call. Use the updater in a loop of your own, with "
            "updater.wrap_optax(...); a straight-through updater subclasses pruning.ste.SteMixin."
        )


def initial_masks(pruner: Pruner, params: Params) -> tuple[PyTree, PyTree]:
    """The masks of the first step, and target sparsities as `()` float32."""
    sparse = pruner.updater.init_state(params)
    targets = jax.tree.map(
        lambda target: jnp.asarray(target, jnp.float32), sparse.target_sparsities
    )
    if pruner.is_straight_through:
        return pruner.updater.present_masks(params, sparse), targets
    return sparse.masks, targets


def update_masks(
    pruner: Pruner, state: Any, epoch: Array, gradient: GradientFn, *operands: PyTree
) -> tuple[PyTree, PyTree]:
    """The masks of this step, new ones where the schedule says so, and the optimiser's state.

    The optimiser's state changes where `update_state` changes it.

    Args:
      pruner: the updater and its unit.
      state: a `TrainState`, before the step.
      epoch: `()` int32, the epoch of the step.
      gradient: called only if the updater needs gradients and masks are due.
      *operands: passed to `gradient`.
    """
    updater, optimizer = pruner.updater, state.lagrangian.primal_state
    begins = epoch != state.epoch
    count = epoch if pruner.unit == "epoch" else state.step
    due = updater.scheduler.is_mask_update_iter(count)
    if pruner.is_straight_through:
        due = begins
    elif due is False:
        return state.masks, optimizer
    elif pruner.unit == "epoch":
        due = due & begins

    def update(sparse, params, operands):
        if pruner.is_straight_through:
            return updater.present_masks(params, sparse)
        grads = gradient(params, *operands) if updater.needs_gradients else None
        if keeps_optimizer:
            # Closed over: only an updater that reads the optimiser's state has a use for it.
            return hooks.new_masks(updater, sparse._replace(inner_state=optimizer), params, grads)
        new = updater.update_state(sparse, params, grads)
        return new.masks, new.inner_state

    def keep(sparse, params, operands):
        del params, operands
        return sparse.masks if keeps_optimizer else (sparse.masks, sparse.inner_state)

    keeps_optimizer = pruner.is_straight_through or updater.changes_masks_only()
    keeps_optimizer |= getattr(updater, "restarts_moments_itself", False)
    inner = optax.EmptyState() if keeps_optimizer else optimizer
    sparse = SparseState(state.masks, inner, state.targets, count)
    operands = operands if updater.needs_gradients else ()
    new = cond_per_member(due, update, keep, sparse, state.params, operands)
    return (new, optimizer) if keeps_optimizer else new


def masked_params(pruner: Pruner, params: Params, masks: PyTree) -> Params:
    """The weights with which to apply the network; straight-through gradients reach all of them."""
    masked = apply_masks(params, masks)
    if not pruner.is_straight_through:
        return masked
    # θ + (0 − θ) and θ + (θ − θ) are exact.
    return jax.tree.map(lambda p, m: p + jax.lax.stop_gradient(m - p), params, masked)


def finalize_params(
    pruner: Pruner, params: Params, state: Any, epoch: Array
) -> tuple[Params, PyTree]:
    """Weights and masks to carry on with, after the weights have been updated.

    Args:
      pruner: the updater and its unit.
      params: the updated weights.
      state: a `TrainState`, before the step but with its masks.
      epoch: `()` int32, the epoch of the step.
    """
    masks = state.masks
    count = epoch if pruner.unit == "epoch" else state.step + 1
    sparse = SparseState(masks, optax.EmptyState(), state.targets, count)
    if pruner.is_straight_through:
        return params, pruner.updater.present_masks(params, sparse)
    return apply_masks(pruner.updater.post_gradient_update(params, sparse), masks), masks


def restart_moments(pruner: Pruner, init: Callable, state: Any, masks: PyTree) -> PyTree:
    """The optimiser's state with fresh moments for weights that come back, see `pruning.moments`.

    Args:
      pruner: its updater says which rule holds.
      init: the optimiser's `init`.
      state: a `TrainState` with the masks before.
      masks: those after.
    """
    updater, old = pruner.updater, state.lagrangian.primal_state
    is_kept = updater.pruned_moments == "keep" or pruner.is_straight_through
    if is_kept or not updater.may_regrow():
        return old
    back = map_masks(lambda before, after: (before == 0) & (after != 0), state.masks, masks)
    return moments.refresh(init, old, back, state.params)


def hold_moments(pruner: Pruner, init: Callable, state: Any) -> PyTree:
    """The optimiser's state with moments of removed weights at 0, if that is the rule."""
    old = state.lagrangian.primal_state
    if pruner.updater.pruned_moments != "zero" or pruner.is_straight_through:
        return old
    removed = map_masks(lambda mask: mask == 0, state.masks, otherwise=lambda mask: None)
    return moments.refresh(init, old, removed, state.params)
