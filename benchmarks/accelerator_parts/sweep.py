"""Members of a sweep in one program, over as many one after another by one compiled program.

    vmap     an epoch of all members at once
    map      an epoch of all members, one after another within one program
    single   a program of one member, called once for each

Members differ in their seed; each trains by CEAG with 100 groups and masks. Images are uint8 on the
device. `fits` says how many members of the vmapped program the memory holds, by XLA's analysis of
compiled programs, which are not run.
"""

import os
from typing import Any, NamedTuple

import jax
import workloads

from accelerator_parts import epoch, measure
from accelerator_parts.measure import Network, Program, Task
from accelerator_parts.part import Part, Recorder
from bap_jax.training.loop import member_state, over_members

PAIRS = (("vmap", "single"), ("map", "single"), ("map", "vmap"))
MOST_MEMBERS = 4096


class Case(NamedTuple):
    """A sweep.

    Attributes:
      name: of the rows.
      network: of every member.
      precision: of the network.
      members: how many.
      steps: of an epoch.
      need: seconds that compiling and timing take at least, roughly.
      goal: largest time of vmap over single.
    """

    name: str
    network: Network
    precision: str
    members: int
    steps: int
    need: float
    goal: float


def cases(small: bool) -> list[Case]:
    """By value."""
    resnet, mlp = measure.resnet56(small), measure.mlp(small)
    if small:
        return [Case("resnet56 x2", resnet, "float32", 2, 1, 0, 0.35)]
    return [
        Case("mlp x64", mlp, "float32", 64, 50, 10, 0.1),
        Case("resnet56 x8", resnet, "bfloat16", 8, 8, 50, 0.35),
        Case("resnet56 x8", resnet, "float32", 8, 8, 50, 0.35),
        Case("mlp x64", mlp, "bfloat16", 64, 50, 10, 0.1),
    ]


class Sweep:
    """A case's programs of any number of members."""

    def __init__(self, case: Case):
        model = epoch.build(case.network, case.precision)
        self._train = epoch.make_data(case.network, case.steps)
        self._variables = workloads.random_variables(model, self._train.inputs)
        self._program = epoch.make_program(model, case.network, self._variables, self._train)

    def first(self, members: int) -> tuple[Any, jax.Array]:
        """The states before the first step and the keys of all members, `(member, ...)`."""
        keys = jax.random.split(jax.random.key(2), members)
        return over_members(self._program.init, "vmap", 1)(keys, (), self._variables), keys

    def task(self, how: str, states: Any, keys: Any) -> Task:
        """An epoch of the members that have these states and keys; to compile it, shapes do."""
        run = over_members(self._program.epoch, how, 2, is_in_place=True)

        def one_epoch(states, keys, train):
            states, *out = run(states, keys, (), train, 0)
            return states, out

        return Task(one_epoch, states, (keys, self._train))


def measure_case(recorder: Recorder, case: Case) -> None:
    """A row for each pair."""
    sweep = Sweep(case)
    first = jax.jit(sweep.first, static_argnums=0)(case.members)
    of_members = [
        jax.tree.map(lambda leaf: leaf[None], member_state(first, i)) for i in range(case.members)
    ]
    tasks = {
        "vmap": sweep.task("vmap", *first),
        "map": sweep.task("map", *first),
        "single": sweep.task("single", *of_members[0]),
    }
    programs = measure.compile_all(tasks)
    compiled = programs["single"].compiled
    singles = [Program(compiled, sweep.task("single", *member)) for member in of_members]
    runs = {**programs, "single": lambda: [single() for single in singles]}
    measure.compare(
        recorder,
        f"{case.name} {case.precision}",
        runs,
        PAIRS,
        rounds=7,
        goals={"vmap/single": case.goal},
        per=case.steps,
        program_bytes=programs["vmap"].bytes(),
    )


def memory_limit() -> int:
    """Bytes that programs may use: of the device, or of this machine where it does not say."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fits(recorder: Recorder, case: Case) -> None:
    """Doubles the members until the next program would not fit; a row for each compiled one.

    The last row estimates the most members from the last two programs, whose memory grows linearly.
    """
    sweep, limit, needs = Sweep(case._replace(steps=2)), memory_limit(), {}
    name = f"{case.name.split()[0]} {case.precision} fits"
    members = 2 if recorder.small else 8
    while members <= (2 if recorder.small else MOST_MEMBERS):
        if recorder.seconds_left() < case.need and needs:
            recorder.skipped(f"{name} x{members}", "no time left")
            break
        task = sweep.task("vmap", *jax.eval_shape(lambda: sweep.first(members)))  # noqa: B023
        try:
            needs[members] = measure.program_bytes(measure.lower(task).compile()) or 0
        except jax.errors.JaxRuntimeError as error:  # XLA tries convolutions in real memory
            recorder.failed(f"{name} x{members}", error)
            break
        recorder.row(f"{name} x{members}", bytes=needs[members], limit=limit)
        if most_members(needs, limit) < 2 * members:
            break
        members *= 2
    if needs:
        recorder.row(name, members=most_members(needs, limit), compiled=list(needs), limit=limit)


def most_members(needs: dict[int, int], limit: int) -> int:
    """How many fit, from the bytes of the last two numbers of members (or of the only one)."""
    *_, first, last = [0, *needs]
    slope = (needs[last] - needs.get(first, 0)) / (last - first)
    return last + int((limit - needs[last]) // max(slope, 1))


def run(recorder: Recorder) -> None:
    """Comparisons, then how many members fit."""
    every = cases(recorder.small)
    for case in every:
        name = f"{case.name} {case.precision}"
        recorder.attempt(name, measure_case, recorder, case, need=case.need)
    for case in every[-1:] if recorder.small else every[1:3]:
        name = f"{case.name} {case.precision} fits"
        recorder.attempt(name, fits, recorder, case, need=case.need)


PART = Part(
    "sweep", "8 ResNet-56 and 64 MLPs in one program ÷ one by one; vmap ÷ map; what fits", 3.5, run
)
