"""One training step as a pure function (docs/method.md, section 5 and equations (8) to (10)).

masks (first step of a pruning epoch) ─► forward ─► group sums ─► buffer ─► violation
    ─► multipliers ─► gradient of the Lagrangian ─► weights ─► masked weights

What happens in the first step of an epoch only is a function of its own, `Trainer.begin_epoch`, so
that a compiled loop over steps need neither test for it nor carry masks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.compilation import strongly_typed
from bap_jax.constraints import Constraint, ConstraintValues, activate_when, mean_loss
from bap_jax.constraints.objectives import Objective
from bap_jax.data.batches import gather
from bap_jax.errors import UserError
from bap_jax.lagrangian import Evaluation, Scheme, each_set
from bap_jax.metrics import CLASSIFICATION, Criterion
from bap_jax.models import Model
from bap_jax.pruning import apply_masks
from bap_jax.training import packing
from bap_jax.training.masking import (
    Pruner,
    check_pruner,
    finalize_params,
    hold_moments,
    initial_masks,
    masked_params,
    restart_moments,
    update_masks,
)
from bap_jax.training.observations import check_smoothing, nonfinite_group, observe
from bap_jax.training.state import StepAux, StepMetrics, TrainState, step_metrics
from bap_jax.types import Array, Dataset, Params, PyTree, Variables


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
      criterion: loss and correctness of each sample.
    """

    model: Model
    scheme: Scheme
    constraint: Constraint
    pruner: Pruner
    objective: Objective
    first_epoch: int
    label_smoothing: float
    criterion: Criterion = CLASSIFICATION

    def init(self, variables: Variables, key: Array) -> TrainState:
        """The state before the first step.

        Args:
          variables: of the network with which the run starts.
          key: seeds what is random in the forward pass.
        """
        masks, targets = initial_masks(self.pruner, variables.params)
        params = variables.params
        state = TrainState(
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
        return strongly_typed(state)

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
        state = self.begin_epoch(state, data, indices, epoch)
        return self.step_in_epoch(state, data, indices, epoch)

    def begin_epoch(
        self, state: TrainState, data: Dataset, indices: Array, epoch: Array | int
    ) -> TrainState:
        """The part of a step that changes something in the first step of an epoch only.

        That is new masks, if they last an epoch, and fresh moments for weights that come back.
        Arguments as in `step`.
        """
        if not self.pruner.masks_last_an_epoch:
            return state
        return self._with_new_masks(state, data, indices, jnp.asarray(epoch, jnp.int32))

    def step_in_epoch(
        self, state: TrainState, data: Dataset, indices: Array, epoch: Array | int
    ) -> tuple[TrainState, StepMetrics]:
        """The rest of a step; arguments and results as in `step`.

        Where masks last an epoch, those of the state are used and returned as they are.
        """
        epoch = jnp.asarray(epoch, jnp.int32)
        if not self.pruner.masks_last_an_epoch:
            state = self._with_new_masks(state, data, indices, epoch)
        batch, weight = gather(data, indices)
        key = jax.random.fold_in(state.key, state.step)
        state = _with_moments(state, hold_moments(self.pruner, self._init_optimizer, state))
        active = epoch >= self.first_epoch
        last = self.pruner.last_epoch or 0
        # If constraints act before, their estimates are mostly of the network before for an epoch.
        is_pruned = epoch > last if self.first_epoch < last else epoch >= last
        problem = StepProblem(self, state, state.masks, batch, weight, key, active, is_pruned)
        # The default scheme is `lagrangian.dual_primal`.
        params, lagrangian, info = self.scheme.update(problem, state.params, state.lagrangian)
        params, masks = finalize_params(self.pruner, params, state, epoch)
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
        return strongly_typed(new_state), step_metrics(info, lagrangian.multipliers)

    def run_steps(
        self, state: TrainState, data: Dataset, order: Array, epoch: Array | int
    ) -> tuple[TrainState, StepMetrics]:
        """The steps of an epoch as one loop: what `step` makes of each row of `order`.

        Masks that last an epoch stay outside of it. Within, each step would test whether they are
        due, for which a GPU waits for the host, and under `vmap` copy the masks of all members.

        Args:
          state, data, epoch: as in `step`.
          order: `(step, batch)` indices.

        Returns:
          The state after the steps, and metrics `(step, ...)`.
        """
        state = self.begin_epoch(state, data, order[0], epoch)
        fixed = {"masks": state.masks} if self.pruner.masks_last_an_epoch else {}
        left_out, how = dict.fromkeys(fixed), None

        def step(state, indices):
            nonlocal how
            state, metrics = self.step_in_epoch(state._replace(**fixed), data, indices, epoch)
            packed, how = packing.pack(metrics)
            return state._replace(**left_out), packed

        with jax.named_scope("steps"):
            state, packed = jax.lax.scan(step, state._replace(**left_out), order)
        return state._replace(**fixed), packing.unpack(packed, how)

    def _dense_gradient(self, params: Params, *operands: PyTree) -> Params:
        """Gradient of the batch's mean loss with respect to every weight, removed ones included."""
        model_state, key, batch, weight = operands

        def loss(params):
            variables = Variables(params, model_state)
            logits, _ = self.model.apply(variables, batch.inputs, train=True, key=key)
            return mean_loss(observe(logits, batch, weight, self.criterion, self.label_smoothing))

        return jax.grad(loss)(params)

    def _with_new_masks(self, state, data, indices, epoch):
        """The state with this step's masks, and moments that go with them."""
        batch, weight = gather(data, indices)
        key = jax.random.fold_in(state.key, state.step)
        masks, primal_state = update_masks(
            self.pruner, state, epoch, self._dense_gradient, state.model_state, key, batch, weight
        )
        state = _with_moments(state, primal_state)
        primal_state = restart_moments(self.pruner, self._init_optimizer, state, masks)
        return _with_moments(state, primal_state)._replace(masks=masks, epoch=epoch)

    def _init_optimizer(self, params):
        return self.scheme.init(params, self.constraint.size).primal_state


def make_trainer(
    model: Model,
    scheme: Scheme,
    constraint: Constraint,
    pruner: Pruner,
    *,
    objective: Objective = mean_loss,
    constrained_from: int | None = None,
    label_smoothing: float = 0.0,
    criterion: Criterion = CLASSIFICATION,
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
      criterion: loss and correctness of each sample.

    Raises:
      UserError: the pruner is not usable, its last epoch is not known and `constrained_from` is not
        given, or another loss than the cross-entropy is to be smoothed.
    """
    check_pruner(pruner)
    check_smoothing(criterion, label_smoothing)
    first = pruner.last_epoch if constrained_from is None else constrained_from
    if first is None:
        raise UserError("the pruner's last epoch is not known; write constrained_from=EPOCH.")
    return Trainer(model, scheme, constraint, pruner, objective, first, label_smoothing, criterion)


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
      is_pruned: `()` bool, whether the last weights are removed. Accuracy that is lost before is
        lost to pruning, and no reason to lower multipliers.
    """

    trainer: Trainer
    state: TrainState
    masks: PyTree
    batch: Dataset
    weight: Array
    key: Array
    active: Array
    is_pruned: Array

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
        seen = observe(logits, self.batch, self.weight, trainer.criterion, trainer.label_smoothing)
        # Without weight a sample leaves the constraint's state alone: no copy of it is needed.
        watched = seen._replace(weight=jnp.where(active, self.weight, 0))
        values, memory = trainer.constraint.evaluate(memory, watched)
        values = each_set(self._as_far_as_it_counts, values)
        loss, accuracy = mean_loss(seen), metrics.weighted_mean(seen.correct, self.weight)
        objective = loss
        if trainer.objective is not mean_loss:
            objective = jnp.where(active, trainer.objective(seen), loss)
        aux = StepAux(model_state, memory, loss, accuracy, nonfinite_group(seen))
        return Evaluation(objective, values, aux)

    def _as_far_as_it_counts(self, values: ConstraintValues) -> ConstraintValues:
        """The values of a set, hidden before constraints act, its accuracy before all is pruned."""
        accuracy = jnp.where(self.is_pruned, values.accuracy, 0)
        return activate_when(values._replace(accuracy=accuracy), self.active)


def _with_moments(state, primal_state):
    return state._replace(lagrangian=state.lagrangian._replace(primal_state=primal_state))
