"""Runs the unfinished members of a sweep in this process, one program after the other.

    unfinished members ─► programs: members that one compiled program runs
                       ─► chunks: as many members of a program as fit into memory at once
                       ─► Session.run ─► the members' folders ─► sweep.json

A session holds data and dense network of a program, and trains its members. It is created when the
program's turn comes and freed before the next one. Whenever the process is stopped, each member is
either finished or starts again next time.
"""

import functools
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from absl import logging

from bap_jax import sharding, task
from bap_jax.experiment import Session
from bap_jax.sweep import results
from bap_jax.sweep.folder import SweepFolder, check_sweep_folder
from bap_jax.sweep.plan import Member, ProgramPlan, digest
from bap_jax.training import Execution
from bap_jax.workdir import flatten_config

_Item = TypeVar("_Item")
# Sections that can contradict each other, and keys that name functions.
_CHECKED = (
    "data.",
    "model.",
    "pruning.",
    "optimizer.name",
    "dual.optimizer",
    "dense.optimizer.name",
)


class MakeSession(Protocol):
    """Creates the session of a program; `Session` itself does."""

    def __call__(self, plain: dict[str, Any], folder: Path, execution: Execution, /) -> Session:
        """Creates a session.

        Args:
          plain: the config of one of the program's members, as plain values.
          folder: of the dense model.
          execution: how programs run on this machine.
        """
        ...


class Sweep(NamedTuple):
    """A sweep that is ready to run.

    Attributes:
      members: all members, in the order of the axes.
      programs: the same members, grouped by the compiled program that runs them.
      folder: the workdir.
      execution: how programs run on this machine.
      make_session: creates the session of a program.
    """

    members: tuple[Member, ...]
    programs: Sequence[ProgramPlan]
    folder: SweepFolder
    execution: Execution
    make_session: MakeSession = Session


def print_progress(line: str) -> None:
    """Prints a line to stderr, in the first process only."""
    if sharding.is_first_process():
        print(line, file=sys.stderr, flush=True)


def unfinished_programs(sweep: Sweep) -> list[ProgramPlan]:
    """The programs of a sweep with those members only that are not finished.

    The first process reads which members are finished; the others agree with it.
    """
    reads = sharding.is_first_process()
    finished = [reads and sweep.folder.outcome(member) is not None for member in sweep.members]
    finished = sharding.from_first_process(np.array(finished, bool))
    names = {member.name for member, done in zip(sweep.members, finished, strict=True) if not done}
    return restrict_programs(sweep.programs, names)


def restrict_programs(programs: Sequence[ProgramPlan], names: set[str]) -> list[ProgramPlan]:
    """The programs with the members of these names only; programs without any are dropped."""
    kept = [[m for m in program.members if m.name in names] for program in programs]
    return [ProgramPlan(tuple(members)) for members in kept if members]


def count_members(programs: Sequence[ProgramPlan]) -> int:
    """How many members some programs have."""
    return sum(len(program.members) for program in programs)


def check_programs(
    sweep: Sweep,
    check: Callable[[dict[str, Any], Execution], dict[str, Any]] = task.check_task,
) -> list[dict[str, Any]]:
    """Finds mistakes in the data and networks of all programs before the first one is trained.

    Args:
      sweep: only its unfinished members are checked.
      check: loads data and network of a config, trains nothing, and returns a summary of the data.

    Returns:
      `{"data": section of the config, "summary": …}` for each distinct `data` section.

    Raises:
      UserError: by `check`, or the workdir belongs to something else.
    """
    sharding.by_first_process(lambda: check_sweep_folder(sweep.folder, sweep.members))
    plains = [program.members[0].plain for program in unfinished_programs(sweep)]
    distinct = {digest(_checked(plain)): plain for plain in plains}
    summaries = {}
    for plain in distinct.values():
        section = {"data": plain["data"], "summary": check(plain, sweep.execution)}
        summaries.setdefault(digest(plain["data"]), section)
    return list(summaries.values())


