"""Training runs that differ in arrays alone: their program, and the loop that runs it.

    Program   what is computed, as pure functions of one member's arrays
    Runner    compiles a program for several members, and runs its epochs from the host

The states are donated: an epoch overwrites those that it starts from, so that the device holds one
copy of them. What outlasts an epoch, for selection or for the error of a run that diverges, is on
the host. An epoch hands on its numbers when its states have been copied and the next one has been
started, a loop over steps those of a step when the next has. The device waits for that copy only.
"""

import abc
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from bap_jax import sharding
from bap_jax.compilation import jit_once
from bap_jax.data.batches import epoch_indices, feed
from bap_jax.training import finite
from bap_jax.training.execution import Execution
from bap_jax.training.members import (
    MembersEnd,
    StepBlock,
    as_member,
    copy_to_host,
    map_in_place,
    member_state,
    stacked,
)
from bap_jax.training.state import StepMetrics, TrainState, on_host
from bap_jax.training.step import Trainer
from bap_jax.types import Array, Dataset, PyTree, Variables

Progress = Callable[[Iterable[int]], Iterable[int]]


class Program(abc.ABC):
    """Training runs that differ in arrays only, as pure functions of these arrays.

    `values` are the arrays of one member, `shared` those that all members share.

    Attributes:
      num_samples: of the training split.
      batch_size: samples of a step.
      mesh: devices that share the samples of a batch; None for a single one.
    """

    num_samples: int
    batch_size: int
    mesh: Mesh | None

    @abc.abstractmethod
    def trainer(self, values: PyTree, shared: PyTree) -> Trainer:
        """The trainer of one member; called while the program is traced.

        `pipeline.tuner.TuningProgram` builds it from the settings of a run.
        """

    @abc.abstractmethod
    def keys(self, values: PyTree) -> tuple[Array, Array]:
        """Two random keys: one for the order of samples, one for the first state."""

    @abc.abstractmethod
    def observe(self, state: TrainState, values: PyTree, shared: PyTree) -> PyTree:
        """What the host wants to know about the end of an epoch."""

    def init(self, values: PyTree, shared: PyTree, variables: Variables) -> TrainState:
        """The state before the first step."""
        state = self.trainer(values, shared).init(variables, self.keys(values)[1])
        return sharding.everywhere(state, self.mesh)

    def order(self, values: PyTree, epoch: Array | int) -> Array:
        """`(step, batch)` indices of an epoch's batches, see `data.batches`."""
        key = jax.random.fold_in(self.keys(values)[0], epoch)
        order = epoch_indices(key, self.num_samples, self.batch_size)
        return sharding.split_batch(order, self.mesh)

    def whole_order(self, values: PyTree, epoch: Array | int) -> Array:
        """The same, whole on every device, for a loop over its rows."""
        return sharding.everywhere(self.order(values, epoch), self.mesh)

    def epoch(
        self, state: TrainState, values: PyTree, shared: PyTree, data: Dataset, number: Array | int
    ) -> tuple[TrainState, StepMetrics, tuple[Array, PyTree]]:
        """All steps of epoch `number`.

        Returns:
          The state after them, metrics `(step, ...)`, and what `end` says of that state.
        """
        order = self.order(values, number)
        state, metrics = self.trainer(values, shared).run_steps(state, data, order, number)
        return sharding.everywhere((state, metrics, self._end(state, values, shared)), self.mesh)

    def step(
        self,
        state: TrainState,
        values: PyTree,
        shared: PyTree,
        data: Dataset,
        indices: Array,
        number: Array | int,
    ) -> tuple[TrainState, StepMetrics]:
        """One step on the samples `indices` `(batch,)`, after `begin_epoch`; metrics `(1, ...)`."""
        indices = sharding.split_batch(indices, self.mesh)
        state, metrics = self.trainer(values, shared).step_in_epoch(state, data, indices, number)
        return sharding.everywhere((state, as_member(metrics)), self.mesh)

    def begin_epoch(self, state, values, shared, data, indices, number) -> TrainState:
        """What comes before the first step of an epoch; arguments as in `step`."""
        indices = sharding.split_batch(indices, self.mesh)
        state = self.trainer(values, shared).begin_epoch(state, data, indices, number)
        return sharding.everywhere(state, self.mesh)

    def end(self, state: TrainState, values: PyTree, shared: PyTree) -> tuple[Array, PyTree]:
        """Whether all weights are finite, and what the program observes."""
        return sharding.everywhere(self._end(state, values, shared), self.mesh)

    def _end(self, state, values, shared):
        return finite.all_finite(state.params), self.observe(state, values, shared)


