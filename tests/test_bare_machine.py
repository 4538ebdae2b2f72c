"""What runs on an accelerator that is lent for minutes needs no more than such a machine has.

It has jax, flax, optax, orbax, chex, absl-py, scikit-learn, tqdm, matplotlib, pillow and
safetensors, and bap_jax as a folder of sources that is not installed.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LACKS = (
    *("ml_collections", "grain", "tensorflow", "tensorflow_datasets", "importlib_resources"),
    *("array_record", "jinja2", "markupsafe", "pyarrow", "pandas"),
)
BARE = f"""
import importlib.metadata, sys

class Lacks:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LACKS!r}:
            raise ModuleNotFoundError(f"a bare machine lacks {{name}}", name=name)

sys.meta_path.insert(0, Lacks())
installed = importlib.metadata.version

def version(name):
    if name == "bap_jax":
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)

importlib.metadata.version = version
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "benchmarks")!r}]
"""
RUN = """
import jax, numpy as np
from bap_jax import constraints, data, lagrangian, models, pipeline, pruning, training
from bap_jax.training import OptimizerSettings, PruningSettings, Settings
from bap_jax.types import Dataset

labels = np.arange(40) % 2
samples = Dataset(np.eye(40, 4, dtype=np.float32), labels, labels[:, None])
splits = data.make_splits(samples, 2, ["even", "odd"], test_indices=np.arange(10))
model = models.build("mlp", 2, hidden=(4,))
untrained = model.init(jax.random.key(0), splits.train.inputs[:1])
dense = pipeline.train_dense(
    model, untrained, splits.train, OptimizerSettings(), epochs=1, batch_size=20, seed=0
)
context = pipeline.make_context(model, dense, splits)
settings = Settings(
    pruning=PruningSettings(0.5, 1, prunable="kernels"), finetune_epochs=1, batch_size=20
)
[tuned] = pipeline.make_tuner(context, settings).run([settings])
report = pipeline.evaluate_final(context, tuned, settings)
print(report["versions"]["bap_jax"], report["sparsity"]["target"])
"""
BENCHMARKS = """
import pkgutil
import accelerator, accelerator_parts
for module in pkgutil.iter_modules(accelerator_parts.__path__, "accelerator_parts."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name != "torch":  # which that machine has
            raise
    print(module.name)
"""


def on_a_bare_machine(code):
    """What the code prints, or the end of its error."""
    done = subprocess.run(
        [sys.executable, "-c", BARE + code], capture_output=True, text=True, check=False
    )
    return done.stdout.split() if done.returncode == 0 else done.stderr.splitlines()[-1]


@pytest.mark.smoke
def test_a_network_is_pruned_tuned_and_evaluated():
    assert on_a_bare_machine(RUN) == ["not", "installed", "0.5"]


def test_the_benchmarks_for_accelerators_can_be_imported():
    names = on_a_bare_machine(BENCHMARKS)
    assert isinstance(names, list), names
    assert {"accelerator_parts.part", "accelerator_parts.paper"} <= set(names)


def test_what_such_a_machine_lacks_is_missed():
    """Otherwise the tests above could not fail."""
    error = on_a_bare_machine("import bap_jax.config")
    assert error == "ModuleNotFoundError: a bare machine lacks ml_collections"
