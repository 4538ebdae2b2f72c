"""What a run costs on this machine, measured before it starts.

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
from bap_jax import data, pipeline, sharding, training
from bap_jax.experiment import Session
from bap_jax.training.epoch import make_epoch, make_order, make_step, over_members
from bap_jax.training.settings import Settings
from bap_jax.types import Array

_WARM_UP, _STEPS, _TRACED = 3, 50, 10


class Profile(NamedTuple):
    """What a run costs; seconds of the host's clock.

    Attributes:
      step_seconds: of a step that begins when the one before has ended; median.
      epoch_step_seconds: of an epoch's program, validation included, divided by its steps; None
        where the run counts steps on the host.
      samples_per_second: as the run goes: of the epoch's program, or of a loop that starts each
        step while the one before is computed. Samples that fill up a batch do not count.
      compile_seconds: of tracing and compiling the step; little where its program was kept.
      waiting_share: of the time of a loop over steps, what the host waits for samples to be read,
        in [0, 1]; 0 where they lie on the device.
      peak_bytes: most memory in use so far.
      peak_of: by whom: the `device`, or where that does not tell the whole `process`.
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
    """Prints what the run of `session.task` costs, and leaves a trace in `folder`."""
    found = profile(session.context, config_lib.to_settings(session.task.plain), folder)
    if sharding.is_first_process():
        print(format_profile(found), end="\n\n")


def format_profile(found: Profile) -> str:
    """A line for each number."""
    epoch = found.epoch_step_seconds
    lines = [
        ("step alone", f"{1000 * found.step_seconds:.3f} ms"),
        ("step of an epoch", "in a loop" if epoch is None else f"{1000 * epoch:.3f} ms"),
        ("samples", f"{found.samples_per_second:,.0f} a second"),
        ("compiling a step", f"{found.compile_seconds:.2f} s"),
        ("waiting for input", f"{found.waiting_share:.1%}"),
        ("peak memory", f"{found.peak_bytes / 2**20:,.0f} MiB of the {found.peak_of}"),
        ("trace", str(found.trace)),
    ]
    return "\n".join(f"{what:19}{value}" for what, value in lines)


def profile(context: pipeline.RunContext, settings: Settings, folder: Path) -> Profile:
    """Takes some steps of a fresh run; the run itself then starts as if nothing had been.

    Args:
      context: dense network and data; no array of it is changed.
      settings: of the run, checked.
      folder: where the trace goes, below `profile`.
    """
    compiled = pipeline.make_compiled_run(context, settings)
    # One member has nothing to share out.
    execution = dataclasses.replace(context.execution, spread="data")
    values = compiled.values([settings])
    states = training.make_runner(compiled.program, execution).init(
        values, compiled.shared, context.variables
    )
    steps = _Steps(compiled, values, states)
    order = _order(compiled.program, values)
    compile_seconds = steps.compile(order)
    steps.one_by_one(order[:_WARM_UP])
    alone = steps.one_by_one(order)
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
    return Profile(
        statistics.median(alone),
        per_step,
        per_second,
        compile_seconds,
        waited / seconds,
        *_peak(),
        trace,
    )


class _Steps:
    """The compiled step of one member, and the state from which it goes on."""

    def __init__(self, compiled, values, states):
        self._train, self._shared = compiled.train, compiled.shared
        self._mesh = compiled.program.mesh
        self._values, state = _first_member((values, states))
        # The step is given its state to write to, which may still be the dense network's arrays.
        self._state = jax.tree.map(jnp.copy, state)
        self._step = jax.jit(make_step(compiled.program), donate_argnums=0)

    def compile(self, order: Array) -> float:
        """Seconds that it takes."""
        [(batch, indices)] = data.feed(self._train, order[:1], mesh=self._mesh)
        start = time.perf_counter()
        self._step.lower(self._state, self._values, self._shared, batch, indices, 0).compile()
        return time.perf_counter() - start

    def one_by_one(self, order: Array) -> list[float]:
        """Seconds of each step; reading its batch is not part of it."""
        found = []
        for batch, indices in data.feed(self._train, order, mesh=self._mesh):
            start = time.perf_counter()
            jax.block_until_ready(self._take(batch, indices))
            found.append(time.perf_counter() - start)
        return found

    def in_loop(self, order: Array) -> tuple[float, float]:
        """Seconds of all steps, taken as a run does, and of them those of waiting for samples."""
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


def _order(program, values):
    """`(step, batch)` of as many epochs as it takes."""
    order = jax.jit(make_order(program))
    [values] = _first_member([values])
    epochs = range(-(-_STEPS // _num_steps(program)))
    return jnp.concatenate([order(values, epoch) for epoch in epochs])[:_STEPS]


def _epoch_seconds(compiled, values, states, members):
    """Median over as many epochs as there are steps to be timed, at least one."""
    epoch = jax.jit(over_members(make_epoch(compiled.program), members, 2))
    epoch.lower(states, values, compiled.shared, compiled.train, 0).compile()
    found = []
    for _ in range(-(-_STEPS // _num_steps(compiled.program))):
        start = time.perf_counter()
        states, *_ = jax.block_until_ready(
            epoch(states, values, compiled.shared, compiled.train, 0)
        )
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def _num_steps(program):
    return data.num_batches(program.num_samples, program.batch_size)


def _first_member(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _peak():
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "device"
    import resource  # not on every platform

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "process"
