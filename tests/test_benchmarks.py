"""Benchmarks compute ratios correctly, write them to their files, and tune all methods alike.

No time is checked here. Ratios are checked with a clock that the timed functions move themselves.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bap_jax.training import METHODS

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("timing", ROOT / "benchmarks" / "timing.py")
timing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(timing)


class Work:
    """Functions that each take a given number of seconds of a clock; `calls` lists their names."""

    def __init__(self, **seconds):
        self.now, self.calls = 0.0, []
        self.seconds = {name: list(times) for name, times in seconds.items()}

    def __getitem__(self, name):
        def run():
            self.calls.append(name)
            self.now += self.seconds[name].pop(0)

        return run

    def clock(self):
        return self.now


def test_a_ratio_is_the_median_over_rounds_of_the_ratios_of_a_round():
    """The first call of each is a warm-up; then 3/2, 8/2, 6/4, 10/4 and 9/3 s a round."""
    work = Work(a=[100, 3, 8, 6, 10, 9], b=[50, 2, 2, 4, 4, 3])
    row = timing.compare(work["a"], work["b"], 5, work.clock)
    assert row == pytest.approx(
        {
            "ratio": 2.5,
            "lower_quartile": 1.5,
            "upper_quartile": 3.0,
            "ms": 8000,
            "against_ms": 3000,
        }
    )


def test_the_order_is_swapped_every_round():
    work = Work(a=[1] * 4, b=[1] * 4)
    timing.compare(work["a"], work["b"], 3, work.clock)
    assert "".join(work.calls) == "ab" + "ab" + "ba" + "ab"


def test_the_file_has_ratios_rows_and_the_device(tmp_path):
    rows = {"mlp": timing.ratios([3.0], [2.0])}
    timing.write(tmp_path / "times.json", rows, members=16)
    assert json.loads((tmp_path / "times.json").read_text()) == {
        "ratios": {"mlp": 1.5},
        "details": rows,
        "members": 16,
        "device": timing.device(),
    }
    timing.write(None, rows)


def python(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_overhead_writes_its_ratios(tmp_path):
    path = tmp_path / "overhead.json"
    python("benchmarks/constraint_overhead.py", "--only=mlp_10", "--rounds=1", f"--json={path}")
    times = json.loads(path.read_text())
    row = times["details"]["mlp_10"]
    assert times["ratios"] == {"mlp_10": pytest.approx(row["ceag_ms"] / row["nft_ms"])}
    assert times["device"]


@pytest.mark.slow
def test_mask_update_writes_its_ratios(tmp_path):
    path = tmp_path / "masks.json"
    python("benchmarks/mask_update.py", "--small", "--rounds=1", f"--json={path}")
    times = json.loads(path.read_text())
    names = {"layerwise", "global", "compile", "one_of_8", "none_of_8", "step"}
    assert times["ratios"].keys() == names and times["device"]
    for name, (seconds, against) in times["seconds"].items():
        assert times["ratios"][name] == pytest.approx(seconds / against)


@pytest.mark.slow
def test_convolutions_writes_its_ratios(tmp_path):
    path = tmp_path / "convolutions.json"
    layers = "--only=cifar_stage_1,cifar_shortcut,depthwise_stride"
    python("benchmarks/convolutions.py", "--small", layers, "--rounds=1", f"--json={path}")
    times = json.loads(path.read_text())
    for name in ("cifar_stage_1", "cifar_shortcut", "depthwise_stride"):
        for part in ("forward", "input", "kernel"):
            assert {f"{name}_{part}_{kind}" for kind in ("alone", "scan")} <= times["ratios"].keys()
    for name, ratio in times["ratios"].items():
        row = times["details"][name]
        assert ratio == pytest.approx(row["ms"] / row["against_ms"])


@pytest.mark.slow
def test_input_writes_its_ratios(tmp_path):
    path = tmp_path / "input.json"
    python("benchmarks/input.py", "--small", "--rounds=1", f"--json={path}")
    times = json.loads(path.read_text())
    assert times["ratios"].keys() == {"streamed_mlp", "streamed_resnet8"} and times["device"]
    for name, ratio in times["ratios"].items():
        row = times["details"][name]
        speeds = row["device_images_per_second"], row["streamed_images_per_second"]
        assert ratio == pytest.approx(speeds[0] / speeds[1])
        assert 0 < row["waiting"] <= 1


@pytest.mark.slow
def test_epochs_write_their_ratios(tmp_path):
    path = tmp_path / "epoch.json"
    python("benchmarks/epoch.py", "--small", "--rounds=1", f"--json={path}")
    times = json.loads(path.read_text())
    assert times["ratios"].keys() == {
        *("mlp", "small_mlp", "resnet8"),
        *("ceag_mlp_10", "ceag_mlp_100", "ceag_resnet8"),
    }
    for name, row in times["details"].items():
        assert times["ratios"][name] == pytest.approx(row["ms"] / row["against_ms"])


@pytest.mark.slow
def test_sweeps_write_their_ratios(tmp_path):
    path = tmp_path / "sweep.json"
    python(
        "benchmarks/sweep.py",
        *("--small", "--rounds=1", "--members=2", "--only=commands,in_process", f"--json={path}"),
    )
    times = json.loads(path.read_text())
    assert times["ratios"].keys() == {"commands", "in_process"} and times["members"] == 2
    for name, row in times["details"].items():
        assert times["ratios"][name] == pytest.approx(row["ms"] / row["against_ms"])


@pytest.mark.slow
def test_the_first_step_is_timed_in_two_processes(tmp_path):
    path = tmp_path / "first.json"
    python("benchmarks/first_step.py", "--config=experiments/utkface.py:smoke", f"--json={path}")
    processes = json.loads(path.read_text())
    assert processes.keys() == {"first", "second"}
    for numbers in processes.values():
        assert 0 < numbers["loaded"] < numbers["first_step"] < 600
        assert 0.1 < numbers["peak_gib"] < 16
        assert numbers["samples"] == 400


@pytest.mark.slow
def test_starts_are_timed_with_nothing_kept_and_with_programs_kept(tmp_path):
    path = tmp_path / "start.json"
    arguments = "--config=experiments/digits.py:smoke", "--rounds=1", f"--against={ROOT}"
    printed = python("benchmarks/start.py", *arguments, f"--json={path}")
    numbers = json.loads(path.read_text())
    for checkout in (numbers["here"], numbers["against"]):
        assert checkout["nothing"]["compiled"] > 5
        assert checkout["programs"]["compiled"] == 0
        assert checkout["programs_and_dense"]["compiled"] == 0
        assert all(0 < row["seconds"] < 600 for row in checkout.values())
    rows = {row["name"]: row for row in numbers["programs"]}
    assert sum(row["count"] for row in rows.values()) == numbers["here"]["nothing"]["compiled"]
    assert rows["of_members"]["compile"] > 0 and "of_members" in printed
    for name, row in numbers["ratios"].items():
        state = name.removesuffix("_cpu_seconds").removesuffix("_seconds")
        assert state in numbers["here"] and row["ratio"] > 0


@pytest.mark.slow
def test_the_floor_writes_its_ratios(tmp_path):
    path = tmp_path / "floor.json"
    python("benchmarks/floor.py", "--small", f"--json={path}")
    times = json.loads(path.read_text())
    rows = times["details"]["resnet8"]
    assert list(rows) == ["floor", "sgd", "nft_dense", "nft", "ceag"] and times["device"]
    assert times["ratios"] == {"resnet8": rows["ceag"]["ratio"]}
    for name in ("sgd", "nft_dense", "nft", "ceag"):
        row = rows[name]
        assert row["ratio"] == pytest.approx(row["ms"] / row["against_ms"])


@pytest.mark.slow
def test_precisions_are_compared(tmp_path):
    path = tmp_path / "precision.json"
    python("benchmarks/precision.py", "--small", "--seeds=2", f"--json={path}")
    numbers = json.loads(path.read_text())
    assert numbers["precisions"].keys() == {"float32", "bfloat16"} and numbers["device"]
    for of_precision in numbers["precisions"].values():
        for iterate in ("pruned", "last"):
            assert of_precision[iterate].keys() == {
                *("train_accuracy", "train_max_excess_gap"),
                *("test_accuracy", "test_max_excess_gap"),
            }
            assert all(len(of_seeds) == 2 for of_seeds in of_precision[iterate].values())
            assert all(0 < accuracy <= 100 for accuracy in of_precision[iterate]["test_accuracy"])


@pytest.mark.slow
def test_smaller_networks_are_smaller():
    out = python("benchmarks/compact_networks.py")
    assert "272,474 → 68,786" in out and "85,002 → 26,122" in out
    assert "41,922 → 29,410" in out


def test_every_method_has_the_same_budget_of_known_settings():
    """Six settings each, every key of which is one of the config's."""
    code = """
import sys
sys.path.insert(0, "benchmarks")
from compare_methods import SETTINGS, _DUAL
from bap_jax.config import default_config, to_settings
from bap_jax.training import METHODS
for method in METHODS:
    for changes in SETTINGS.get(method, _DUAL):
        config = default_config()
        config.update_from_flattened_dict({"method": method, **changes})
        to_settings(config.to_dict())
    print(method, len(SETTINGS.get(method, _DUAL)))
"""
    lines = python("-c", code).split("\n")[:-1]
    assert lines == [f"{method} 6" for method in METHODS]


