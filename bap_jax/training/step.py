"""One training step as a pure function (method.md, section 2).

masks (first step of a pruning epoch) ─► forward ─► group sums ─► buffer ─► violation
    ─► multipliers ─► gradient of the Lagrangian ─► weights ─► masked weights
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints import Constraint, Observations, activate_when, mean_loss
from bap_jax.constraints.objectives import Objective
from bap_jax.data.batches import gather
from bap_jax.lagrangian import Evaluation, Scheme, each_set
from bap_jax.models import Model
from bap_jax.pruning import apply_masks, moments
from bap_jax.pruning.masks import map_masks
from bap_jax.training.masking import (
    Pruner,
    check_pruner,
    finalize_params,
    initial_masks,
    masked_params,
    regrown,
    update_masks,
)
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.types import Array, Dataset, UserError, Variables


class Trainer(NamedTuple):
    """A training run's two pure functions.

    Attributes:
      init: `(Variables, key) -> TrainState`.
      step: `(TrainState, Dataset, indices (batch,), epoch ()) -> (TrainState, StepMetrics)`; a
          negative index −1 − i is sample i with weight 0. Pure; jit, vmap and scan it as you like.
    """

    init: Callable[[Variables, Array], TrainState]
    step: Callable[[TrainState, Dataset, Array, Array], tuple[TrainState, StepMetrics]]


def make_trainer(
    model: Model,
    scheme: Scheme,
    constraint: Constraint,
    pruner: Pruner,
    *,
    objective: Objective = mean_loss,
    constrained_from: int | None = None,
    label_smoothing: float = 0.0,
) -> Trainer:
    """Puts a network, a scheme, a constraint and a pruner together.

    Args:
      model: the network.
      scheme: how weights and multipliers move.
      constraint: what must hold.
      pruner: when and how masks change.
      objective: what the weights minimise.
      constrained_from: first epoch in which objective and constraint act; before it the weights
        minimise the mean loss, and neither multipliers nor the constraint's state move. By default
        the epoch of the last pruning.
      label_smoothing: of the cross-entropy, in objective and constraints alike.

    Raises:
      UserError: the pruner is not usable, or leaves open when the constraint is to act.
    """
    check_pruner(pruner)
    first = pruner.last_epoch if constrained_from is None else constrained_from
    if first is None:
        raise UserError("the pruner's last epoch is not known; say constrained_from=EPOCH.")
    task = _Task(model, constraint, objective, label_smoothing, pruner)

    def init(variables, key):
        return _first_state(variables, key, scheme, constraint, pruner)

    def step(state, data, indices, epoch):
        epoch = jnp.asarray(epoch, jnp.int32)
        batch = gather(data, indices)
        masks = update_masks(
            pruner, state, epoch, task.gradient, state.model_state, _step_key(state), *batch
        )
        state = _restart_moments(pruner, state, masks, scheme, constraint.size)
        problem = _problem(task, state, masks, *batch, epoch >= first)
        params, lagrangian, info = scheme.update(problem, state.params, state.lagrangian)
        params, masks = finalize_params(pruner, params, masks, state, epoch)
        model_state, memory, *_ = info.evaluation.aux
        new_state = state._replace(
            params=params,
            model_state=model_state,
            masks=masks,
            lagrangian=lagrangian,
            constraint=memory,
            step=state.step + 1,
            epoch=epoch,
        )
        return new_state, _step_metrics(info, lagrangian.multipliers)

    return Trainer(init, step)


class _Task(NamedTuple):
    """What is evaluated in every step."""

    model: Model
    constraint: Constraint
    objective: Objective
    label_smoothing: float
    pruner: Pruner

    def gradient(self, params, model_state, key, batch, weight):
        """Of the batch's mean loss, with respect to every weight, removed ones included."""

        def loss(params):
            variables = Variables(params, model_state)
            logits, _ = self.model.apply(variables, batch.inputs, train=True, key=key)
            return mean_loss(_observe(logits, batch, weight, self.label_smoothing))

        return jax.grad(loss)(params)


