"""Runs what is left of a sweep, program by program and chunk by chunk, in this process.

    members not finished ─► pieces: those of one program ─► chunks: as many as fit at once
                         ─► session.run ─► their folders ─► sweep.json

The session compiles and trains; it is made for a program when the program's turn comes, and let go
before the next. Whatever ends this process, a chunk's members are finished or begin anew.
"""

import functools
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bap_jax import sharding
from bap_jax.sweep import results
from bap_jax.sweep.folder import SweepFolder, check_sweep_claim
from bap_jax.sweep.plan import Member, ProgramPlan, digest

_CHECKED = ("data", "model", "pruning")  # what data and network can disagree with


class RunResultLike(Protocol):
    """What a session says of a member: a report, or why the run diverged."""

    report: dict[str, Any] | None
    error: Exception | str | None


class SessionLike(Protocol):
    """Data, network and dense model of a program, and what trains its members."""

    def capacity(self, count: int) -> int:
        """How many of `count` members fit at once."""

    def run(self, plains: list[dict[str, Any]], folders: list[Path]) -> Sequence[RunResultLike]:
        """Runs members at once and writes their folders, `report.json` last."""


class Sweep(NamedTuple):
    """A sweep that is ready to run.

    Attributes:
      members: all, in the order of the axes.
      programs: the same members, alike ones together.
      folder: where everything goes.
      make_session: from a member's config, the folder of its dense model and `execution`.
      execution: how a session runs members; nothing here looks into it.
    """

    members: tuple[Member, ...]
    programs: Sequence[ProgramPlan]
    folder: SweepFolder
    make_session: Callable[[dict[str, Any], Path, Any], SessionLike]
    execution: Any = None


def say(text: str) -> None:
    """A line of progress for whoever waits at the terminal."""
    if sharding.is_first_process():
        print(text, file=sys.stderr, flush=True)


def pieces_left(sweep: Sweep) -> list[list[Member]]:
    """The members that the first process finds unfinished; those of one program together."""
    here = sharding.is_first_process()
    finished = [here and sweep.folder.outcome(member) is not None for member in sweep.members]
    finished = sharding.from_first_process(np.array(finished, bool))
    names = {member.name for member, done in zip(sweep.members, finished, strict=True) if not done}
    left = [[m for m in program.members if m.name in names] for program in sweep.programs]
    return [piece for piece in left if piece]


def check_programs(
    sweep: Sweep, check: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Lets mistakes in data and networks of any program be found before the first is trained.

    Args:
      sweep: of which only what is not finished is checked.
      check: loads data and network of a config, trains nothing, and returns a summary of the data.

    Returns:
      `{"data": section of the config, "summary": …}` for each data set, or way to group it.

    Raises:
      UserError: by `check`; or the workdir is not a sweep's.
    """
    sharding.by_first_process(lambda: check_sweep_claim(sweep.folder, sweep.members))
    plains = [piece[0].plain for piece in pieces_left(sweep)]
    distinct = {digest({key: plain[key] for key in _CHECKED}): plain for plain in plains}
    summaries = {}
    for plain in distinct.values():
        summary = check(plain)
        told = {"data": plain["data"], "summary": summary}
        summaries.setdefault(digest(plain["data"]), told)
    return list(summaries.values())


def even_chunks(items: Sequence, count: int) -> list[list]:
    """Cuts into `count` consecutive chunks whose lengths differ by one at most."""
    ends = [len(items) * i // count for i in range(count + 1)]
    return [list(items[start:end]) for start, end in itertools.pairwise(ends)]


def run_pieces(
    sweep: Sweep,
    pieces: Sequence[Sequence[Member]],
    after_chunk: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = say,
) -> None:
    """Runs members, those of one piece on one session.

    Args:
      sweep: whose folder is claimed.
      pieces: members of one program each.
      after_chunk: called when the members of a chunk are finished.
      say: takes a line of progress after each chunk.
    """
    count, done = sum(map(len, pieces)), 0
    for number, piece in enumerate(pieces, 1):
        plain = piece[0].plain
        session = sweep.make_session(plain, sweep.folder.dense(plain), sweep.execution)
        chunks = -(-len(piece) // session.capacity(len(piece)))
        for chunk in even_chunks(piece, chunks):
            start = time.perf_counter()
            diverged = _run_chunk(session, chunk, sweep.folder)
            after_chunk()
            done += len(chunk)
            seconds = time.perf_counter() - start
            say(
                f"program {number}/{len(pieces)}: {len(chunk)} members in {seconds:.1f} s, "
                f"{diverged} diverged; {done}/{count} done"
            )
        del session  # and its arrays, before the next is made


def _run_chunk(session, chunk, folder):
    """How many members diverged."""
    sharding.by_first_process(lambda: [folder.begin(member) for member in chunk])
    places = [folder.member(member) for member in chunk]
    finished = session.run([member.plain for member in chunk], places)
    errors = [found.error for found in finished]
    for member, error in zip(chunk, errors, strict=True):
        if error is not None:
            note = functools.partial(folder.fail, member, str(error))
            sharding.by_first_process(note)
    return sum(error is not None for error in errors)


def run_alone(sweep: Sweep, say: Callable[[str], None] = say) -> list[results.Row]:
    """Runs what is left in this process; several that share devices run all of it together.

    Returns:
      As of `finish`.
    """

    def write():
        results.write_rows(sweep.folder, results.collect(sweep.folder, sweep.members))

    def save():
        sharding.by_first_process(write)

    run_pieces(sweep, pieces_left(sweep), save, say)
    return finish(sweep)


def finish(sweep: Sweep) -> list[results.Row]:
    """Collects the rows of all finished members and writes all results.

    Returns:
      The rows, as `sweep.json` holds them; none in a process that writes no files.
    """
    rows = []

    def write():
        rows.extend(results.collect(sweep.folder, sweep.members))
        results.write_all(sweep.folder, rows)

    sharding.by_first_process(write)
    return rows
