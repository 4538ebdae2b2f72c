"""One training step as a pure function (docs/method.md, section 5 and equations (8) to (10)).

masks (first step of a pruning epoch) ─► forward ─► group sums ─► buffer ─► violation
    ─► multipliers ─► gradient of the Lagrangian ─► weights ─► masked weights
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints import Constraint, Observations, activate_when, mean_loss
from bap_jax.constraints.objectives import Objective
from bap_jax.data.batches import gather
from bap_jax.lagrangian import Evaluation, Scheme, SchemeInfo, each_set
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
from bap_jax.types import Array, Dataset, ModelState, Params, PyTree, UserError, Variables


class StepAux(NamedTuple):
    """What a step needs from the forward pass, apart from loss and constraint values.

    Attributes:
      model_state: arrays that the forward pass moved.
      constraint_state: the constraint's state (replay buffer) after the batch.
      loss: `()` mean cross-entropy of the batch.
      accuracy: `()` fraction right in the batch.
      nonfinite_group: `()` int32, see `StepMetrics`.
    """

    model_state: ModelState
    constraint_state: PyTree
    loss: Array
    accuracy: Array
    nonfinite_group: Array


class Trainer(NamedTuple):
    """A training run as two pure functions, `init` and `step`; `make_trainer` makes one.

    Attributes:
      model: the network.
      scheme: in which order weights and multipliers move.
      constraint: what must hold.
      pruner: when and how masks change.
      objective: what the weights minimise.
      first_epoch: first epoch in which objective and constraint act.
      label_smoothing: of the cross-entropy.
    """

    model: Model
    scheme: Scheme
    constraint: Constraint
    pruner: Pruner
    objective: Objective
    first_epoch: int
    label_smoothing: float

    def init(self, variables: Variables, key: Array) -> TrainState:
        """The state before the first step.

        Args:
          variables: of the network with which the run starts.
          key: seeds what is random in the forward pass.
        """
        masks, targets = initial_masks(self.pruner, variables.params)
        params = variables.params
        return TrainState(
            params if self.pruner.is_straight_through else apply_masks(params, masks),
            variables.state,
            masks=masks,
            targets=targets,
            lagrangian=self.scheme.init(params, self.constraint.size),
            constraint=self.constraint.init(),
            step=jnp.int32(0),
            epoch=jnp.int32(-1),
            key=key,
        )

    def step(
        self, state: TrainState, data: Dataset, indices: Array, epoch: Array | int
    ) -> tuple[TrainState, StepMetrics]:
        """One step. It is pure: use it under jit, vmap and scan as you like.

        Args:
          state: before the step.
          data: the training split, on the device.
          indices: `(batch,)` int32 samples of the batch; an index −1 − i is sample i with weight 0.
          epoch: `()` number of the epoch.
        """
        epoch = jnp.asarray(epoch, jnp.int32)
        batch, weight = gather(data, indices)
        key = jax.random.fold_in(state.key, state.step)
        masks = update_masks(
            self.pruner, state, epoch, self._dense_gradient, state.model_state, key, batch, weight
        )
        state = self._restart_moments(state, masks)
        active = epoch >= self.first_epoch
        problem = StepProblem(self, state, masks, batch, weight, key, active)
        # The default scheme is `lagrangian.dual_primal`.
        params, lagrangian, info = self.scheme.update(problem, state.params, state.lagrangian)
        params, masks = finalize_params(self.pruner, params, masks, state, epoch)
        aux: StepAux = info.evaluation.aux
        new_state = state._replace(
            params=params,
            model_state=aux.model_state,
            masks=masks,
            lagrangian=lagrangian,
            constraint=aux.constraint_state,
            step=state.step + 1,
            epoch=epoch,
        )
        return new_state, _step_metrics(info, lagrangian.multipliers)

    def _dense_gradient(self, params: Params, *operands: PyTree) -> Params:
        """Gradient of the batch's mean loss with respect to every weight, removed ones included."""
        model_state, key, batch, weight = operands

        def loss(params):
            variables = Variables(params, model_state)
            logits, _ = self.model.apply(variables, batch.inputs, train=True, key=key)
            return mean_loss(_observe(logits, batch, weight, self.label_smoothing))

        return jax.grad(loss)(params)

    def _restart_moments(self, state, masks):
        """Fresh moments where the updater's rule asks for them, see `pruning.moments`."""
        updater = self.pruner.updater
        rule = updater.pruned_moments
        unneeded = rule == "restart" and not updater.may_regrow()
        if rule == "keep" or unneeded or self.pruner.is_straight_through:
            return state

        def init(params):
            return self.scheme.init(params, self.constraint.size).primal_state

        fresh = regrown(state.masks, masks)
        if rule == "zero":
            fresh = map_masks(
                lambda back, mask: back | (mask == 0), fresh, masks, otherwise=lambda mask: None
            )
        old = state.lagrangian.primal_state
        primal_state = moments.refresh(init, old, fresh, state.params)
        return state._replace(lagrangian=state.lagrangian._replace(primal_state=primal_state))


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
      scheme: in which order weights and multipliers move.
      constraint: what must hold.
      pruner: when and how masks change.
      objective: what the weights minimise.
      constrained_from: first epoch in which objective and constraint act; before it the weights
        minimise the mean loss, and neither multipliers nor the constraint's state move. By default
        the epoch of the last pruning.
      label_smoothing: of the cross-entropy, in objective and constraints alike.

    Raises:
      UserError: the pruner is not usable, or its last epoch is not known and `constrained_from` is
        not given.
    """
    check_pruner(pruner)
    first = pruner.last_epoch if constrained_from is None else constrained_from
    if first is None:
        raise UserError("the pruner's last epoch is not known; write constrained_from=EPOCH.")
    return Trainer(model, scheme, constraint, pruner, objective, first, label_smoothing)


class StepProblem(NamedTuple):
    """The problem of one step, as `lagrangian.Problem` describes it: a function of the weights.

    Attributes:
      trainer: what is evaluated.
      state: before the step, with this step's masks not yet applied.
      masks: of this step.
      batch: samples.
      weight: `(batch,)`, 0 for samples that fill up the batch.
      key: of what is random in the forward pass.
      active: `()` bool, whether objective and constraint act.
    """

    trainer: Trainer
    state: TrainState
    masks: PyTree
    batch: Dataset
    weight: Array
    key: Array
    active: Array

    def __call__(self, params: Params, after: Evaluation | None = None) -> Evaluation:
        """Loss and constraint values at `params`, from one forward pass.

        Args:
          params: the weights.
          after: an evaluation of the same step from whose states to go on; by default from those
            before the step.

        Returns:
          The evaluation, its `aux` a `StepAux`.
        """
        trainer, active = self.trainer, self.active
        model_state, memory = self.state.model_state, self.state.constraint
        if after is not None:
            model_state, memory = after.aux.model_state, after.aux.constraint_state
        variables = Variables(masked_params(trainer.pruner, params, self.masks), model_state)
        logits, model_state = trainer.model.apply(
            variables, self.batch.inputs, train=True, key=self.key
        )
        seen = _observe(logits, self.batch, self.weight, trainer.label_smoothing)
        # Without weight a sample leaves the constraint's state alone: no copy of it is needed.
        watched = seen._replace(weight=jnp.where(active, self.weight, 0))
        values, memory = trainer.constraint.evaluate(memory, watched)
        values = each_set(lambda part: activate_when(part, active), values)
        loss, accuracy = mean_loss(seen), metrics.weighted_mean(seen.correct, self.weight)
        objective = loss
        if trainer.objective is not mean_loss:
            objective = jnp.where(active, trainer.objective(seen), loss)
        aux = StepAux(model_state, memory, loss, accuracy, _nonfinite_group(seen))
        return Evaluation(objective, values, aux)


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
    """Group of the first sample whose loss is not finite, where some samples' losses are."""
    bad = ~jnp.isfinite(seen.loss)
    group = seen.group_ids[jnp.argmax(bad), 0]
    return jnp.where(bad.any() & ~bad.all(), group, -1)


def _step_metrics(info: SchemeInfo, multipliers) -> StepMetrics:
    aux: StepAux = info.evaluation.aux

    def pick(name):
        return each_set(lambda values: getattr(values, name), info.evaluation.constraints)

    def seen(name):
        return jax.tree.map(
            lambda value, mask: jnp.where(mask, value, jnp.nan), pick(name), pick(f"{name}_mask")
        )

    return StepMetrics(
        loss=aux.loss,
        accuracy=aux.accuracy,
        lagrangian=info.lagrangian,
        multipliers=multipliers,
        violation=seen("violation"),
        proxy=seen("proxy"),
        violation_mask=pick("violation_mask"),
        proxy_mask=pick("proxy_mask"),
        nonfinite_group=aux.nonfinite_group,
    )
