"""What computing in bfloat16 does to accuracies and gaps: the digits, by CEAG.

    python benchmarks/precision.py --json=precision.json

For each precision a dense network is trained in it, then pruned and tuned by one program whose
members differ in the seed. Printed are mean ± standard deviation over seeds, in percent, of the
selected and of the last iterate; ψ is the excess accuracy gap. Parameters, losses and multipliers
are float32 in any case. `--method` takes any method; `--small` is there to try the script. Cost:
about two minutes on two cores.
"""

import json
import platform
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging

from bap_jax import config as config_lib
from bap_jax import experiment, pipeline, training
from bap_jax.models.precision import PRECISIONS

_JSON = flags.DEFINE_string("json", None, "file for the numbers")
_METHOD = flags.DEFINE_string("method", "ceag", "of all runs")
_SEEDS = flags.DEFINE_integer("seeds", 5, "from 0 on", lower_bound=1)
_SMALL = flags.DEFINE_bool("small", False, "a tiny network, a few epochs")

SPLITS = ("train", "test")
COLUMNS = {"accuracy": "sparse_accuracy", "max_excess_gap": "max_excess_gap"}


def make_plain(precision: str, seed: int) -> dict:
    """The config of experiments/digits.py with a precision and a seed, as plain values."""
    scope = {}
    path = Path(__file__).parents[1] / "experiments" / "digits.py"
    exec(compile(path.read_text(), path, "exec"), scope)
    config = scope["get_config"]()
    config.method, config.precision, config.seed = _METHOD.value, precision, seed
    if _SMALL.value:
        config.model.hidden = (8,)
        config.dense.epochs = config.pruning.epochs = config.finetune_epochs = 1
    return json.loads(config.to_json())


def run(precision: str) -> dict:
    """For each iterate, split and column the numbers of all seeds that ended, in percent."""
    plains = [make_plain(precision, seed) for seed in range(_SEEDS.value)]
    members = [config_lib.to_settings(plain) for plain in plains]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        session = experiment.Session(plains[0], Path(folder) / "dense", training.Execution())
    outcomes = pipeline.make_tuner(session.context, members[0]).run(members)
    pairs = zip(outcomes, members, strict=True)
    reports = [
        pipeline.evaluate_final(session.context, outcome, settings)
        for outcome, settings in pairs
        if not isinstance(outcome, training.DivergedError)
    ]
    dense = {split: 100 * session.context.dense_means(split).accuracy for split in SPLITS}
    iterates = {"selected": reports, "last": [report["last"] for report in reports]}
    return {
        "seconds": time.perf_counter() - start,
        "diverged": len(members) - len(reports),
        "dense": dense,
        **{name: _columns(found) for name, found in iterates.items()},
    }


def _columns(found):
    return {
        f"{split}_{name}": [100 * one["splits"][split][key] for one in found]
        for split in SPLITS
        for name, key in COLUMNS.items()
    }


def _row(name, columns):
    cells = [
        f"{np.mean(numbers):7.2f} ± {np.std(numbers, ddof=min(1, len(numbers) - 1)):4.2f}"
        for numbers in columns.values()
    ]
    return f"{name:20}" + "".join(f"{cell:>17}" for cell in cells)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    found = {precision: run(precision) for precision in PRECISIONS}
    heads = [f"{split} {what}" for split in SPLITS for what in ("acc.", "max ψ")]
    print(f"{'':20}" + "".join(f"{head:>17}" for head in heads))
    for precision, numbers in found.items():
        dense = " ".join(f"{split} {value:.2f}" for split, value in numbers["dense"].items())
        print(
            f"{precision}: dense {dense}; {numbers['diverged']} diverged, "
            f"{numbers['seconds']:.0f} s"
        )
        for which in ("selected", "last"):
            print(_row(f"  {which}", numbers[which]))
    if _JSON.value:
        device = f"{jax.devices()[0].device_kind}, {platform.machine()}"
        with open(_JSON.value, "w", encoding="utf-8") as file:
            json.dump({"precisions": found, "device": device}, file, indent=1)


if __name__ == "__main__":
    app.run(main)
