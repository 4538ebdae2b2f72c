"""A sweep whose session trains nothing: reports follow from the config alone."""

import json
from typing import NamedTuple

from bap_jax import sweep
from bap_jax.config import default_config

SWEPT = ("seed", "tolerance", "dual.learning_rate")


class RunResult(NamedTuple):
    """As the session of `experiment` has it."""

    report: dict | None
    error: str | None


def fake_report(plain):
    """What a run with this config would have become."""
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
        "epoch": 59,
        "sparsity": {"prunable": 0.95},
        "splits": splits,
        "last": {"epoch": 59, "splits": splits},
    }


class FakeSession:
    """Writes what the real one writes; members with seed 13 diverge.

    `sessions` and `ran` list what was asked of all sessions; after `stop_after` members it "dies".
    """

    sessions, ran, stop_after = [], [], None

    def __init__(self, plain, dense_folder, execution):
        dense_folder.mkdir(parents=True, exist_ok=True)
        self.sessions.append((plain["method"], dense_folder))
        self.chunk = execution or 100

    def capacity(self, count):
        return min(count, self.chunk)

    def run(self, plains, folders):
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


def make_sweep(root, *axes, chunk=None, session=FakeSession, config=None):
    """A sweep in a folder that is claimed."""
    axes = [sweep.parse_axis(axis) for axis in axes]
    members = sweep.make_members(config or default_config(), axes)
    programs = sweep.make_programs(members, SWEPT)
    return sweep.Sweep(members, programs, sweep.claim_sweep(root), session, chunk)