@pytest.mark.slow
def test_a_grid_prints_a_line_for_each_combination():
    flags = [
        "--config=experiments/digits.py",
        "--config.dense.epochs=1",
        "--config.pruning.epochs=1",
        "--config.finetune_epochs=1",
        "--config.model.hidden=(8,)",
    ]
    out = python("benchmarks/grid.py", *flags, "--axis=method=nft,ceag", "--seeds=2")
    assert [line.split()[0] for line in out.splitlines()] == ["method", "nft", "ceag"]


@pytest.mark.slow
def test_memory_writes_what_each_member_needs(tmp_path):
    path = tmp_path / "memory.json"
    python("benchmarks/memory.py", "--size=8", "--members=1,2", "--modes=map", f"--json={path}")
    rows = json.loads(path.read_text())["mebibytes"]
    assert rows.keys() == {
        f"map {kind} {count}" for kind in ("kept", "donated") for count in (1, 2, "each")
    }
    for row in rows.values():
        parts = row["arguments"] + row["outputs"] + row["temporary"] + row["between"]
        assert row["in all"] == pytest.approx(parts - row["aliased"])
    assert rows["map donated each"]["in all"] < rows["map kept each"]["in all"] / 2
    assert rows["map donated 2"]["between"] == 0 < rows["map kept 2"]["between"]


@pytest.mark.slow
def test_the_audit_command_is_measured_in_processes_of_its_own(tmp_path):
    path = tmp_path / "audit.json"
    arguments = "--samples=2000", "--groups=10", "--rounds=1", f"--json={path}"
    printed = python("benchmarks/audit_speed.py", *arguments)
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 7 and all(name in printed for name in rows)
    for row in rows.values():
        assert 0 < row["seconds"] < 600 and 0 < row["cpu_seconds"] < 600
        assert row["megabytes"] < 1000
    # A process does not count the memory of the one that started it.
    assert rows["python alone"]["megabytes"] < rows["import bap_jax.audit"]["megabytes"] / 2
