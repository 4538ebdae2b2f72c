"""Eight fake devices for all tests; data and dense model of the digits, made once."""

import gc
import os
import tempfile

from tests.xla_flags import COMPILE_FAST

# Programs that several tests or commands compile are compiled once. Each of pytest's processes has
# its own folder of them: JAX warns when it reads a program that another process is still writing.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="bap_jax_programs_")  # removed at exit
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
if os.environ["JAX_COMPILATION_CACHE_DIR"] != "none" and "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] += "/" + os.environ["PYTEST_XDIST_WORKER"]
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        COMPILE_FAST if "BAP_OPTIMIZED" not in os.environ else "",
    ]
)

import jax
import pytest

from bap_jax import compilation, data, models, pipeline
from bap_jax.training.settings import OptimizerSettings

# Traces make many objects and few cycles: Python's own choice of 700 costs a twentieth of the time.
gc.set_threshold(20_000)
jax.config.update("jax_numpy_rank_promotion", "raise")
compilation.keep_programs()


@pytest.fixture
def wide_terminal(monkeypatch):
    """Lines that are followed are not cut, however wide the terminal of the tests is."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LINES", "50")


@pytest.fixture(scope="session")
def digits_splits():
    samples, names = data.load("digits").grouped_by("digit")
    test = data.random_test_indices(samples.size, 0.3, 0)
    return data.make_splits(samples, 10, names, test_indices=test)


@pytest.fixture(scope="session")
def small_dense(digits_splits):
    """A small MLP, briefly trained: enough to prune and tune in a second."""
    model = models.build("mlp", 10, hidden=(32, 24))
    variables = model.init(jax.random.key(0), digits_splits.train.inputs[:1])
    dense = pipeline.train_dense(
        model,
        variables,
        digits_splits.train,
        OptimizerSettings(0.1),
        epochs=8,
        batch_size=128,
        seed=0,
    )
    return model, dense
