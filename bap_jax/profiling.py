"""Measures what a run costs on this machine, before it starts.

program of the run ─► compiled step ─► single steps ─► steps in a loop ─► ten traced
                   └► compiled epoch, where the run uses one
"""

import contextlib
import dataclasses
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import config as config_lib
from bap_jax import data, pipeline, sharding
from bap_jax.experiment import Session
from bap_jax.pipeline.tuner import CompiledRun, make_compiled_run
from bap_jax.training import Settings, TrainState
from bap_jax.training.loop import Program, Runner, jit_epoch
from bap_jax.training.members import member_state
from bap_jax.training.values import MemberValues
from bap_jax.types import Array

_WARM_UP, _STEPS, _TRACED = 3, 50, 10


class Profile(NamedTuple):
    """What a run costs; seconds of the host's clock.

    Attributes:
      step_seconds: of a step that begins when the step before it has ended; median.
      epoch_step_seconds: of the program of an epoch, validation included, divided by its steps;
        None if the run loops over steps on the host.
      samples_per_second: of the program of an epoch, or of a loop that starts each step while the
        one before it is computed. Samples that fill up a batch do not count.
      compile_seconds: for tracing and compiling the step; short if its program was in the cache.
      waiting_share: share of the time of a loop over steps that the host waits for samples to be
        read, in [0, 1]; 0 if they are on the device.
      peak_bytes: most memory in use so far.
      peak_of: whose memory: the `device`'s, or if it does not say the whole `process`'s.
      trace: folder with ten steps as `jax.profiler` records them.
    """

    step_seconds: float
    epoch_step_seconds: float | None
    samples_per_second: float
    compile_seconds: float
    waiting_share: float
    peak_bytes: int
    peak_of: str
    trace: Path


def print_profile(session: Session, folder: Path) -> None:
    """Prints what the run of `session.task` costs, and writes a trace into `folder`."""
    measured = profile(session.context, config_lib.to_settings(session.task.plain), folder)
    if sharding.is_first_process():
        print(format_profile(measured), end="\n\n")


def format_profile(profile: Profile) -> str:
    """A line for each number."""
    epoch = profile.epoch_step_seconds
    lines = [
        ("step alone", f"{1000 * profile.step_seconds:.3f} ms"),
        ("step of an epoch", "in a loop" if epoch is None else f"{1000 * epoch:.3f} ms"),
        ("samples", f"{profile.samples_per_second:,.0f} a second"),
        ("compiling a step", f"{profile.compile_seconds:.2f} s"),
        ("waiting for input", f"{profile.waiting_share:.1%}"),
        ("peak memory", f"{profile.peak_bytes / 2**20:,.0f} MiB of the {profile.peak_of}"),
        ("trace", str(profile.trace)),
    ]
    return "\n".join(f"{what:19}{value}" for what, value in lines)


def profile(context: pipeline.RunContext, settings: Settings, folder: Path) -> Profile:
    """Takes some steps of a separate run; the run that follows is not affected.

    Args:
      context: dense network and data; its arrays are not changed.
      settings: of the run, checked.
      folder: the trace goes to its subfolder `profile`.
    """
    compiled = make_compiled_run(context, settings)
    # A single member cannot be divided among devices.
    execution = dataclasses.replace(context.execution, spread="data")
    values = compiled.values([settings])
    runner = Runner(compiled.program, execution)
    states = runner.init(values, compiled.shared, context.variables)
    steps = _Steps(compiled, values, states)
    order = _order(compiled.program, values)
    compile_seconds = steps.compile(order)
    steps.one_by_one(order[:_WARM_UP])
    step_seconds = steps.one_by_one(order)
    seconds, waited = steps.in_loop(order)
    per_second = int((np.asarray(order) >= 0).sum()) / seconds
    per_step = None
    if execution.epoch == "device":
        epoch = _epoch_seconds(compiled, values, states, execution.members)
        per_step = epoch / _num_steps(compiled.program)
        per_second = compiled.program.num_samples / epoch
    trace, first = Path(folder) / "profile", sharding.is_first_process()
    with jax.profiler.trace(trace) if first else contextlib.nullcontext():
        steps.in_loop(order[:_TRACED])
    peak_bytes, peak_of = _peak()
    return Profile(
        statistics.median(step_seconds),
        per_step,
        per_second,
        compile_seconds,
        waited / seconds,
        peak_bytes,
        peak_of,
        trace,
    )


class _Steps:
    """The compiled step of one member, and the state after the steps taken so far."""

    def __init__(self, compiled: CompiledRun, values: MemberValues, states: TrainState):
        self._train, self._shared = compiled.train, compiled.shared
        self._mesh = compiled.program.mesh
        self._values, state = member_state((values, states), 0)
        # The step overwrites its state, whose arrays may still be those of the dense network.
        self._state = jax.tree.map(jnp.copy, state)
        self._step = jax.jit(compiled.program.step, donate_argnums=0)

    def compile(self, order: Array) -> float:
        """Compiles the step; returns the seconds that it took."""
        [(batch, indices)] = data.feed(self._train, order[:1], mesh=self._mesh)
        start = time.perf_counter()
        self._step.lower(self._state, self._values, self._shared, batch, indices, 0).compile()
        return time.perf_counter() - start

    def one_by_one(self, order: Array) -> list[float]:
        """Takes steps that wait for each other; returns the seconds of each, without reading."""
        seconds = []
        for batch, indices in data.feed(self._train, order, mesh=self._mesh):
            start = time.perf_counter()
            jax.block_until_ready(self._take(batch, indices))
            seconds.append(time.perf_counter() - start)
        return seconds

    def in_loop(self, order: Array) -> tuple[float, float]:
        """Takes steps as a run does; returns their seconds, and those spent waiting for samples."""
        waits, pending = [], None
        start = time.perf_counter()
        batches = data.feed(self._train, order, on_wait=waits.append, mesh=self._mesh)
        for batch, indices in batches:
            metrics = self._take(batch, indices)
            jax.device_get(pending)
            pending = metrics
        jax.block_until_ready(self._state)
        return time.perf_counter() - start, sum(waits)

    def _take(self, batch, indices):
        self._state, metrics = self._step(
            self._state, self._values, self._shared, batch, indices, 0
        )
        return metrics


def _order(program: Program, values: MemberValues) -> Array:
    """`(step, batch)` indices of the steps, from as many epochs as that takes."""
    order = jax.jit(program.whole_order)
    values = member_state(values, 0)
    epochs = range(-(-_STEPS // _num_steps(program)))
    return jnp.concatenate([order(values, epoch) for epoch in epochs])[:_STEPS]


def _epoch_seconds(
    compiled: CompiledRun, values: MemberValues, states: TrainState, members: str
) -> float:
    """Seconds of an epoch: the median over as many as have the steps to be timed.

    The first epoch deletes the arrays of `states`.
    """
    epoch = jit_epoch(compiled.program, members)
    epoch.lower(states, values, compiled.shared, compiled.train, 0).compile()
    seconds = []
    for _ in range(-(-_STEPS // _num_steps(compiled.program))):
        start = time.perf_counter()
        states, *_ = jax.block_until_ready(
            epoch(states, values, compiled.shared, compiled.train, 0)
        )
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _num_steps(program: Program) -> int:
    return data.num_batches(program.num_samples, program.batch_size)


def _peak() -> tuple[int, str]:
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "device"
    import resource  # not on every platform

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "process"