def over_members(
    function: Callable,
    how: str,
    num_batched: int,
    mesh: Mesh | None = None,
    *,
    is_in_place: bool = False,
):
    """Turns a function of one member into a function of several.

    Args:
      function: its first `num_batched` arguments and its results belong to one member; the other
        arguments are shared.
      how: `vmap` (all members at once), `map` (one after another within the program) or `single`;
        a single member is never batched.
      num_batched: see above.
      mesh: devices among which the members are shared out; their number must divide that of the
        members.
      is_in_place: whether the first argument is a state and the first of several results the state
        that replaces it. `map` then writes it where the old one was, so that donating it saves the
        memory of a second copy.

    Returns:
      A function whose first `num_batched` arguments and whose results have a leading axis `member`.
    """

    def of_members(*args):
        own, shared = args[:num_batched], args[num_batched:]
        is_alone = jax.tree.leaves(own)[0].shape[0] == 1
        if how == "vmap" and not is_alone:
            return jax.vmap(lambda *own: function(*own, *shared))(*own)
        if how == "map" and is_in_place and not is_alone:
            return map_in_place(lambda *own: function(*own, *shared), *own)
        if how == "map" and not is_alone:
            return jax.lax.map(lambda own: function(*own, *shared), own)
        return as_member(function(*member_state(own, 0), *shared))

    if mesh is None:
        return of_members
    by_member = PartitionSpec(sharding.AXIS)

    def on_devices(*args):
        specs = (by_member,) * num_batched + (PartitionSpec(),) * (len(args) - num_batched)
        spread = jax.shard_map(
            of_members, mesh=mesh, in_specs=specs, out_specs=by_member, check_vma=False
        )
        return spread(*args)

    return on_devices


def jit_epoch(program: Program, how: str, mesh: Mesh | None = None):
    """The compiled epoch of several members; it overwrites the states that it is called with.

    Args:
      program: what is run.
      how, mesh: see `over_members`.

    Returns:
      `Program.epoch` with a leading axis `member`.
    """
    epoch = over_members(program.epoch, how, 2, mesh, is_in_place=True)
    return jax.jit(epoch, donate_argnums=0)


class Runner:
    """Runs the epochs of a program; compiles it once for each number of members.

    Args:
      program: what is run.
      execution: how, resolved by `resolve_execution`.
    """

    def __init__(self, program: Program, execution: Execution):
        mesh = execution.mesh() if execution.spread == "members" else None
        how = execution.members
        self._mesh, self._in_loop = program.mesh, execution.epoch != "device"
        self._init = jit_once(over_members(program.init, how, 1, mesh))
        self._epoch = jit_epoch(program, how, mesh)
        self._begin = jax.jit(program.begin_epoch, donate_argnums=0)
        self._step = jax.jit(program.step, donate_argnums=0)
        self._order, self._end = jax.jit(program.whole_order), jax.jit(program.end)

    def init(self, values: PyTree, shared: PyTree, variables: Variables) -> TrainState:
        """The states `(member, ...)` before the first step.

        Args:
          values: arrays of the members, `(member, ...)`.
          shared: arrays that they share.
          variables: of the network with which all of them start.
        """
        return self._init(values, shared, variables)

    def compile(self, values: PyTree, shared: PyTree, variables: Variables, data: Dataset) -> None:
        """Compiles what `init` and `run` call, without running any of it.

        Another thread may do so while the device is busy. Only for an epoch as one program.

        Args:
          values, shared, variables: see `init`; other arrays of the same shapes and types will do.
          data: see `run`.
        """
        states = jax.eval_shape(self._init, values, shared, variables)
        self._init.lower(values, shared, variables).compile()
        self._epoch.lower(states, values, shared, data, 0).compile()

    def run(
        self,
        states: TrainState,
        values: PyTree,
        shared: PyTree,
        data: Dataset,
        epochs: Iterable[int],
    ) -> Iterator[StepBlock | MembersEnd]:
        """Trains all members, and yields their numbers as they come in.

        Args:
          states: where to start, `(member, ...)`; their arrays are deleted.
          values, shared: see `init`.
          data: the training split, on the device or, in a loop over steps, streamed.
          epochs: their numbers.

        Returns:
          The blocks of an epoch, then its end, one epoch after the other.
        """
        run = self._run_steps if self._in_loop else self._run_epochs
        return run(states, values, shared, data, epochs)

    def _run_epochs(self, states, values, shared, data, epochs):
        pending = None
        for epoch in epochs:
            if pending:  # the next epoch overwrites them
                pending = pending._replace(states=copy_to_host(states))
            states, *numbers = self._epoch(states, values, shared, data, epoch)
            if pending:  # the numbers of the epoch before, while this one runs
                yield from _hand_on(*pending)
            pending = _Pending(epoch, None, numbers)
        if pending:
            yield from _hand_on(*pending._replace(states=copy_to_host(states)))

    def _run_steps(self, states, values, shared, data, epochs):
        state, values = jax.tree.map(jnp.copy, member_state((states, values), 0))
        del states  # the steps overwrite the copy
        count = 0
        for epoch in epochs:
            pending = None
            for batch, indices in feed(data, self._order(values, epoch), mesh=self._mesh):
                if pending is None:
                    state = self._begin(state, values, shared, batch, indices, epoch)
                state, metrics = self._step(state, values, shared, batch, indices, epoch)
                if pending:
                    yield _step_block(*pending)
                pending, count = (epoch, count, metrics), count + 1
            if pending:
                yield _step_block(*pending)
            numbers = stacked(jax.device_get(self._end(state, values, shared)))
            yield MembersEnd(epoch, stacked(copy_to_host(state)), *numbers)


class _Pending(NamedTuple):
    """An epoch that has been started: its number, its states on the host, and its numbers."""

    epoch: int
    states: TrainState | None
    numbers: PyTree


def _hand_on(epoch, states, numbers):
    metrics, (is_finite, observed) = on_host(numbers[0]), jax.device_get(numbers[1])
    yield StepBlock(epoch, epoch * metrics.loss.shape[1], metrics)
    yield MembersEnd(epoch, states, is_finite, observed)


def _step_block(epoch, count, metrics):
    return StepBlock(epoch, count, stacked(on_host(metrics)))
