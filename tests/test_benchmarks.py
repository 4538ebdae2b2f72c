"""Benchmarks start, write what they say, and tune every method alike. Nothing is timed here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bap_jax.training import METHODS

ROOT = Path(__file__).parents[1]


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
    found = json.loads(path.read_text())
    assert found["ratios"]["mlp_10"] > 0 and found["device"]


@pytest.mark.slow
def test_mask_update_writes_its_ratios(tmp_path):
    path = tmp_path / "masks.json"
    python("benchmarks/mask_update.py", "--small", "--rounds=1", f"--json={path}")
    found = json.loads(path.read_text())
    assert {"layerwise", "global", "compile"} <= found["ratios"].keys() and found["device"]


@pytest.mark.slow
def test_input_writes_its_ratios(tmp_path):
    path = tmp_path / "input.json"
    python("benchmarks/input.py", "--small", "--rounds=1", f"--json={path}")
    found = json.loads(path.read_text())
    assert found["ratios"].keys() == {"streamed_mlp", "streamed_resnet8"} and found["device"]
    assert all(0 <= found["details"][name]["waiting"] <= 1 for name in found["ratios"])


@pytest.mark.slow
def test_the_first_step_is_timed_twice(tmp_path):
    path = tmp_path / "first.json"
    python("benchmarks/first_step.py", "--config=experiments/utkface.py:smoke", f"--json={path}")
    found = json.loads(path.read_text())
    assert found.keys() == {"first", "second"}
    for times in found.values():
        assert 0 < times["loaded"] < times["first_step"] and times["peak_gib"] > 0
        assert times["samples"] == 400


@pytest.mark.slow
def test_the_floor_is_written(tmp_path):
    path = tmp_path / "floor.json"
    python("benchmarks/floor.py", "--small", f"--json={path}")
    found = json.loads(path.read_text())
    assert found["ratios"]["resnet8"] > 0 and found["device"]
    assert {"floor", "sgd", "nft_dense", "nft", "ceag"} == found["details"]["resnet8"].keys()


@pytest.mark.slow
def test_precisions_are_compared(tmp_path):
    path = tmp_path / "precision.json"
    python("benchmarks/precision.py", "--small", "--seeds=2", f"--json={path}")
    found = json.loads(path.read_text())
    assert found["precisions"].keys() == {"float32", "bfloat16"} and found["device"]
    assert len(found["precisions"]["bfloat16"]["last"]["test_accuracy"]) == 2


@pytest.mark.slow
def test_smaller_networks_are_smaller():
    out = python("benchmarks/compact_networks.py")
    assert "272,474 → 68,786" in out and "85,002 → 26,122" in out


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
def test_a_grid_prints_a_line_a_combination():
    flags = [
        "--config=experiments/digits.py",
        "--config.dense.epochs=1",
        "--config.pruning.epochs=1",
        "--config.finetune_epochs=1",
        "--config.model.hidden=(8,)",
    ]
    out = python("benchmarks/grid.py", *flags, "--axis=method=nft,ceag", "--seeds=2")
    assert [line.split()[0] for line in out.splitlines()] == ["method", "nft", "ceag"]
