"""An optax optimiser that prunes: masks on a schedule, then the inner update, then zeros.

    new masks if due ─► gradients, masked or not ─► inner update ─► −θ where removed

The last part makes `optax.apply_updates` itself set removed weights to exactly 0 (θ − θ), so users
cannot forget it. It is left out for updaters that override `post_gradient_update`.
"""

import jax
import jax.numpy as jnp
import optax

from bap_jax.compilation import with_usual_promotion
from bap_jax.errors import UserError
from bap_jax.pruning import averaged, hooks, moments
from bap_jax.pruning.masks import map_masks
from bap_jax.pruning.members import cond_per_member
from bap_jax.pruning.sparse_state import sparse_states
from bap_jax.trees import paths_of_leaves
from bap_jax.types import Params, PyTree


def wrap(updater, inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Wraps a whole optimiser, learning rate included.

    Args:
      updater: a `BaseUpdater`.
      inner: the optimiser; extra arguments of `update` reach it, and `calculate_scores` gets those
        that it takes.

    Returns:
      A transformation whose state is a `SparseState`.

    Raises:
      UserError: `update` is called without the parameters, or `init` with the two sets of weights
        of `optax.lookahead`.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params):
        if isinstance(params, optax.LookaheadParams):
            raise UserError(
                "fast and slow weights would get masks of their own; put lookahead around pruning: "
                "optax.lookahead(updater.wrap_optax(...), sync_period, slow_step_size)."
            )
        return updater.init_state(params)._replace(inner_state=inner.init(params))

    # Optax multiplies floats by integer counts, which `strict` promotion refuses.
    @with_usual_promotion
    def update(updates, state, params=None, **extra_args):
        if params is None:
            raise UserError("pruning reads the weights; write tx.update(grads, state, params).")
        asked = hooks.with_arguments(updater, extra_args)
        due = jnp.asarray(updater.scheduler.is_mask_update_iter(state.count))
        state = _update_state(asked, inner, state, params, updates, due)
        masks = updater.unpacked_masks(state, params)
        if updater.is_sparse_gradients:
            updates = updater.apply_masks(updates, masks, is_packed=False)
        updates, inner_state = _inner_update(
            updater, inner, updates, state.inner_state, params, due, extra_args
        )
        if updater.pruned_moments == "zero":
            removed = map_masks(lambda mask: mask == 0, masks, otherwise=lambda: None)
            inner_state = moments.refresh(inner.init, inner_state, removed, params)
        if updater.zeroes_removed():
            updates = map_masks(_remove, masks, updates, params, otherwise=lambda u, p: u)
            inner_state = averaged.with_removed_at_zero(inner_state, masks)
        count = optax.safe_increment(state.count)
        return updates, state._replace(inner_state=inner_state, count=count)

    return optax.GradientTransformationExtraArgs(init, update)


def check_applied(params: Params, opt_state: PyTree) -> None:
    """Raises an error where removed weights are not 0.

    For use outside jit, for instance once an epoch and before a network is saved. Give it the
    weights that you evaluate and save: where these are an average, such as a moving average of your
    own, the average. The average of a schedule-free optimiser is checked with the weights.

    Args:
      params: the weights, or an average of them.
      opt_state: of the optimiser, or any tree that holds the pruner's state.

    Raises:
      UserError: a removed weight is not 0; the message names the leaf and says what to write.
    """
    for found in both_of_lookahead(params):
        _check_zero(found, opt_state, _HINT)
        if averaged.schedule_free_states(opt_state):
            average = averaged.evaluation_params(found, opt_state)
            _check_zero(average, opt_state, _HINT_SCHEDULE_FREE)


def both_of_lookahead(params: Params) -> tuple[Params, ...]:
    """The fast and the slow weights of `optax.lookahead`; other weights as they are."""
    is_pair = isinstance(params, optax.LookaheadParams)
    return (params.fast, params.slow) if is_pair else (params,)


_HINT = (
    "{count} removed weights of {path} are not 0. After optax.apply_updates, and where you average "
    "weights, write: params = updater.post_gradient_update(params, opt_state)."
)
_HINT_SCHEDULE_FREE = (
    "{count} removed weights of {path} are not 0 in the average of a schedule-free optimiser, "
    "schedule_free_eval_params. Put pruning around it: "
    "updater.wrap_optax(optax.contrib.schedule_free(...))."
)


def _check_zero(params, opt_state, hint):
    paths = paths_of_leaves(params)

    def check(mask, param, path):
        if mask.shape != param.shape:  # packed
            mask = jnp.unpackbits(mask, count=param.size).reshape(param.shape)
        if count := int(jnp.sum((mask == 0) & (param != 0))):
            raise UserError(hint.format(count=count, path=path))

    for state in sparse_states(opt_state):
        map_masks(check, state.masks, params, paths, otherwise=lambda param, path: None)


def _update_state(updater, inner, state, params, grads, due):
    """New masks where due; weights that come back get fresh moments."""
    if updater.scheduler.is_mask_update_iter(state.count) is False:
        return state
    if not updater.changes_masks_only():
        return cond_per_member(due, updater.update_state, _keep_state, state, params, grads)
    # Masks have no derivative, so what they are made of must not be differentiated.
    fixed = jax.lax.stop_gradient((state._replace(inner_state=None), params, grads))
    inner_state = jax.lax.stop_gradient(state.inner_state)

    def update_masks(outer, params, grads):
        # Closed over: only an updater that reads the optimiser's state has a use for it.
        whole = outer._replace(inner_state=inner_state)
        return hooks.new_masks(updater, whole, params, grads)

    masks = cond_per_member(due, update_masks, _keep_masks, *fixed)
    new = state._replace(masks=masks)
    if updater.pruned_moments == "keep" or not updater.may_regrow():
        return new
    old_masks, new_masks = (updater.unpacked_masks(each, params) for each in (state, new))
    back = moments.came_back(old_masks, new_masks)
    inner_state = moments.refresh(inner.init, state.inner_state, back, params)
    return new._replace(inner_state=inner_state)


def _keep_state(state, params, grads):
    del params, grads
    return state


def _keep_masks(state, params, grads):
    del params, grads
    return state.masks


def _inner_update(updater, inner, updates, inner_state, params, due, extra_args):
    def run(updates, inner_state):
        return inner.update(updates, inner_state, params, **extra_args)

    def rest(updates, inner_state):
        shapes, _ = jax.eval_shape(run, updates, inner_state)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), inner_state

    if not updater.skip_gradients:
        return run(updates, inner_state)
    return jax.lax.cond(due, rest, run, updates, inner_state)


def _remove(mask, update, param):
    # In the wider type of the two: a rounded −θ would leave a rest of θ.
    return jnp.where(mask, update, -param)
