"""A sweep whose session trains nothing: reports follow from the config alone."""

import json
from typing import NamedTuple

from bap_jax.config import default_config
from bap_jax.sweep import Sweep
from bap_jax.sweep.axes import parse_axis
from bap_jax.sweep.folder import open_sweep_folder
from bap_jax.sweep.plan import make_members, make_programs
from bap_jax.training import Execution

SWEPT = ("seed", "tolerance", "dual.learning_rate")


class RunResult(NamedTuple):
    """Like `experiment.RunResult`."""

    report: dict | None
    error: str | None
    warnings: tuple[str, ...] = ()


def fake_report(plain):
    """The report of a run with this config."""
    accuracy = 0.9 + plain["seed"] / 100
    numbers = {
        "sparse_accuracy": accuracy,
        "overall_gap": 0.01,
        "max_excess_gap": plain["tolerance"] + plain["seed"] / 1000,
        "pairwise_disparity": 0.02,
    }
    splits = {split: dict(numbers) for split in ("train", "validation", "test")}
    return {
        "config": plain,
        "method": plain["method"],
        "seed": plain["seed"],
        "tolerance": plain["tolerance"],
        "selection": plain["selection"],
        "epoch": 59,
        "sparsity": {"prunable": 0.95},
        "splits": splits,
        "last": {"epoch": 59, "splits": splits},
    }


class FakeSession:
    """Writes the files of a real session; members with seed 13 diverge.

    `sessions` and `ran` list the calls of all sessions; after `stop_after` members it is
    interrupted.
    """

    sessions, ran, stop_after = [], [], None

    def __init__(self, plain, dense_folder, execution):
        dense_folder.mkdir(parents=True, exist_ok=True)
        self.sessions.append((plain["method"], dense_folder))
        self.chunk = execution.chunk or 100

    def capacity(self, count):
        return min(count, self.chunk)

    def run(self, plains, folders, label=""):
        return [self._run(*pair) for pair in zip(plains, folders, strict=True)]

    def _run(self, plain, folder):
        assert folder.is_dir() and not any(folder.iterdir())
        (folder / "metrics.jsonl").write_text("{}\n")
        if self.stop_after is not None and len(self.ran) == self.stop_after:
            raise KeyboardInterrupt
        self.ran.append((plain["method"], plain["seed"], plain["tolerance"]))
        if plain["seed"] == 13:
            return RunResult(None, "loss is nan at step 3")
        report = fake_report(plain)
        (folder / "report.json").write_text(json.dumps(report))
        return RunResult(report, None)


def make_sweep(root, *axes, chunk=0, session=FakeSession):
    """A sweep whose folder has been opened; `chunk` members fit into memory, or all for 0."""
    members = make_members(default_config(), [parse_axis(axis) for axis in axes])
    programs = make_programs(members, SWEPT)
    return Sweep(members, programs, open_sweep_folder(root), Execution(chunk=chunk), session)
