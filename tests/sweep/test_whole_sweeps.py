"""Whole sweeps: one that was killed continues and gives the rows of an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bap_jax import experiment, sweep
from bap_jax.config import default_config
from bap_jax.training import Execution

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--config.model.hidden=(16,)",
    "--config.dense.epochs=3",
    "--config.pruning.epochs=2",
    "--config.finetune_epochs=2",
    "--sweep=seed=0:3",
    "--sweep=tolerance=0.0,0.02",
    "--chunk=1",
]


def start(workdir, jobs):
    command = [sys.executable, "-m", "bap_jax.sweep", "--config=experiments/digits.py"]
    return subprocess.Popen(
        [*command, *FLAGS, f"--workdir={workdir}", f"--jobs={jobs}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def rows(workdir):
    """The rows of `sweep.json` without the times."""
    rows = json.loads((workdir / "sweep.json").read_text())["rows"]
    for row in rows:
        del row["report"]["seconds"]
    return rows


def kill_after(workdir, count, jobs):
    """Kills the whole sweep once `count` members are finished."""
    process = start(workdir, jobs)
    limit = time.monotonic() + 300
    while len(list(workdir.glob("members/*/report.json"))) < count:
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_sweep_gives_the_rows_of_an_uninterrupted_one(tmp_path, jobs):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(whole, 1).wait() == 0
    for count in (1, 4):
        kill_after(cut, count, jobs)
    finished = {path: path.stat().st_mtime_ns for path in cut.glob("members/*/report.json")}
    assert len(finished) >= 4
    assert start(cut, jobs).wait() == 0
    assert rows(cut) == rows(whole) and len(rows(cut)) == 6
    assert all(path.stat().st_mtime_ns == at for path, at in finished.items())


@pytest.mark.slow
def test_a_member_gives_the_report_of_a_single_run(tmp_path):
    assert start(tmp_path / "sweep", 1).wait() == 0
    for row in rows(tmp_path / "sweep")[:3]:
        config = default_config()
        config.update_from_flattened_dict(row["report"]["config"])
        single = experiment.run_experiment(
            config, tmp_path / "single" / str(row["config"]["tolerance"])
        )
        for key in ("epoch", "splits", "sparsity"):
            assert row["report"][key] == single[key]
        assert row["report"]["last"]["splits"] == single["last"]["splits"]


@pytest.mark.slow
def test_chunks_do_not_change_the_results(tmp_path):
    """Two members at once or one after the other, started from Python; a second call runs none."""
    config = default_config()
    config.update_from_flattened_dict(
        {"model.hidden": (16,), "dense.epochs": 2, "pruning.epochs": 1, "finetune_epochs": 1}
    )
    rows = {}
    for chunk in (1, 2):
        lines, call = [], (config, tmp_path / str(chunk), {"seed": "0:2"}, Execution(chunk=chunk))
        rows[chunk] = sweep.run_sweep(*call, on_progress=lines.append)
        assert len(lines) == 2 // chunk
        assert json.loads((tmp_path / str(chunk) / "sweep.json").read_text())["rows"] == json.loads(
            json.dumps(rows[chunk])
        )
        assert sweep.run_sweep(*call, on_progress=lines.append) == rows[chunk]
        assert len(lines) == 2 // chunk
    for one, other in zip(rows[1], rows[2], strict=True):
        assert one["config"] == other["config"]
        for which in (lambda report: report, lambda report: report["last"]):
            pair = [which(row["report"]) for row in (one, other)]
            assert pair[0]["splits"] == pair[1]["splits"]
