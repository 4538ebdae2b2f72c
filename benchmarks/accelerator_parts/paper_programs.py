"""The programs of the paper's run, and the loop that runs one with pauses to save its state.

A program is what `training.loop.Runner` runs: the dense network alone, or all networks of a method.
Its epochs run in blocks; after each, the states are saved, so a run that is killed goes on from
there. Epochs are numbered and every random draw follows from the seed, the epoch and the step, all
of which a state or its program holds: how the epochs were divided into blocks, and among how many
runs, changes nothing.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from accelerator_parts import paper_files
from bap_jax import constraints, data, lagrangian, pipeline, training
from bap_jax.models import Model
from bap_jax.training import Execution, OptimizerSettings, Settings, TrainState
from bap_jax.training.loop import MembersEnd, Runner, StepBlock
from bap_jax.training.optimizers import primal_optimizer
from bap_jax.training.single_run import SingleProgram
from bap_jax.types import Dataset, PyTree, Variables

START_SECONDS = 60.0  # to compile a program, as long as none has been compiled
END_SECONDS = 5.0  # kept back for the end of a run
# Flushed, because a command that is killed shows only what it had handed on.
print_now = functools.partial(print, flush=True)


class NetworkProgram(NamedTuple):
    """A program and what it is called with.

    Attributes:
      name: for messages.
      settings: everything that its results depend on, as JSON holds it.
      epochs: how many.
      runner: runs them.
      init: makes the states before the first epoch, `(member, ...)`.
      values, shared, train: see `Runner`.
      is_compiled: whether the first epoch takes no longer than the others.
    """

    name: str
    settings: dict[str, Any]
    epochs: int
    runner: Runner
    init: Callable[[], TrainState]
    values: PyTree
    shared: PyTree
    train: Dataset
    is_compiled: bool = False

    def run(self, states: TrainState, epochs: range) -> tuple[MembersEnd, StepBlock]:
        """Runs some epochs; returns the end of the last one and the numbers of its steps."""
        end = block = None
        events = self.runner.run(states, self.values, self.shared, self.train, epochs)
        for event in events:
            end, block = (end, event) if isinstance(event, StepBlock) else (event, block)
        assert end is not None and block is not None, "there are no epochs to run"
        return end, block


def dense_program(
    model: Model,
    variables: Variables,
    train: Dataset,
    optimizer: OptimizerSettings,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    settings: dict[str, Any],
) -> NetworkProgram:
    """The training of the dense network, the same as by `pipeline.train_dense`.

    Args:
      model: the network.
      variables: its initial arrays.
      train: the training split, on the device.
      optimizer: how the weights move.
      epochs, batch_size, seed: see `pipeline.train_dense`.
      settings: see `NetworkProgram`.
    """
    primal = primal_optimizer(optimizer, epochs, data.num_batches(train.size, batch_size))
    scheme = lagrangian.dual_primal(primal, training.formulation_from_settings(Settings()))
    trainer = training.make_trainer(
        model, scheme, constraints.unconstrained(), training.no_pruning()
    )
    order_key, state_key = jax.random.split(jax.random.key(seed))
    program = SingleProgram(trainer, train.size, batch_size)
    runner = Runner(program, Execution(epoch="device", members="single"))

    def init():
        return _stacked(trainer.init(variables, state_key))

    return NetworkProgram("dense", settings, epochs, runner, init, _stacked(order_key), (), train)


def arrays_of(tuner: pipeline.Tuner, members: Sequence[Settings]) -> tuple[PyTree, PyTree]:
    """Values and shared arrays of members; the validation split is not evaluated."""
    return tuner.compiled.values(members), tuner.compiled.shared._replace(validation=None)


def tuning_program(
    name: str,
    context: pipeline.RunContext,
    tuner: pipeline.Tuner,
    members: Sequence[Settings],
    as_json: Sequence[dict[str, Any]],
) -> NetworkProgram:
    """The pruning and tuning of networks, the same as by `pipeline.Tuner.run`.

    Only the last iterate is kept, so the validation split is left out of the program.

    The tuner's runner may be that of a tuner with another dense network, see `Program`.

    Args:
      name: see `NetworkProgram`.
      context: dense network and data.
      tuner: of `context` and the structure of these members.
      members: their settings.
      as_json: everything that the result of each depends on, as JSON holds it.
    """
    compiled = tuner.compiled
    values, shared = compiled.values(members), compiled.shared._replace(validation=None)
    settings = {f"{i}.{key}": value for i, one in enumerate(as_json) for key, value in one.items()}

    def init():
        return tuner.runner.init(values, shared, context.variables)

    return NetworkProgram(
        name,
        settings,
        members[0].epochs,
        tuner.runner,
        init,
        values,
        shared,
        compiled.train,
    )


def as_json(settings: Settings) -> dict[str, Any]:
    """Settings as JSON holds them."""
    return {
        key: str(value) if value == float("inf") else value
        for key, value in _flat(dataclasses.asdict(settings))
    }


def _flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, list(value) if isinstance(value, tuple) else value


def bytes_of_member(tuner: pipeline.Tuner, context: pipeline.RunContext, member: Settings) -> int:
    """Bytes of the state of one network."""
    values, shared = arrays_of(tuner, [member])
    like = jax.eval_shape(lambda: tuner.runner.init(values, shared, context.variables))
    return sum(leaf.size * np.dtype(_number_type(leaf)).itemsize for leaf in jax.tree.leaves(like))


def _number_type(leaf):
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.uint64 if is_key else leaf.dtype


class Pace:
    """How many epochs to run before the next save, and whether there is time for them.

    Args:
      deadline: on `clock`.
      save_seconds: from one save to the next.
      start_seconds: what the first epoch of a program may take, compilation included.
      clock: returns seconds.

    Attributes:
      epoch_seconds: of the last block; None before a program's second block.
    """

    def __init__(
        self,
        deadline: float,
        save_seconds: float,
        start_seconds: float = START_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._deadline, self._save_seconds = deadline, save_seconds
        self._start_seconds, self._clock = start_seconds, clock
        self.start()

    def start(self, is_compiled: bool = False) -> None:
        """Starts a program; unless it is compiled, that is part of its first epoch."""
        self.epoch_seconds: float | None = None
        self._is_compiled = is_compiled
        self._blocks, self._began = 0, self._clock()

    def seconds_left(self) -> float:
        """Until the deadline, less what is kept back for the end."""
        return self._deadline - self._clock() - END_SECONDS

    def next_block(self, epochs_left: int) -> int:
        """Epochs of the next block; 0 if there is no time for any."""
        self._began = self._clock()
        left = self.seconds_left()
        if self.epoch_seconds is None:
            is_start = self._blocks == 0 and not self._is_compiled
            return 1 if left > (self._start_seconds if is_start else 0) else 0
        for_save = max(1, round(self._save_seconds / self.epoch_seconds))
        return max(0, min(epochs_left, for_save, int(left / self.epoch_seconds)))

    def block_ended(self, epochs: int) -> float:
        """Notes how long a block took; returns its seconds."""
        seconds = self._clock() - self._began
        if self._blocks:
            self.epoch_seconds = max(seconds / epochs, 1e-6)
        elif not self._is_compiled:
            self._start_seconds = min(self._start_seconds, seconds)
        self._blocks += 1
        return seconds


def run_program(
    program: NetworkProgram,
    files: paper_files.StateFiles,
    pace: Pace,
    print_line: Callable[[str], object] = print_now,
    epochs_after: float = 0.0,
) -> TrainState | None:
    """Runs a program from where it was saved to its end, or as far as there is time.

    Args:
      program: what is run.
      files: where its state is saved.
      pace: how often, and until when.
      print_line: takes a line after every block.
      epochs_after: of later programs, counted as if each took as long as one of this program; for
        the estimate of what is left to do.

    Returns:
      The states `(member, ...)` after the last epoch; None if it has not been reached.

    Raises:
      UserError: a state of the same program with other settings is saved.
    """
    pace.start(program.is_compiled)
    like = jax.eval_shape(program.init)
    done, states = files.load(program.name, program.settings, like)
    if states is None:
        states = program.init()
    while done < program.epochs:
        count = pace.next_block(program.epochs - done)
        if not count:
            return None
        end, block = program.run(states, range(done, done + count))
        states, done = end.states, done + count
        files.save(paper_files.About(program.name, program.settings, done), states)
        seconds = pace.block_ended(count)
        estimate = _estimate(pace, seconds / count, program.epochs - done, epochs_after)
        print_line(_progress(program, done, end, block) + estimate)
    return states


def _progress(program, done, end, block):
    """How far a program is; the accuracy is the mean over the steps of the last epoch."""
    accuracy = 100 * np.asarray(block.metrics.accuracy, np.float64).mean(1)
    shown = " ".join(f"{number:.1f}" for number in accuracy)
    line = f"{program.name}: epoch {done} of {program.epochs}, training accuracy {shown}"
    diverged = np.flatnonzero(~np.asarray(end.is_finite)).tolist()
    return f"{line}, DIVERGED: {diverged}" if diverged else line


def _estimate(pace, seconds, epochs, epochs_after):
    """What an epoch took, what is left to do, and whether there is time for it."""
    if pace.epoch_seconds is None:
        return f", {seconds:.1f} s for the first one"
    to_go, after = epochs * pace.epoch_seconds, epochs_after * pace.epoch_seconds
    left = max(0.0, pace.seconds_left())
    line = (
        f", {seconds:.2f} s an epoch; about {to_go:.0f} s to go, {after:.0f} s for later networks"
    )
    line += f", {left:.0f} s left"
    return line if to_go + after <= left else f"{line}: not enough, so repeat the command"


def _stacked(tree):
    return jax.tree.map(lambda leaf: leaf[None], tree)
