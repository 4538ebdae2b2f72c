"""The host's side of training: epochs, steps, and numbers fetched one step late."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.data.batches import epoch_indices
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.training.step import Trainer
from bap_jax.types import Array, Dataset


class DivergedError(FloatingPointError):
    """Training met a number that is not finite; the text names step, epoch and quantity."""


class EpochEnd(NamedTuple):
    """What `run_epochs` yields.

    Attributes:
      epoch: which epoch ended.
      state: after it. Its buffers are reused by the next epoch: copy what is to be kept.
    """

    epoch: int
    state: TrainState


def run_epochs(
    trainer: Trainer,
    state: TrainState,
    data: Dataset,
    *,
    num_epochs: int,
    batch_size: int,
    key: Array,
    on_step: Callable[[int, int, StepMetrics], None] = lambda step, epoch, metrics: None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Iterator[EpochEnd]:
    """Trains, and yields at the end of every epoch.

    The step is compiled once. Nothing is fetched from the device but each step's metrics, and
    those after the next step was dispatched, so the device never waits for the host.

    Args:
      trainer: see there.
      state: where to start.
      data: the training part, on the device.
      num_epochs: how many.
      batch_size: samples of a step.
      key: seeds the order of samples, a fresh one each epoch.
      on_step: called with `(step, epoch, metrics on the host)`.
      progress: wraps the range of epochs, for instance in a progress bar.

    Raises:
      DivergedError: loss, Lagrangian or a multiplier is NaN or infinite.
    """
    step = jax.jit(trainer.step, donate_argnums=0)
    order = jax.jit(epoch_indices, static_argnums=(1, 2))
    state = jax.tree.map(jnp.copy, state)
    pending, count = None, 0

    def report(number, epoch, metrics):
        metrics = jax.device_get(metrics)
        _check_finite(number, epoch, metrics)
        on_step(number, epoch, metrics)

    for epoch in progress(range(num_epochs)):
        for indices in order(jax.random.fold_in(key, epoch), data.size, batch_size):
            state, metrics = step(state, data, indices, epoch)
            if pending:
                report(*pending)
            pending, count = (count, epoch, metrics), count + 1
        if pending:
            report(*pending)
            pending = None
        yield EpochEnd(epoch, state)


def _check_finite(step, epoch, metrics):
    for quantity in ("loss", "lagrangian", "multipliers"):
        value = np.asarray(getattr(metrics, quantity))
        if not np.isfinite(value).all():
            bad = value[~np.isfinite(value)].flat[0]
            raise DivergedError(
                f"{quantity} is {bad} at step {step} (epoch {epoch}). Lower "
                "optimizer.learning_rate or dual.learning_rate; constraint.overall_term='full' is "
                "a known cause."
            )
