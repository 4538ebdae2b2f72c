"""A sweep on several processes, each with its share of the cores and of the members.

    parent ─► dense models, which all share ─► a worker for each share ─► results

The members left stand in a line, program by program, and the line is cut into equal shares: few
programs are compiled twice, and all shares end at about the same time. A worker is the parent's own
command with `--worker=i/n`; it reads the names of its members from its standard input, and ends
when that closes, which it does even when the parent is killed.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bap_jax.sweep.plan import Member
from bap_jax.sweep.results import Row
from bap_jax.sweep.runner import Sweep, even_chunks, finish, pieces_left, run_pieces, say
from bap_jax.types import UserError


class WorkerError(RuntimeError):
    """A worker ended before its members were finished."""


class Worker(NamedTuple):
    """Which of how many workers.

    Attributes:
      number: from 0.
      count: of all.
    """

    number: int
    count: int


def choose_jobs(requested: str, cores: int, backend: str, members: int, processes: int = 1) -> int:
    """How many processes a sweep gets, each with members of its own.

    Args:
      requested: `auto`, or a number.
      cores: that this process may use.
      backend: JAX's; an accelerator is not shared, unless a number is requested.
      members: that are left.
      processes: that share the devices; where several do, they run the sweep together.

    Raises:
      UserError: `requested` is neither, or more than 1 where processes share the devices.
    """
    if processes > 1:
        if requested in ("auto", "1"):
            return 1
        raise UserError(f"{processes} processes run the sweep together; leave out --jobs.")
    if requested == "auto":
        wanted = cores if backend == "cpu" else 1
    elif requested.isascii() and requested.isdigit() and int(requested):
        wanted = int(requested)
    else:
        raise UserError(f"--jobs must be auto or an integer ≥ 1; got {requested!r}.")
    return max(1, min(wanted, members))


def own_cores() -> list[int]:
    """The cores that this process may use; made up where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def parse_worker(text: str) -> Worker:
    """The worker that `--worker=TEXT` means: `0/2` and `1/2` are two."""
    number, count = text.split("/")
    return Worker(int(number), int(count))


def pin(worker: Worker) -> None:
    """Leaves this process its share of the cores, if the system can; before JAX counts them."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = own_cores()
    if worker.count > len(cores):
        share = [cores[worker.number % len(cores)]]
    else:
        share = even_chunks(cores, worker.count)[worker.number]
    os.sched_setaffinity(0, share)


def shares(pieces: Sequence[Sequence[Member]], count: int) -> list[list[list[Member]]]:
    """Cuts the line of all pieces into `count` shares, each a list of pieces, alike to a member."""
    line = [(number, member) for number, piece in enumerate(pieces) for member in piece]
    found = []
    for chunk in even_chunks(line, count):
        share: dict[int, list[Member]] = {}
        for number, member in chunk:
            share.setdefault(number, []).append(member)
        found.append(list(share.values()))
    return found


def run_workers(
    sweep: Sweep, jobs: int, command: Sequence[str], say: Callable[[str], None] = say
) -> list[Row]:
    """Runs what is left on `jobs` processes.

    Args:
      sweep: whose folder is claimed.
      jobs: how many, at most as many as members are left.
      command: this process' own; `--worker=i/n` is put behind it.
      say: takes lines of progress; the workers write theirs themselves.

    Returns:
      The rows of all members, as `sweep.json` holds them.

    Raises:
      WorkerError: a worker died; the others have ended, and what is finished is collected.
    """
    pieces = pieces_left(sweep)
    _make_dense_models(sweep, pieces)
    say(f"{sum(map(len, pieces))} members on {jobs} processes")
    workers = []
    try:
        for i, share in enumerate(shares(pieces, jobs)):
            workers.append(_start([*command, f"--worker={i}/{jobs}"], share))
        codes = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()  # does nothing to one that has ended
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()
            worker.wait()
    rows = finish(sweep)
    died = [f"{i} (exit code {code})" for i, code in enumerate(codes) if code]
    if died:
        raise WorkerError(
            f"worker {', '.join(died)} of {jobs} died, see above; {len(rows)} of "
            f"{len(sweep.members)} members are finished. The same command goes on from there."
        )
    return rows


def run_as_worker(sweep: Sweep, worker: Worker, say: Callable[[str], None] = say) -> None:
    """Runs the members whose names the parent sends."""
    names = set(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    pieces = [[m for m in program.members if m.name in names] for program in sweep.programs]
    pieces = [piece for piece in pieces if piece]
    run_pieces(sweep, pieces, say=lambda text: say(f"worker {worker.number}: {text}"))


def _end_with_the_parent():
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin: its lock would hold up a regular end
    os._exit(1)


def _make_dense_models(sweep, pieces):
    plains = {sweep.folder.dense(piece[0].plain): piece[0].plain for piece in pieces}
    for place, plain in plains.items():
        sweep.make_session(plain, place, sweep.execution)


def _start(command, share):
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    names = [member.name for piece in share for member in piece]
    with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code tells
        worker.stdin.write(json.dumps(names) + "\n")
        worker.stdin.flush()
    return worker
