"""Many runs by one command, compared with as many commands, or with as many runs in one process.

    python benchmarks/sweep.py --json=sweep.json

    commands    `bap_jax.sweep` with 16 seeds of the digits experiment over 16 times `bap_jax.main`
    in_process  16 members in one program over 16 runs one after another by one compiled program
    cnn         4 members of a ResNet-8 in one program over 4 runs one after another
    gpu_resnet56  the same with 8 members of a ResNet-56; on GPU and TPU only

`commands` measures from start to exit. Both ways use the same folder of compiled programs, which is
filled before; each has its own workdir, and the first of the 16 commands trains the dense model.
The other ratios are medians over rounds in one process, after compilation; the order is swapped
every round. Cost: about ten minutes on two cores.
"""

import dataclasses
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import timing
from absl import app, flags

from bap_jax import data, models, pipeline
from bap_jax.training import Execution
from bap_jax.training.settings import DualSettings, OptimizerSettings, PruningSettings, Settings
from bap_jax.types import Dataset

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ONLY = flags.DEFINE_list("only", [], "names of ratios; default: all for this backend")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "rounds of each case")
_MEMBERS = flags.DEFINE_integer("members", 16, "members of the digits sweep")
_SMALL = flags.DEFINE_bool("small", False, "few epochs, to try the script")
ROOT = Path(__file__).resolve().parents[1]
CONFIG = f"--config={ROOT / 'experiments' / 'digits.py'}"
TINY = ["--config.model.hidden=(16,)", "--config.dense.epochs=2", "--config.pruning.epochs=1"]
TINY += ["--config.finetune_epochs=1"]


def commands() -> dict[str, float]:
    """Times one sweep command against many single commands."""
    count = _MEMBERS.value
    with tempfile.TemporaryDirectory() as folder:
        fresh = (Path(folder) / str(i) for i in itertools.count())
        cache = f"--compilation_cache={Path(folder) / 'programs'}"

        def run(module, workdir, *others):
            command = [sys.executable, "-m", f"bap_jax.{module}", CONFIG, cache, *others]
            command += [f"--workdir={workdir}", *(TINY if _SMALL.value else [])]
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT)

        def one():
            run("sweep", next(fresh), f"--sweep=seed=0:{count}")

        def many():
            workdir = next(fresh)
            for seed in range(count):
                run("main", workdir, f"--config.seed={seed}")

        one()
        run("main", next(fresh))
        seconds = {"one": [], "many": []}
        for i in range(_ROUNDS.value):
            for name, start in sorted({"one": one, "many": many}.items(), reverse=i % 2 == 1):
                seconds[name].append(timing.time_once(start))
    return {
        **timing.ratios(seconds["one"], seconds["many"]),
        "ms": timing.median_ms(seconds["one"]),
        "against_ms": timing.median_ms(seconds["many"]),
    }


def digits_splits() -> data.Splits:
    """The splits of the digits experiment."""
    samples, names = data.load("digits").grouped_by("digit")
    test = data.random_test_indices(samples.size, 0.3, 0)
    return data.make_splits(samples, 10, names, test_indices=test)


def image_splits(steps: int) -> data.Splits:
    """Random images the size of CIFAR's, in ten groups."""
    rng = np.random.default_rng(0)
    size = 128 * steps + 400
    labels = np.arange(size) % 10
    images = rng.normal(size=(size, 32, 32, 3)).astype(np.float32)
    names = tuple(map(str, range(10)))
    samples = Dataset(images, labels.astype(np.int32), labels[:, None].astype(np.int32))
    test = np.arange(200)
    return data.make_splits(samples, 10, names, test_indices=test)


def members(settings: Settings, count: int) -> list[Settings]:
    """The same settings with different seeds."""
    return [dataclasses.replace(settings, seed=seed) for seed in range(count)]


def compare(model, variables, splits, settings: Settings, count: int) -> dict[str, float]:
    """Times members in one program against runs one after another, compiled once."""
    together, single = (
        pipeline.make_tuner(
            pipeline.make_context(model, variables, splits, Execution(members=mode)), settings
        )
        for mode in ("auto", "single")
    )
    runs = members(settings, count)

    def weights(outcomes):
        return [result.last.variables for result in outcomes]

    return timing.compare(
        lambda: weights(together.run(runs)),
        lambda: [weights(single.run([run])) for run in runs],
        _ROUNDS.value,
    )


def in_process() -> dict[str, float]:
    """`compare` for the digits experiment."""
    splits = digits_splits()
    model = models.build("mlp", 10, hidden=(256, 256))
    untrained = model.init(jax.random.key(0), splits.train.inputs[:1])
    dense = pipeline.train_dense(
        model, untrained, splits.train, OptimizerSettings(0.05), epochs=30, batch_size=128, seed=0
    )
    settings = Settings(
        pruning=PruningSettings(prunable="kernels", epochs=1 if _SMALL.value else 15),
        dual=DualSettings("ascent", learning_rate=0.7),
        finetune_epochs=1 if _SMALL.value else 45,
    )
    return compare(model, dense, splits, settings, _MEMBERS.value)


def resnet(depth: int, count: int, steps: int) -> dict[str, float]:
    """`compare` for a residual network, two epochs."""
    splits = image_splits(steps)
    model = models.build("resnet", 10, depth=depth)
    variables = model.init(jax.random.key(0), splits.train.inputs[:1])
    settings = Settings(pruning=PruningSettings(epochs=1), finetune_epochs=1)
    return compare(model, variables, splits, settings, count)


CASES = {
    "commands": commands,
    "in_process": in_process,
    "cnn": lambda: resnet(8, 4, 2),
    "gpu_resnet56": lambda: resnet(56, 8, 20),
}


def main(argv):
    del argv
    rows, on_cpu = {}, jax.default_backend() == "cpu"
    for name in _ONLY.value or [name for name in CASES if name != "gpu_resnet56" or not on_cpu]:
        rows[name] = CASES[name]()
        timing.show(name, rows[name])
        jax.clear_caches()
    timing.write(_JSON.value, rows, members=_MEMBERS.value)


if __name__ == "__main__":
    app.run(main)
