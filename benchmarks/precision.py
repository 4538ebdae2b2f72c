"""How bfloat16 changes accuracies and gaps: digits, pruned by CEAG.

    python benchmarks/precision.py --json=precision.json

For each precision, a dense network is trained in it and then pruned and tuned with several seeds by
one program. The table has mean ± standard deviation over seeds, in percent, for the pruned network
and the last iterate; ψ is the excess accuracy gap. Parameters, losses and multipliers are always
float32. Cost: about two minutes on two cores.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import timing
from absl import app, flags, logging

from bap_jax import config as config_lib
from bap_jax import experiment, pipeline, training
from bap_jax.models.precision import PRECISIONS

_JSON = flags.DEFINE_string("json", None, "file to write the numbers to")
_METHOD = flags.DEFINE_string("method", "ceag", "method of all runs")
_SEEDS = flags.DEFINE_integer("seeds", 5, "number of seeds", lower_bound=1)
_SMALL = flags.DEFINE_bool("small", False, "a tiny network and few epochs, to try the script")

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
    """Numbers of all seeds that did not diverge, in percent, by iterate, split and column."""
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
    iterates = {"pruned": reports, "last": [report["last"] for report in reports]}
    return {
        "seconds": time.perf_counter() - start,
        "diverged": len(members) - len(reports),
        "dense": dense,
        **{name: _columns(reports) for name, reports in iterates.items()},
    }


def _columns(reports):
    return {
        f"{split}_{name}": [100 * report["splits"][split][key] for report in reports]
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
    results = {precision: run(precision) for precision in PRECISIONS}
    heads = [f"{split} {what}" for split in SPLITS for what in ("acc.", "max ψ")]
    print(f"{'':20}" + "".join(f"{head:>17}" for head in heads))
    for precision, numbers in results.items():
        dense = " ".join(f"{split} {value:.2f}" for split, value in numbers["dense"].items())
        print(
            f"{precision}: dense {dense}; {numbers['diverged']} diverged, "
            f"{numbers['seconds']:.0f} s"
        )
        for iterate in ("pruned", "last"):
            print(_row(f"  {iterate}", numbers[iterate]))
    timing.write_json(_JSON.value, {"precisions": results})


if __name__ == "__main__":
    app.run(main)
