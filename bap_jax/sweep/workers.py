"""Runs a sweep on several processes; each gets a share of the cores and of the members.

    parent ─► dense models, shared by all workers ─► one worker for each share ─► results

The unfinished members are listed program by program, and the list is cut into equal shares: few
programs are compiled twice, and all workers finish at about the same time. A worker runs the
parent's command with `--worker=i/n`. It reads the names of its members from standard input and
exits when that closes, which also happens when the parent is killed.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import logging

from bap_jax.errors import UserError
from bap_jax.sweep.plan import Member, ProgramPlan
from bap_jax.sweep.results import Row
from bap_jax.sweep.runner import (
    Sweep,
    count_members,
    print_progress,
    restrict_programs,
    run_programs,
    split_evenly,
    unfinished_programs,
    write_results,
)


class WorkerError(RuntimeError):
    """A worker exited before its members were finished."""


class Worker(NamedTuple):
    """One of several worker processes.

    Attributes:
      number: from 0.
      count: how many workers there are.
    """

    number: int
    count: int


def choose_jobs(requested: str, cores: int, backend: str, members: int, processes: int = 1) -> int:
    """How many processes a sweep runs on, each with its own members.

    Args:
      requested: `auto`, or a number.
      cores: how many this process may use.
      backend: JAX's. On an accelerator `auto` means one process.
      members: how many are unfinished.
      processes: how many share the devices; if more than one, they run every member together.

    Raises:
      UserError: `requested` is not valid, or is more than 1 although processes share the devices.

    Example:
      >>> choose_jobs("auto", cores=8, backend="cpu", members=24)
      8
    """
    if processes > 1:
        if requested in ("auto", "1"):
            return 1
        raise UserError(f"{processes} processes run the sweep together; leave out --jobs.")
    if requested == "auto":
        jobs = cores if backend == "cpu" else 1
    elif requested.isascii() and requested.isdigit() and int(requested):
        jobs = int(requested)
    else:
        raise UserError(f"--jobs must be auto or an integer ≥ 1; got {requested!r}.")
    return max(1, min(jobs, members))


def available_cores() -> list[int]:
    """The cores that this process may use; all of them if the system cannot say."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def parse_worker(text: str) -> Worker:
    """The worker of `--worker=i/n`.

    Example:
      >>> parse_worker("0/2")
      Worker(number=0, count=2)
    """
    number, count = text.split("/")
    return Worker(int(number), int(count))


def pin_to_cores(worker: Worker) -> None:
    """Restricts this process to its share of the cores, if the system supports it.

    Must be called before JAX counts the cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = available_cores()
    if worker.count > len(cores):
        share = [cores[worker.number % len(cores)]]
    else:
        share = split_evenly(cores, worker.count)[worker.number]
    os.sched_setaffinity(0, share)


def split_programs(programs: Sequence[ProgramPlan], count: int) -> list[list[ProgramPlan]]:
    """Splits the members into `count` shares of equal size, give or take one member.

    Returns:
      For each share its programs; a program's members may be spread over several shares.
    """
    members = [
        (number, member) for number, program in enumerate(programs) for member in program.members
    ]
    shares = []
    for chunk in split_evenly(members, count):
        share: dict[int, list[Member]] = {}
        for number, member in chunk:
            share.setdefault(number, []).append(member)
        shares.append([ProgramPlan(tuple(alike)) for alike in share.values()])
    return shares


def run_in_workers(
    sweep: Sweep,
    jobs: int,
    command: Sequence[str],
    on_progress: Callable[[str], None] = print_progress,
    on_warning: Callable[[str], object] = logging.warning,
) -> list[Row]:
    """Trains all unfinished members on `jobs` processes and writes the results.

    Args:
      sweep: its workdir must have been opened.
      jobs: how many processes, at most as many as there are unfinished members.
      command: this process's own command; `--worker=i/n` is appended.
      on_progress: receives lines of text; workers print theirs themselves.
      on_warning: see `write_results`.

    Returns:
      The rows of all finished members, as in `sweep.json`.

    Raises:
      WorkerError: a worker died. The others have finished, and the results are written.
    """
    programs = unfinished_programs(sweep)
    _make_dense_models(sweep, programs)
    on_progress(f"{count_members(programs)} members on {jobs} processes")
    workers: list[subprocess.Popen] = []
    try:
        for i, share in enumerate(split_programs(programs, jobs)):
            workers.append(_start([*command, f"--worker={i}/{jobs}"], share))
        codes = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            _stop(worker)
    rows = write_results(sweep, on_warning)
    died = [f"{i} (exit code {code})" for i, code in enumerate(codes) if code]
    if died:
        raise WorkerError(
            f"worker {', '.join(died)} of {jobs} died, see its output above; {len(rows)} of "
            f"{len(sweep.members)} members are finished. Run the same command again to continue."
        )
    return rows


def run_as_worker(
    sweep: Sweep, worker: Worker, on_progress: Callable[[str], None] = print_progress
) -> None:
    """Trains the members whose names the parent process sends."""
    names = set(json.loads(sys.stdin.readline()))
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    programs = restrict_programs(sweep.programs, names)
    run_programs(
        sweep, programs, on_progress=lambda line: on_progress(f"worker {worker.number}: {line}")
    )


def _exit_with_parent():
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read: its lock would block a regular exit
    os._exit(1)


def _make_dense_models(sweep, programs):
    """Trains each dense model once, so that workers find it on disk."""
    plains = {sweep.folder.dense(p.members[0].plain): p.members[0].plain for p in programs}
    for folder, plain in plains.items():
        sweep.make_session(plain, folder, sweep.execution)


def _start(command, programs):
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    names = [member.name for program in programs for member in program.members]
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code is checked later
        worker.stdin.write(json.dumps(names) + "\n")
        worker.stdin.flush()
    return worker


def _stop(worker):
    """Ends a worker; does nothing to one that has exited."""
    worker.kill()
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.close()
    worker.wait()
