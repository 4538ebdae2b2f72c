"""What is run, skipped, begun anew; shares of workers. The session is a fake."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bap_jax import audit
from bap_jax.sweep import (
    WorkerError,
    check_programs,
    choose_jobs,
    parse_worker,
    pin,
    run_workers,
)
from bap_jax.sweep.runner import even_chunks, pieces_left, run_alone
from bap_jax.sweep.workers import own_cores, shares
from bap_jax.types import UserError
from tests.sweep.fakes import FakeSession, make_sweep

ROOT = Path(__file__).parents[2]
AXES = ("seed=0:3,13", "method=nft,ceag", "tolerance=0.0,0.01")


def quiet(text):
    del text


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """It would take longer than all else; tests/sweep/test_results.py draws."""
    monkeypatch.setattr(audit, "draw_tradeoff", lambda rows, path: path.write_text(str(len(rows))))


@pytest.fixture
def session():
    class Session(FakeSession):
        sessions, ran, stop_after = [], [], None

    return Session


@pytest.mark.parametrize(("count", "chunks"), [(7, 3), (8, 2), (2, 2), (3, 5), (0, 2)])
def test_chunks_are_even(count, chunks):
    found = even_chunks(range(count), chunks)
    assert list(itertools.chain(*found)) == list(range(count)) and len(found) == chunks
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_session_a_program_and_chunks_as_large_as_fit(tmp_path, session):
    said = []
    sweep = make_sweep(tmp_path / "w", *AXES, chunk=3, session=session)
    rows = run_alone(sweep, said.append)
    assert [method for method, _ in session.sessions] == ["nft", "ceag"]
    assert len({dense for _, dense in session.sessions}) == 1
    assert len(session.ran) == len(rows) == 16
    assert [line.split(" in ")[0] for line in said[:3]] == [
        "program 1/2: 2 members",
        "program 1/2: 3 members",
        "program 1/2: 3 members",
    ]
    assert said[-1].endswith("2 diverged; 16/16 done")


def test_what_is_finished_is_not_run_again(tmp_path, session):
    first = run_alone(make_sweep(tmp_path / "w", *AXES, session=session), quiet)
    session.ran.clear(), session.sessions.clear()
    assert run_alone(make_sweep(tmp_path / "w", *AXES, session=session), quiet) == first
    assert not session.ran and not session.sessions
    wider = make_sweep(
        tmp_path / "w", "method=nft,ceag", "tolerance=0.01,0.05", "seed=0:2", session=session
    )
    assert len(run_alone(wider, quiet)) == 8
    assert set(session.ran) == {(m, s, 0.05) for m in ("nft", "ceag") for s in (0, 1)}


@pytest.mark.parametrize("stop_after", [0, 5, 12])
def test_an_interrupted_sweep_goes_on(stop_after, tmp_path, session):
    whole = run_alone(make_sweep(tmp_path / "whole", *AXES, session=session), quiet)
    session.ran.clear()
    sweep = make_sweep(tmp_path / "cut", *AXES, chunk=2, session=session)
    session.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        run_alone(sweep, quiet)
    saved = json.loads(sweep.folder.results.read_text())["rows"]
    assert len(saved) == stop_after - stop_after % 2
    session.stop_after = None
    assert run_alone(make_sweep(tmp_path / "cut", *AXES, session=session), quiet) == whole
    for name in ("sweep.json", "sweep.csv", "sweep.png"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_diverged_is_not_tried_again_until_it_is_deleted(tmp_path, session):
    sweep = make_sweep(tmp_path / "w", "seed=12:14", session=session)
    run_alone(sweep, quiet)
    session.ran.clear()
    run_alone(sweep, quiet)
    assert not session.ran
    (sweep.folder.member(sweep.members[1]) / "failed.json").unlink()
    run_alone(sweep, quiet)
    assert [seed for _, seed, _ in session.ran] == [13]


def test_each_data_set_and_network_is_checked_once_before(tmp_path, session):
    sweep = make_sweep(tmp_path / "w", *AXES, "model.hidden=(8,),(9,)", session=session)
    checked = []
    check_programs(sweep, checked.append)
    assert [plain["model"]["hidden"] for plain in checked] == [[8], [9]]
    (tmp_path / "w" / "sweep.json").unlink()
    with pytest.raises(UserError, match="holds no sweep"):
        check_programs(sweep, checked.append)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_shares_cover_all_members_once(count, tmp_path):
    sweep = make_sweep(tmp_path / "w", *AXES)
    pieces = pieces_left(sweep)
    found = shares(pieces, count)
    line = [member.name for share in found for piece in share for member in piece]
    assert line == [member.name for piece in pieces for member in piece]
    sizes = [sum(map(len, share)) for share in found]
    assert len(found) == count and max(sizes) - min(sizes) <= 1
    for piece in (piece for share in found for piece in share):
        assert len({member.plain["method"] for member in piece}) == 1


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
def test_jobs_that_are_none(requested):
    with pytest.raises(UserError, match="--jobs must be auto or an integer ≥ 1; got"):
        choose_jobs(requested, 2, "cpu", 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_workers_share_the_cores(count):
    before, taken = own_cores(), []
    try:
        for i in range(count):
            os.sched_setaffinity(0, before)
            pin(parse_worker(f"{i}/{count}"))
            taken.append(own_cores())
    finally:
        os.sched_setaffinity(0, before)
    assert all(taken)
    if count <= len(before):
        assert list(itertools.chain(*taken)) == before


WORKER = """
import os, sys
root, axes, fault, flag = sys.argv[1:]
if flag == f"--worker={fault}/2":
    os._exit(7)
from bap_jax import sweep
from tests.sweep.fakes import make_sweep
worker = sweep.parse_worker(flag.removeprefix("--worker="))
axes = axes.split(" ")
sweep.run_as_worker(make_sweep(root, *axes), worker)
"""


def worker_command(root, fault="none"):
    return [sys.executable, "-c", WORKER, str(root), " ".join(AXES), fault]


def test_workers_do_what_one_process_does(tmp_path, session, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    alone = run_alone(make_sweep(tmp_path / "alone", *AXES, session=session), quiet)
    session.ran.clear(), session.sessions.clear()
    sweep = make_sweep(tmp_path / "w", *AXES, session=session)
    assert run_workers(sweep, 2, worker_command(tmp_path / "w"), quiet) == alone
    assert len(session.sessions) == 1 and not session.ran  # the dense model alone
    err = capfd.readouterr().err
    assert "worker 0: program 1/1: 8 members" in err and "worker 1: program 1/1: 8 members" in err


def test_a_worker_that_dies_is_named(tmp_path, session, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = make_sweep(tmp_path / "w", *AXES, session=session)
    with pytest.raises(
        WorkerError, match=r"worker 1 \(exit code 7\) of 2 died, .* 8 of 16 members are finished"
    ):
        run_workers(sweep, 2, worker_command(tmp_path / "w", fault="1"), quiet)
    assert len(json.loads(sweep.folder.results.read_text())["rows"]) == 8
    assert sum(map(len, pieces_left(sweep))) == 8


def test_a_worker_ends_with_its_parent():
    code = """
import time
from bap_jax.sweep import Sweep, run_as_worker
from bap_jax.sweep.plan import Member, ProgramPlan
class Session:
    def __init__(self, *arguments):
        print("ready", flush=True)
        time.sleep(60)
class Folder:
    def dense(self, plain):
        return None
member = Member("a", {}, {})
sweep = Sweep((member,), [ProgramPlan((member,))], Folder(), Session)
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
