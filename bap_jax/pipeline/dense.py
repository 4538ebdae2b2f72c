"""Training of the dense network."""

import jax

from bap_jax import data, lagrangian, training
from bap_jax.compilation import jit_once
from bap_jax.constraints import unconstrained
from bap_jax.metrics import CLASSIFICATION, Criterion
from bap_jax.models import Model
from bap_jax.pipeline.context import execution_for, place
from bap_jax.training import Execution, OptimizerSettings, Settings
from bap_jax.training.loop import Progress
from bap_jax.training.optimizers import primal_optimizer
from bap_jax.types import Dataset, Variables


def train_dense(
    model: Model,
    variables: Variables,
    train: Dataset,
    optimizer: OptimizerSettings,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: Progress = iter,
    execution: Execution | None = None,
    criterion: Criterion = CLASSIFICATION,
) -> Variables:
    """Trains a network on the training split; nothing is pruned or constrained.

    Args:
      model: the network.
      variables: its initial arrays.
      train: the training split, on the host.
      optimizer: how the weights move.
      epochs: how many epochs.
      batch_size: samples of a step.
      seed: of the order of samples, and of dropout.
      progress: wraps the range of epochs.
      execution: see `make_context`.
      criterion: its loss is minimised.

    Raises:
      DivergedError: a number that is not finite.
    """
    execution = execution_for(model, variables, train, execution or Execution())
    mesh = execution.mesh() if execution.spread == "data" else None
    steps = data.num_batches(train.size, batch_size)
    primal = primal_optimizer(optimizer, epochs, steps)
    scheme = lagrangian.dual_primal(primal, training.formulation_from_settings(Settings()))
    trainer = training.make_trainer(
        model, scheme, unconstrained(), training.no_pruning(), criterion=criterion
    )

    @jit_once
    def start(variables, key):
        order_key, state_key = jax.random.split(key)
        return order_key, trainer.init(variables, state_key)

    order_key, state = start(variables, jax.random.key(seed))
    for end in training.run_epochs(
        trainer,
        state,
        place(train, mesh),
        num_epochs=epochs,
        batch_size=batch_size,
        key=order_key,
        progress=progress,
        epoch=execution.epoch,
        num_samples=train.size,
        mesh=mesh,
    ):
        state = end.state
    return state.variables