def _checked(plain):
    return {key: value for key, value in flatten_config(plain).items() if key.startswith(_CHECKED)}


def split_evenly(items: Sequence[_Item], count: int) -> list[list[_Item]]:
    """Splits into `count` consecutive chunks whose lengths differ by at most one.

    Example:
      >>> split_evenly([0, 1, 2, 3, 4], 2)
      [[0, 1], [2, 3, 4]]
    """
    ends = [len(items) * i // count for i in range(count + 1)]
    return [list(items[start:end]) for start, end in itertools.pairwise(ends)]


def run_programs(
    sweep: Sweep,
    programs: Sequence[ProgramPlan],
    after_chunk: Callable[[], None] = lambda: None,
    on_progress: Callable[[str], None] = print_progress,
    is_alone: bool = False,
) -> None:
    """Trains the members of some programs, with one session for each program.

    Args:
      sweep: its workdir must have been opened.
      programs: programs of the sweep, or parts of them.
      after_chunk: called whenever the members of a chunk are finished.
      on_progress: receives a line of text after each chunk.
      is_alone: whether no other process writes to the same terminal; a live line then shows epochs.
    """
    total, done = count_members(programs), 0
    for number, program in enumerate(programs, 1):
        members = program.members
        plain = members[0].plain
        session = sweep.make_session(plain, sweep.folder.dense(plain), sweep.execution)
        chunks = -(-len(members) // session.capacity(len(members)))
        for chunk in split_evenly(members, chunks):
            start = time.perf_counter()
            label = f"program {number}/{len(programs)}" if is_alone else ""
            diverged = _run_chunk(session, chunk, sweep.folder, label)
            after_chunk()
            done += len(chunk)
            seconds = time.perf_counter() - start
            on_progress(
                f"program {number}/{len(programs)}: {len(chunk)} members in {seconds:.1f} s, "
                f"{diverged} diverged; {done}/{total} done"
            )
        del session  # frees its arrays before the next session is created


def _run_chunk(session, chunk, folder, label):
    """Trains members at once; returns how many diverged."""
    sharding.by_first_process(lambda: [folder.begin(member) for member in chunk])
    folders = [folder.member(member) for member in chunk]
    outcomes = session.run([member.plain for member in chunk], folders, label=label)
    errors = [outcome.error for outcome in outcomes]
    for text in itertools.chain(*(outcome.warnings for outcome in outcomes)):
        logging.warning(text)
    for member, error in zip(chunk, errors, strict=True):
        if error is not None:
            sharding.by_first_process(functools.partial(folder.fail, member, str(error)))
    return sum(error is not None for error in errors)


def run_in_process(
    sweep: Sweep,
    on_progress: Callable[[str], None] = print_progress,
    on_warning: Callable[[str], object] = logging.warning,
) -> list[results.Row]:
    """Trains all unfinished members in this process and writes the results.

    If several processes share the devices, each of them must call this; they run every member
    together.

    Returns:
      See `write_results`.
    """

    def save():
        rows = results.collect_rows(sweep.folder, sweep.members)
        results.write_rows(sweep.folder, rows)

    def after_chunk():
        sharding.by_first_process(save)

    run_programs(sweep, unfinished_programs(sweep), after_chunk, on_progress, is_alone=True)
    return write_results(sweep, on_warning)


def write_results(
    sweep: Sweep, on_warning: Callable[[str], object] = logging.warning
) -> list[results.Row]:
    """Collects the rows of all finished members and writes `sweep.json`, `.csv` and `.png`.

    Args:
      sweep: whose members they are.
      on_warning: called with a text if the figure cannot be drawn.

    Returns:
      The rows, as in `sweep.json`; empty in all processes but the first.
    """
    rows = []

    def write():
        rows.extend(results.collect_rows(sweep.folder, sweep.members))
        for text in results.write_all(sweep.folder, rows):
            on_warning(text)

    sharding.by_first_process(write)
    return rows
