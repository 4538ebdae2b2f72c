"""Whole sweeps: one that was killed goes on, and ends with the rows of one left alone."""

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
    """Of `sweep.json`, less the times."""
    found = json.loads((workdir / "sweep.json").read_text())["rows"]
    for row in found:
        del row["report"]["seconds"]
    return found


def kill_after(workdir, count, jobs):
    """Kills the whole sweep when so many members are finished."""
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
    assert start(cut, jobs).wait() == 0
    assert rows(cut) == rows(whole) and len(rows(cut)) == 6
    assert all(path.stat().st_mtime_ns == at for path, at in finished.items())


@pytest.mark.slow
def test_a_member_is_the_single_run(tmp_path):
    assert start(tmp_path / "sweep", 1).wait() == 0
    for row in rows(tmp_path / "sweep")[:3]:
        config = default_config()
        config.update_from_flattened_dict(row["report"]["config"])
        alone = experiment.run_experiment(
            config, tmp_path / "alone" / str(row["config"]["tolerance"])
        )
        for key in ("epoch", "splits", "sparsity"):
            assert row["report"][key] == alone[key]
        assert row["report"]["last"]["splits"] == alone["last"]["splits"]


@pytest.mark.slow
def test_members_in_chunks_are_members_together(tmp_path):
    """Two members at once, and one after the other, by the engine itself and from Python."""
    config = default_config()
    config.update_from_flattened_dict(
        {"model.hidden": (16,), "dense.epochs": 2, "pruning.epochs": 1, "finetune_epochs": 1}
    )
    found = {}
    for chunk in (1, 2):
        said, call = [], (config, tmp_path / str(chunk), {"seed": "0:2"}, Execution(chunk=chunk))
        found[chunk] = sweep.run_sweep(*call, say=said.append)
        assert len(said) == 2 // chunk
        assert json.loads((tmp_path / str(chunk) / "sweep.json").read_text())["rows"] == json.loads(
            json.dumps(found[chunk])
        )
        assert sweep.run_sweep(*call, say=said.append) == found[chunk] and len(said) == 2 // chunk
    for one, other in zip(found[1], found[2], strict=True):
        assert one["config"] == other["config"]
        for which in (lambda report: report, lambda report: report["last"]):
            pair = [which(row["report"]) for row in (one, other)]
            assert pair[0]["splits"] == pair[1]["splits"]
