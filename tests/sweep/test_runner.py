"""What is run, skipped and started again; the shares of workers. The session is a fake."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bap_jax import reporting
from bap_jax.errors import UserError
from bap_jax.sweep.runner import (
    check_programs,
    count_members,
    run_in_process,
    split_evenly,
    unfinished_programs,
)
from bap_jax.sweep.workers import (
    WorkerError,
    available_cores,
    choose_jobs,
    parse_worker,
    pin_to_cores,
    run_in_workers,
    split_programs,
)
from tests.sweep.fakes import FakeSession, make_sweep

ROOT = Path(__file__).parents[2]
AXES = ("seed=0:3,13", "method=nft,ceag", "tolerance=0.0,0.01")


def quiet(text):
    del text


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    """Drawing takes longer than everything else; tests/sweep/test_results.py does it."""
    monkeypatch.setattr(
        reporting, "draw_tradeoff", lambda rows, path: path.write_text(str(len(rows)))
    )


@pytest.fixture
def session():
    class Session(FakeSession):
        sessions, ran, stop_after = [], [], None

    return Session


@pytest.mark.parametrize(("count", "chunks"), [(7, 3), (8, 2), (2, 2), (3, 5), (0, 2)])
def test_chunks_are_even(count, chunks):
    split = split_evenly(range(count), chunks)
    assert list(itertools.chain(*split)) == list(range(count)) and len(split) == chunks
    assert max(map(len, split)) - min(map(len, split)) <= 1


def test_one_session_for_each_program_and_chunks_that_fit(tmp_path, session):
    lines = []
    sweep = make_sweep(tmp_path / "w", *AXES, chunk=3, session=session)
    rows = run_in_process(sweep, lines.append)
    assert [method for method, _ in session.sessions] == ["nft", "ceag"]
    assert len({dense for _, dense in session.sessions}) == 1
    assert len(session.ran) == len(rows) == 16
    assert [line.split(" in ")[0] for line in lines[:3]] == [
        "program 1/2: 2 members",
        "program 1/2: 3 members",
        "program 1/2: 3 members",
    ]
    assert lines[-1].endswith("2 diverged; 16/16 done")


def test_what_is_finished_is_not_run_again(tmp_path, session):
    first = run_in_process(make_sweep(tmp_path / "w", *AXES, session=session), quiet)
    session.ran.clear(), session.sessions.clear()
    assert run_in_process(make_sweep(tmp_path / "w", *AXES, session=session), quiet) == first
    assert not session.ran and not session.sessions
    wider = make_sweep(
        tmp_path / "w", "method=nft,ceag", "tolerance=0.01,0.05", "seed=0:2", session=session
    )
    assert len(run_in_process(wider, quiet)) == 8
    assert set(session.ran) == {(m, s, 0.05) for m in ("nft", "ceag") for s in (0, 1)}


@pytest.mark.parametrize("stop_after", [0, 5, 12])
def test_an_interrupted_sweep_goes_on(stop_after, tmp_path, session):
    whole = run_in_process(make_sweep(tmp_path / "whole", *AXES, session=session), quiet)
    session.ran.clear()
    sweep = make_sweep(tmp_path / "cut", *AXES, chunk=2, session=session)
    session.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        run_in_process(sweep, quiet)
    saved = json.loads(sweep.folder.results.read_text())["rows"]
    assert len(saved) == stop_after - stop_after % 2
    session.stop_after = None
    assert run_in_process(make_sweep(tmp_path / "cut", *AXES, session=session), quiet) == whole
    for name in ("sweep.json", "sweep.csv", "sweep.png"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_diverged_is_not_tried_again_until_it_is_deleted(tmp_path, session):
    sweep = make_sweep(tmp_path / "w", "seed=12:14", session=session)
    run_in_process(sweep, quiet)
    session.ran.clear()
    run_in_process(sweep, quiet)
    assert not session.ran
    (sweep.folder.member(sweep.members[1]) / "failed.json").unlink()
    run_in_process(sweep, quiet)
    assert [seed for _, seed, _ in session.ran] == [13]


def test_each_data_set_and_network_is_checked_once_before(tmp_path, session):
    sweep = make_sweep(tmp_path / "w", *AXES, "model.hidden=(8,),(9,)", session=session)
    checked = []

    def check(plain, execution):
        assert execution is sweep.execution
        checked.append(plain)

    check_programs(sweep, check)
    assert [plain["model"]["hidden"] for plain in checked] == [[8], [9]]
    (tmp_path / "w" / "sweep.json").unlink()
    with pytest.raises(UserError, match="holds dense, members, .*and no sweep"):
        check_programs(sweep, check)
    assert len(checked) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_shares_cover_all_members_once(count, tmp_path):
    sweep = make_sweep(tmp_path / "w", *AXES)
    programs = unfinished_programs(sweep)
    shares = split_programs(programs, count)
    names = [m.name for share in shares for program in share for m in program.members]
    assert names == [member.name for program in programs for member in program.members]
    sizes = list(map(count_members, shares))
    assert len(shares) == count and max(sizes) - min(sizes) <= 1
    for program in itertools.chain(*shares):
        assert len({member.plain["method"] for member in program.members}) == 1


@pytest.mark.parametrize(
    ("requested", "cores", "backend", "members", "jobs"),
    [
        ("auto", 8, "cpu", 24, 8),
        ("auto", 8, "cpu", 3, 3),
        ("auto", 8, "gpu", 24, 1),
        ("auto", 8, "cpu", 0, 1),
        ("4", 2, "gpu", 24, 4),
        ("4", 2, "cpu", 3, 3),
    ],
)
def test_jobs(requested, cores, backend, members, jobs):
    assert choose_jobs(requested, cores, backend, members) == jobs


@pytest.mark.parametrize("requested", ["0", "-1", "two", "1.5", ""])
def test_invalid_jobs(requested):
    with pytest.raises(UserError, match="--jobs must be auto or an integer ≥ 1; got"):
        choose_jobs(requested, 2, "cpu", 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_workers_share_the_cores(count):
    before, shares = available_cores(), []
    try:
        for i in range(count):
            os.sched_setaffinity(0, before)
            pin_to_cores(parse_worker(f"{i}/{count}"))
            shares.append(available_cores())
    finally:
        os.sched_setaffinity(0, before)
    assert all(shares)
    if count <= len(before):
        assert list(itertools.chain(*shares)) == before


WORKER = """
import os, sys
root, axes, fault, flag = sys.argv[1:]
if flag == f"--worker={fault}/2":
    os._exit(7)
