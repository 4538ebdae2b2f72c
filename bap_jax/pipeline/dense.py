"""The dense network."""

import jax

from bap_jax import data, lagrangian, training
from bap_jax.constraints import unconstrained
from bap_jax.models import Model
from bap_jax.pipeline.context import place, resolve_execution
from bap_jax.training import Execution
from bap_jax.training.settings import OptimizerSettings, Settings
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
    progress: training.Progress = iter,
    execution: Execution | None = None,
) -> Variables:
    """Trains a network with SGD on the training split; nothing is pruned or constrained.

    Raises:
      DivergedError: a number that is not finite.
    """
    execution = resolve_execution(model, variables, train, execution or Execution())
    mesh = execution.mesh() if execution.spread == "data" else None
    steps = data.num_batches(train.size, batch_size)
    primal = training.primal_optimizer(optimizer, epochs, steps)
    scheme = lagrangian.dual_primal(primal, training.dual_formulation(Settings().dual))
    trainer = training.make_trainer(model, scheme, unconstrained(), training.no_pruning())
    order_key, state_key = jax.random.split(jax.random.key(seed))
    for end in training.run_epochs(
        trainer,
        trainer.init(variables, state_key),
        place(train, mesh),
        num_epochs=epochs,
        batch_size=batch_size,
        key=order_key,
        progress=progress,
        epoch=execution.epoch,
        num_samples=train.size,
        mesh=mesh,
    ):
        last = end
    return last.state.variables
