"""What the parts share: compiling several programs at once, blocks of steps, comparisons."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import timing

from accelerator_parts.part import Recorder
from bap_jax import models
from bap_jax.models import Model

PRECISIONS = ("float32", "bfloat16")
BLOCK_SECONDS = 0.05  # a block of steps lasts at least this long
MOST_SECONDS = 12.0  # of a comparison, after which three rounds suffice
_MOST_STEPS = 5000


class Task(NamedTuple):
    """A function to compile: its state, which it returns anew, and further arguments.

    Attributes:
      function: `(state, *operands) -> (state, anything)`.
      state: where it starts. To compile the task, shapes and types are enough.
      operands: of a call, unless it is given others of the same shapes.
      donate: whether a call may overwrite the state (a copy of the first one).
    """

    function: Callable[..., tuple[Any, Any]]
    state: Any
    operands: tuple = ()
    donate: bool = True


class Program:
    """A compiled task; each call goes on from the state that the one before it returned."""

    def __init__(self, compiled: Any, task: Task):
        self.compiled, self.operands = compiled, task.operands
        self.state = jax.tree.map(jnp.copy, task.state) if task.donate else task.state

    def __call__(self, *operands: Any) -> Any:
        self.state, out = self.compiled(self.state, *(operands or self.operands))
        return self.state, out

    def bytes(self) -> int | None:
        """Memory of a call: arguments, results that are not written over them, and the rest."""
        return program_bytes(self.compiled)


def program_bytes(compiled: Any) -> int | None:
    """Memory that a compiled program needs, by XLA's analysis; None if there is none."""
    try:
        memory = compiled.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    if memory is None:
        return None
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )


def flops(lowered: Any) -> float | None:
    """Floating point operations of a traced program, as XLA counts them before it compiles it."""
    cost = lowered.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return (cost or {}).get("flops")


def lower(task: Task) -> Any:
    """A traced task: `jax.stages.Lowered`."""
    jitted = jax.jit(task.function, donate_argnums=0 if task.donate else ())
    return jitted.lower(task.state, *task.operands)


def compile_all(tasks: Mapping[str, Task]) -> dict[str, Program]:
    """Compiles tasks in parallel threads, after tracing them one by one."""
    lowered = {name: lower(task) for name, task in tasks.items()}
    with ThreadPoolExecutor(8) as pool:
        compiled = pool.map(lambda program: program.compile(), lowered.values())
        return {
            name: Program(program, tasks[name])
            for name, program in zip(tasks, compiled, strict=True)
        }


def repeated(run: Callable[[], Any], count: int) -> Callable[[], Any]:
    """A function that calls `run` `count` times and returns the last result."""

    def run_all():
        for _ in range(count - 1):
            run()
        return run()

    return run_all


def steps_of_a_block(run: Callable[[], Any], least: float) -> int:
    """How many calls of `run`, in a row, last `least` seconds."""
    for _ in range(2):
        timing.time_once(run)
    start, count = time.perf_counter(), 3
    for _ in range(count - 1):
        run()
    jax.block_until_ready(run())
    seconds = (time.perf_counter() - start) / count
    return max(1, min(_MOST_STEPS, int(least / seconds) + 1))


def compare(
    recorder: Recorder,
    case: str,
    runs: Mapping[str, Callable[[], Any]],
    pairs: Sequence[tuple[str, str]],
    *,
    rounds: int,
    goals: Mapping[str, float | None] | None = None,
    per: float = 1.0,
    **numbers: Any,
) -> dict[str, list[float]]:
    """Times runs in turn, and hands in a row for each pair: one over the other.

    After three rounds it stops when the part has no time left, or after `MOST_SECONDS`.

    Args:
      recorder: gets the rows, called `case one/other`.
      case: what is compared.
      runs: by name.
      pairs: names of runs, numerator first.
      rounds: how often each is timed; `--rounds` goes before it.
      goals: the largest ratio that is wanted, by `one/other`.
      per: calls or steps of a run, by which milliseconds are divided.
      **numbers: for every row.

    Returns:
      Seconds of each run, one for each round.
    """
    end = time.perf_counter() + MOST_SECONDS

    def is_enough():
        return recorder.seconds_left() < 0 or time.perf_counter() > end

    seconds = timing.interleaved(dict(runs), recorder.rounds(rounds), is_enough=is_enough)
    for above, below in pairs:
        row = timing.against_each_other(seconds[above], seconds[below])
        row |= {"ms": row["ms"] / per, "against_ms": row["against_ms"] / per}
        goal = (goals or {}).get(f"{above}/{below}")
        goal = {} if goal is None else {"goal": goal}
        numbers |= {"rounds": len(seconds[above])}
        recorder.row(f"{case} {above}/{below}", **row, **goal, **numbers)
    return seconds


class Network(NamedTuple):
    """A network, and the batches on which it is timed.

    Attributes:
      name, options, num_classes: of `models.build`.
      shape: of one input.
      batch: samples of a step.
      batches: different ones that take turns.
    """

    name: str
    options: dict
    shape: tuple[int, ...]
    num_classes: int
    batch: int = 128
    batches: int = 2

    def build(self, precision: str, **options: Any) -> Model:
        """The network, computing in `precision`."""
        model = models.build(self.name, self.num_classes, **self.options, **options)
        return models.in_precision(model, precision)


_TINY = Network("resnet", {"depth": 8, "width": 2}, (8, 8, 3), 4, 4)


def resnet56(small: bool) -> Network:
    """CIFAR-100's ResNet-56, or a tiny one."""
    return _TINY if small else Network("resnet", {"depth": 56}, (32, 32, 3), 100)


def resnet50(small: bool) -> Network:
    """ImageNet's ResNet-50, or a tiny one."""
    return _TINY if small else Network("imagenet_resnet", {"depth": 50}, (224, 224, 3), 1000)


def mlp(small: bool) -> Network:
    """The MLP 64-256-256-10, or a tiny one."""
    hidden = (8, 8) if small else (256, 256)
    return Network("mlp", {"hidden": hidden}, (64,), 10, 8 if small else 128, 16)
