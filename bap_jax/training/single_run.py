"""The training of one network, epoch by epoch."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bap_jax import sharding
from bap_jax.compilation import jit_once
from bap_jax.training import finite
from bap_jax.training.execution import Execution
from bap_jax.training.finite import EpochEnd, Names, diverged
from bap_jax.training.loop import Program, Progress, Runner
from bap_jax.training.members import StepBlock, copy_to_host, member_state, member_step
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.training.step import Trainer
from bap_jax.types import Array, Dataset, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class SingleProgram(Program):
    """A program of one trainer, whose only value is the key that orders the samples."""

    of_trainer: Trainer
    num_samples: int
    batch_size: int
    mesh: Mesh | None = None

    def trainer(self, values: PyTree, shared: PyTree) -> Trainer:
        """The trainer that was given."""
        del values, shared
        return self.of_trainer

    def keys(self, values: Array) -> tuple[Array, Array]:
        """The key that was given."""
        return values, values

    def observe(self, state: TrainState, values: PyTree, shared: PyTree) -> PyTree:
        """Nothing."""
        del state, values, shared
        return ()


class OnStep(Protocol):
    """What `run_epochs` calls after every step."""

    def __call__(self, step: int, epoch: int, metrics: StepMetrics, /) -> object:
        """Takes the number of the step, its epoch, and its metrics on the host."""
        ...


def _ignore(step: int, epoch: int, metrics: StepMetrics, /) -> None:
    del step, epoch, metrics


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
    on_step: OnStep = _ignore,
    progress: Progress = iter,
    epoch: str = "device",
    num_samples: int | None = None,
    mesh: Mesh | None = None,
) -> Iterator[EpochEnd]:
    """Trains one network, and yields at the end of every epoch.

    Args:
      trainer: see `make_trainer`.
      state: where to start.
      data: the training split, on the device; with `epoch='loop'` it may be streamed.
      num_epochs: how many epochs.
      batch_size: samples of a step.
      key: seeds the order of samples, a fresh one each epoch.
      constraint_names: one name per constraint, for errors; for several sets, a dict by name.
      group_names: one name per group, for errors.
      on_step: called after every step.
      progress: wraps the range of epochs, for instance in a progress bar.
      epoch: `device` (one program per epoch) or `loop` (one program per step), see
        `training.execution`.
      num_samples: of the data, where these hold more rows, see `sharding.place_samples`.
      mesh: devices that share the samples of a batch; `data` must then be on the mesh.

    Raises:
      DivergedError: a loss, multiplier, observed violation or proxy, or at the end of an epoch a
        weight, is NaN or infinite.
    """
    size = data.size if num_samples is None else num_samples
    program = SingleProgram(trainer, size, batch_size, mesh)
    runner = Runner(program, Execution(epoch=epoch, members="single"))
    good = EpochEnd(-1, copy_to_host(state))
    states, keys = sharding.replicate(_as_only_member((state, key)), mesh)
    for event in runner.run(states, keys, (), data, progress(range(num_epochs))):
        if isinstance(event, StepBlock):
            bad = finite.in_block(event.metrics, 0, constraint_names, group_names)
            for i in range(bad.step if bad else event.metrics.loss.shape[1]):
                on_step(event.first + i, event.epoch, member_step(event.metrics, 0, i))
            if bad:
                raise diverged(bad.text, event.first + bad.step, event.epoch, good)
            continue
        end = EpochEnd(event.epoch, member_state(event.states, 0))
        if not event.is_finite[0]:
            raise diverged(f"weight {finite.in_tree(end.state.params)}", None, end.epoch, good)
        good = end
        yield end._replace(state=_on_device(end.state, mesh))


def _on_device(state, mesh):
    if mesh is None:
        return jax.device_put(state, may_alias=False)
    return sharding.replicate(state, mesh)


@jit_once
def _as_only_member(tree: PyTree) -> PyTree:
    """Arrays with a leading axis `member` of length 1, in one program for all of them."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)
