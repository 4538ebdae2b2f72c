"""What a profile says of a run, and that the run does not notice."""

import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from bap_jax import data, models, pipeline, profiling
from bap_jax.training import Execution
from bap_jax.training.settings import PruningSettings, Settings
from bap_jax.types import Dataset

ROOT = Path(__file__).parents[1]
PRUNING = PruningSettings(sparsity=0.5, epochs=1, prunable="kernels")
SETTINGS = Settings("nft", batch_size=16, pruning=PRUNING, finetune_epochs=1)


def on_host(tree):
    return jax.tree.map(np.array, tree)


def make_splits(inputs):
    """Two groups of three classes, by turns."""
    order = np.arange(len(inputs), dtype=np.int32)
    samples = Dataset(inputs, order % 3, order[:, None] % 2)
    test = np.arange(0, len(inputs), 7)
    return data.make_splits(samples, 3, ["even", "odd"], test_indices=test, validation_fraction=0.2)


def prepare(splits, execution=None):
    model = models.build("mlp", 3, hidden=(4,))
    variables = model.init(jax.random.key(0), data.example(splits.train))
    return pipeline.make_context(model, variables, splits, execution)


@pytest.fixture(scope="module", params=["device", "loop"])
def measured(request, tmp_path_factory):
    """How an epoch runs, its profile; arrays before and after; a run's result before and after."""
    inputs = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    context = prepare(make_splits(inputs), Execution(epoch=request.param))
    arrays = (context.variables, context.train, context.validation, context.reference)
    tuner = pipeline.make_tuner(context, SETTINGS)
    states = [(on_host(arrays), pipeline.tune_one(tuner, SETTINGS))]
    found = profiling.profile(context, SETTINGS, tmp_path_factory.mktemp("run"))
    states.append((on_host(arrays), pipeline.tune_one(tuner, SETTINGS)))
    return request.param, found, states


@pytest.mark.smoke
def test_numbers_are_positive(measured):
    epoch, found, _ = measured
    numbers = [found.step_seconds, found.samples_per_second, found.compile_seconds]
    assert all(np.isfinite(number) and number > 0 for number in numbers)
    assert found.waiting_share == 0
    assert found.peak_bytes > 2**20 and found.peak_of in ("device", "process")
    assert (found.epoch_step_seconds is None) == (epoch == "loop")
    if epoch == "device":
        samples = make_splits(np.zeros((60, 4))).train.size
        steps = data.num_batches(samples, SETTINGS.batch_size)
        assert found.epoch_step_seconds == pytest.approx(samples / steps / found.samples_per_second)


@pytest.mark.smoke
def test_ten_steps_are_recorded(measured):
    trace = measured[1].trace
    assert trace.name == "profile"
    assert any(path.stat().st_size for path in trace.rglob("*.xplane.pb"))


@pytest.mark.smoke
def test_the_run_does_not_notice(measured):
    (arrays, first), (arrays_after, second) = measured[2]
    jax.tree.map(np.testing.assert_array_equal, arrays_after, arrays)
    jax.tree.map(np.testing.assert_array_equal, second.last.variables, first.last.variables)
    assert second.pruned.epoch == first.pruned.epoch


@pytest.mark.smoke
def test_a_line_for_each_number(measured):
    epoch, found, _ = measured
    text = profiling.format_profile(found)
    assert len(text.splitlines()) == len(found) - 1
    assert ("in a loop" in text) == (epoch == "loop")
    assert str(found.trace) in text and "0.0%" in text


@pytest.mark.smoke
def test_a_slow_reader_is_waited_for(tmp_path):
    def read(row):
        time.sleep(0.003)
        return np.random.default_rng(row).normal(size=4).astype(np.float32)

    records = data.Records(read, np.arange(60), (4,), np.dtype(np.float32))
    found = profiling.profile(prepare(make_splits(records)), SETTINGS, tmp_path)
    assert 0.2 < found.waiting_share <= 1
    assert found.epoch_step_seconds is None


@pytest.mark.slow
def test_command_line(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bap_jax.main",
            "--config=experiments/digits.py",
            f"--workdir={tmp_path / 'w'}",
            "--profile",
            "--config.model.hidden=(8,)",
            "--config.dense.epochs=1",
            "--config.pruning.epochs=1",
            "--config.finetune_epochs=1",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("step alone") < done.stdout.index("CEAG, seed 0")
    assert any((tmp_path / "w" / "ceag-seed0" / "profile").rglob("*.xplane.pb"))
