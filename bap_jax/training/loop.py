"""The host's side of training: programs are started, and numbers handed on as they come in.

An epoch on the device gives its numbers when the next one has been started; a loop over steps gives
those of each step when the next step has been started. So the device never waits for the host.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bap_jax import sharding
from bap_jax.data.batches import feed
from bap_jax.training import finite
from bap_jax.training.epoch import Program, make_epoch, make_order, make_step, over_members
from bap_jax.training.execution import Execution
from bap_jax.training.finite import Names
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.training.step import Trainer
from bap_jax.types import Array, Dataset, PyTree

Progress = Callable[[Iterable], Iterable]


class DivergedError(FloatingPointError):
    """Training met a number that is not finite; the text names step, epoch, quantity and group.

    Attributes:
      last_good: how the last epoch without such a number ended; epoch −1 is the start.
    """

    def __init__(self, message: str, last_good: "EpochEnd"):
        super().__init__(message)
        self.last_good = last_good


class EpochEnd(NamedTuple):
    """How an epoch ended.

    Attributes:
      epoch: which; −1 is the start.
      state: after it.
    """

    epoch: int
    state: TrainState


class StepBlock(NamedTuple):
    """Numbers of some steps.

    Attributes:
      epoch: of all of them.
      first: the number of the first step.
      metrics: `(member, step, ...)` on the host.
    """

    epoch: int
    first: int
    metrics: StepMetrics


class MembersEnd(NamedTuple):
    """How an epoch of a program ended.

    Attributes:
      epoch: which.
      states: after it, `(member, ...)`.
      is_finite: `(member,)` bool, whether all weights are.
      observed: what the program observes, `(member, ...)` on the host.
    """

    epoch: int
    states: TrainState
    is_finite: np.ndarray
    observed: Any


class Runner(NamedTuple):
    """A program's compiled functions.

    Attributes:
      init: `(values, shared, variables) -> TrainState`, values `(member, ...)`.
      run: `(states, values, shared, data, epochs) -> ` iterator over `StepBlock` and `MembersEnd`;
        the blocks of an epoch come before its end.
    """

    init: Callable[..., TrainState]
    run: Callable[..., Iterator[StepBlock | MembersEnd]]


def make_runner(program: Program, execution: Execution) -> Runner:
    """Compiles a program when it is first called, once for each number of members.

    Args:
      program: what is run.
      execution: how, resolved.
    """
    members_mesh = execution.mesh() if execution.spread == "members" else None
    how = execution.members

    def init(values, shared, variables):
        trainer = program.trainer(values, shared)
        state = trainer.init(variables, program.keys(values)[1])
        return sharding.everywhere(state, program.mesh)

    if execution.epoch == "device":
        run = _device_epochs(over_members(make_epoch(program), how, 2, members_mesh))
    else:
        run = _loop_epochs(program)
    return Runner(jax.jit(over_members(init, how, 1, members_mesh)), run)


def _device_epochs(epoch_of_members):
    # The state is not donated: what went in is the last good state, should this epoch diverge.
    compiled = jax.jit(epoch_of_members)

    def run(states, values, shared, data, epochs):
        pending = None
        for epoch in epochs:
            # The metrics of an epoch are handed on while the next one runs.
            found = compiled(states, values, shared, data, epoch)
            states = found[0]
            if pending:
                yield from _hand_on(*pending)
            pending = epoch, found
        if pending:
            yield from _hand_on(*pending)

    return run


def _hand_on(epoch, found):
    states, *numbers = found
    metrics, (is_finite, observed) = jax.device_get(numbers)
    yield StepBlock(epoch, epoch * metrics.loss.shape[1], metrics)
    yield MembersEnd(epoch, states, is_finite, observed)


def _loop_epochs(program):
    step = jax.jit(make_step(program), donate_argnums=0)
    order = jax.jit(make_order(program))
    end = jax.jit(lambda state, values, shared: _end(program, state, values, shared))

    def run(states, values, shared, data, epochs):
        state, values = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (states, values))
        state, count = jax.tree.map(jnp.copy, state), 0
        for epoch in epochs:
            pending = None
            for batch, indices in feed(data, order(values, epoch), mesh=program.mesh):
                state, metrics = step(state, values, shared, batch, indices, epoch)
                if pending:
                    yield _step_block(*pending)
                pending, count = (epoch, count, metrics), count + 1
            if pending:
                yield _step_block(*pending)
            numbers = _stacked(jax.device_get(end(state, values, shared)))
            yield MembersEnd(epoch, _stacked(jax.tree.map(jnp.copy, state)), *numbers)

    return run


def _step_block(epoch, count, metrics):
    return StepBlock(epoch, count, _stacked(jax.device_get(metrics)))


def _end(program, state, values, shared):
    found = finite.all_finite(state.params), program.observe(state, values, shared)
    return sharding.everywhere(found, program.mesh)


def _stacked(tree):
    return jax.tree.map(lambda leaf: leaf[None], tree)


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
    progress: Progress = iter,
    epoch: str = "device",
    num_samples: int | None = None,
    mesh: Mesh | None = None,
) -> Iterator[EpochEnd]:
    """Trains one network, and yields at the end of every epoch.

    Args:
      trainer: see there.
      state: where to start.
      data: the training split, on the device; with `epoch='loop'` it may be streamed.
      num_epochs: how many.
      batch_size: samples of a step.
      key: seeds the order of samples, a fresh one each epoch.
      constraint_names: one name a constraint, for errors; of several sets, a dict by name.
      group_names: one name a group, for errors.
      on_step: called with `(step, epoch, metrics on the host)`.
      progress: wraps the range of epochs, for instance in a progress bar.
      epoch: `device` (one program an epoch) or `loop` (a program a step), see `training.execution`.
      num_samples: of the data, where these hold more rows, see `sharding.place_samples`.
      mesh: devices that share the samples of a batch; `data` then lie there.

    Raises:
      DivergedError: a loss, multiplier, observed violation or proxy, or at the end of an epoch a
        weight, is NaN or infinite.
    """
    program = Program(
        trainer=lambda values, shared: trainer,
        keys=lambda values: (values, values),
        observe=lambda state, values, shared: (),
        num_samples=data.size if num_samples is None else num_samples,
        batch_size=batch_size,
        mesh=mesh,
    )
    runner = make_runner(program, Execution(epoch=epoch, members="single"))
    good = EpochEnd(-1, state)
    first = sharding.replicate((_stacked(state), _stacked(key)), mesh)
    run = runner.run(*first, (), data, progress(range(num_epochs)))
    for found in run:
        if isinstance(found, StepBlock):
            bad = finite.in_block(found.metrics, 0, constraint_names, group_names)
            for i in range(bad.step if bad else found.metrics.loss.shape[1]):
                on_step(found.first + i, found.epoch, member_step(found.metrics, 0, i))
            if bad:
                raise diverged(bad.text, found.first + bad.step, found.epoch, good)
            continue
        end = EpochEnd(found.epoch, member_state(found.states, 0))
        if not found.is_finite[0]:
            raise diverged(f"weight {finite.in_tree(end.state.params)}", None, end.epoch, good)
        good = end
        yield end


def member_step(metrics: StepMetrics, member: int, step: int) -> StepMetrics:
    """The numbers of one member's step, from those of a block."""
    return jax.tree.map(lambda leaf: leaf[member, step], metrics)


def member_state(states: PyTree, member: int) -> PyTree:
    """One member's arrays, from those of all."""
    return jax.tree.map(lambda leaf: leaf[member], states)


def diverged(found: str, step: int | None, epoch: int, last_good: EpochEnd) -> DivergedError:
    """The error of a run; without a step, of the end of an epoch."""
    where = f"the end of epoch {epoch}" if step is None else f"step {step} (epoch {epoch})"
    return DivergedError(
        f"{found} at {where}. Lower optimizer.learning_rate or dual.learning_rate; "
        "constraint.overall_term='full' is a known cause.",
        last_good,
    )
