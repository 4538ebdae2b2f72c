"""The host's side of training: epochs, steps, and numbers fetched one step late."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax.data.batches import epoch_indices
from bap_jax.training import finite
from bap_jax.training.finite import Names
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.training.step import Trainer
from bap_jax.types import Array, Dataset


class DivergedError(FloatingPointError):
    """Training met a number that is not finite; the text names step, epoch, quantity and group.

    Attributes:
      last_good: how the last epoch without such a number ended; epoch −1 is the start.
    """

    def __init__(self, message: str, last_good: "EpochEnd"):
        super().__init__(message)
        self.last_good = last_good


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
    constraint_names: Names = (),
    group_names: Sequence[str] = (),
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
      constraint_names: one name a constraint, for errors; of several sets, a dict by name.
      group_names: one name a group, for errors.
      on_step: called with `(step, epoch, metrics on the host)`.
      progress: wraps the range of epochs, for instance in a progress bar.

    Raises:
      DivergedError: a loss, multiplier, observed violation or proxy, or at the end of an epoch a
        weight, is NaN or infinite.
    """
    step = jax.jit(trainer.step, donate_argnums=0)
    order = jax.jit(epoch_indices, static_argnums=(1, 2))
    state = jax.tree.map(jnp.copy, state)
    pending, count = None, 0
    good = EpochEnd(-1, jax.tree.map(jnp.copy, state))

    def report(number, epoch, metrics):
        metrics = jax.device_get(metrics)
        found = finite.in_metrics(metrics, constraint_names, group_names)
        if found:
            raise _diverged(found, f"step {number} (epoch {epoch})", good)
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
        found = finite.in_tree(state.params)
        if found:
            raise _diverged(f"weight {found}", f"the end of epoch {epoch}", good)
        good = EpochEnd(epoch, jax.tree.map(jnp.copy, state))
        yield EpochEnd(epoch, state)


def _diverged(found, where, good):
    return DivergedError(
        f"{found} at {where}. Lower optimizer.learning_rate or dual.learning_rate; "
        "constraint.overall_term='full' is a known cause.",
        good,
    )
