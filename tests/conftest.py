"""Eight fake devices for all tests; data and dense model of the digits, made once."""

import os
import tempfile

# Programs that several tests or commands compile are compiled once; workers share the folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="bap_jax_programs_")  # removed at exit
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
# Tests compile more than they compute, so that they ask XLA for code that is made quickly: without
# optimisation, by the emitters of single operations instead of those of fusions, in one thread
# (compiling takes a third of the time). Claims about results are made of programs as users compile
# them: `make test-slow` asks for those.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8"
    if "BAP_OPTIMIZED" in os.environ
    else " --xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)

import jax
import pytest

from bap_jax import compilation, data, models, pipeline
from bap_jax.training.settings import OptimizerSettings

jax.config.update("jax_numpy_rank_promotion", "raise")
compilation.keep_programs()


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