def _step_key(state):
    return jax.random.fold_in(state.key, state.step)


def _restart_moments(pruner, state, masks, scheme, num_constraints):
    """Fresh moments where the updater's rule asks for them, see `pruning.moments`."""
    rule = pruner.updater.pruned_moments
    unneeded = rule == "restart" and not pruner.updater.may_regrow()
    if rule == "keep" or unneeded or pruner.is_straight_through:
        return state

    def init(params):
        return scheme.init(params, num_constraints).primal_state

    fresh = regrown(state.masks, masks)
    if rule == "zero":
        fresh = map_masks(
            lambda back, mask: back | (mask == 0), fresh, masks, otherwise=lambda mask: None
        )
    old = state.lagrangian.primal_state
    primal_state = moments.refresh(init, old, fresh, state.params)
    return state._replace(lagrangian=state.lagrangian._replace(primal_state=primal_state))


def _problem(task, state, masks, batch, weight, active):
    """The step's problem as a function of the weights; objective and constraint act if `active`."""
    key = _step_key(state)

    def problem(params, after=None):
        model_state, memory = (
            (state.model_state, state.constraint) if after is None else after.aux[:2]
        )
        variables = Variables(masked_params(task.pruner, params, masks), model_state)
        logits, model_state = task.model.apply(variables, batch.inputs, train=True, key=key)
        seen = _observe(logits, batch, weight, task.label_smoothing)
        # Without weight a sample leaves the constraint's state alone: no copy of it is needed.
        watched = seen._replace(weight=jnp.where(active, weight, 0))
        values, memory = task.constraint.evaluate(memory, watched)
        values = each_set(lambda one: activate_when(one, active), values)
        loss, accuracy = mean_loss(seen), metrics.weighted_mean(seen.correct, weight)
        goal = loss
        if task.objective is not mean_loss:
            goal = jnp.where(active, task.objective(seen), loss)
        return Evaluation(
            goal, values, (model_state, memory, loss, accuracy, _nonfinite_group(seen))
        )

    return problem


def _first_state(variables, key, scheme, constraint, pruner):
    masks, targets = initial_masks(pruner, variables.params)
    params = variables.params
    return TrainState(
        params if pruner.is_straight_through else apply_masks(params, masks),
        variables.state,
        masks=masks,
        targets=targets,
        lagrangian=scheme.init(params, constraint.size),
        constraint=constraint.init(),
        step=jnp.int32(0),
        epoch=jnp.int32(-1),
        key=key,
    )


def _observe(logits, batch, weight, label_smoothing):
    return Observations(
        metrics.cross_entropy(logits, batch.labels, label_smoothing),
        metrics.correctness(logits, batch.labels),
        batch.group_ids,
        weight,
        batch.labels,
        logits,
        batch.dense_logits,
    )


def _nonfinite_group(seen):
    """Group of the first sample whose loss is not finite, where that is not so of all."""
    bad = ~jnp.isfinite(seen.loss)
    group = seen.group_ids[jnp.argmax(bad), 0]
    return jnp.where(bad.any() & ~bad.all(), group, -1)


def _step_metrics(info, multipliers):
    *_, loss, accuracy, nonfinite_group = info.evaluation.aux

    def pick(name):
        return each_set(lambda values: getattr(values, name), info.evaluation.constraints)

    def seen(name):
        return jax.tree.map(
            lambda value, mask: jnp.where(mask, value, jnp.nan), pick(name), pick(f"{name}_mask")
        )

    return StepMetrics(
        loss=loss,
        accuracy=accuracy,
        lagrangian=info.lagrangian,
        multipliers=multipliers,
        violation=seen("violation"),
        proxy=seen("proxy"),
        violation_mask=pick("violation_mask"),
        proxy_mask=pick("proxy_mask"),
        nonfinite_group=nonfinite_group,
    )