from bap_jax.sweep.workers import parse_worker, run_as_worker
from tests.sweep.fakes import make_sweep
worker = parse_worker(flag.removeprefix("--worker="))
run_as_worker(make_sweep(root, *axes.split(" ")), worker)
"""


def worker_command(root, fault="none"):
    return [sys.executable, "-c", WORKER, str(root), " ".join(AXES), fault]


@pytest.mark.smoke
def test_workers_do_what_one_process_does(tmp_path, session, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    rows = run_in_process(make_sweep(tmp_path / "one", *AXES, session=session), quiet)
    session.ran.clear(), session.sessions.clear()
    sweep = make_sweep(tmp_path / "w", *AXES, session=session)
    assert run_in_workers(sweep, 2, worker_command(tmp_path / "w"), quiet) == rows
    assert len(session.sessions) == 1 and not session.ran  # the dense model only
    err = capfd.readouterr().err
    assert "worker 0: program 1/1: 8 members" in err and "worker 1: program 1/1: 8 members" in err


@pytest.mark.smoke
def test_a_worker_that_dies_is_named(tmp_path, session, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = make_sweep(tmp_path / "w", *AXES, session=session)
    with pytest.raises(
        WorkerError, match=r"worker 1 \(exit code 7\) of 2 died, .* 8 of 16 members are finished"
    ):
        run_in_workers(sweep, 2, worker_command(tmp_path / "w", fault="1"), quiet)
    assert len(json.loads(sweep.folder.results.read_text())["rows"]) == 8
    assert count_members(unfinished_programs(sweep)) == 8


def test_a_worker_ends_with_its_parent():
    code = """
import time
from bap_jax.sweep import Member, ProgramPlan, Sweep
from bap_jax.sweep.workers import run_as_worker
class Session:
    def __init__(self, *arguments):
        print("ready", flush=True)
        time.sleep(60)
class Folder:
    def dense(self, plain):
        return None
member = Member("a", {}, {})
sweep = Sweep((member,), [ProgramPlan((member,))], Folder(), None, Session)
run_as_worker(sweep, type("W", (), {"number": 0}))
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with worker:
        worker.stdin.write('["a-44136fa3"]\n')
        worker.stdin.flush()
        assert worker.stdout.readline() == "ready\n"
        worker.stdin.close()
        assert worker.wait(timeout=20) == 1
