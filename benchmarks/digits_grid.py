"""Methods and settings on digits, over seeds: train and test accuracy and max excess gap.

    python benchmarks/digits_grid.py --sparsity=0.95,0.98 --method=nft,ceag \\
        --dual_learning_rate=0.1,0.3 --overall_term=full,detached --seeds=5

Prints one line a combination: mean ± standard deviation over seeds of the last iterate, in
percent, and in how many seeds the training max excess gap is within the tolerance plus 0.2 points.
A run that diverges is counted as such. The dense model is trained once and shared, as in a workdir.
"""

import dataclasses
import itertools

import jax
import numpy as np
from absl import app, flags

from bap_jax import data, models, pipeline, training
from bap_jax.training.settings import OptimizerSettings, Settings

FLAGS = flags.FLAGS
_GRID = {
    "method": flags.DEFINE_list("method", ["nft", "ceag"], "methods"),
    "sparsity": flags.DEFINE_list("sparsity", ["0.95", "0.98"], "final sparsities"),
    "rate": flags.DEFINE_list("dual_learning_rate", ["0.1"], "dual learning rates"),
    "term": flags.DEFINE_list("overall_term", ["detached"], "what becomes of the overall term"),
    "buffer": flags.DEFINE_list("buffer_size", ["40"], "samples of a group in the buffer"),
    "absolute": flags.DEFINE_list("el_absolute", ["False"], "EL on |ℓ_g − ℓ|"),
}
_SEEDS = flags.DEFINE_integer("seeds", 5, "number of seeds")


def settings_of(cell: dict[str, str], seed: int) -> Settings:
    """Settings of one combination."""
    base = Settings(method=cell["method"], seed=seed)
    return dataclasses.replace(
        base,
        pruning=dataclasses.replace(base.pruning, sparsity=float(cell["sparsity"])),
        dual=dataclasses.replace(base.dual, learning_rate=float(cell["rate"])),
        constraint=dataclasses.replace(
            base.constraint,
            overall_term=cell["term"],
            buffer_size=int(cell["buffer"]),
            el_absolute=cell["absolute"] == "True",
        ),
    )


def run_cell(cell, model, dense, parts) -> str:
    """All seeds of one combination, as a line."""
    rows, diverged = [], 0
    for seed in range(_SEEDS.value):
        settings = settings_of(cell, seed)
        try:
            tuned = pipeline.prune_and_tune(model, dense, parts, settings)
        except training.DivergedError:
            diverged += 1
            continue
        splits = pipeline.judge(model, dense, tuned, parts, settings)["last"]["splits"]
        rows.append([splits[part][key] for part in ("train", "test")
                     for key in ("sparse_accuracy", "max_excess_gap")])
    if not rows:
        return f"{_label(cell)}  all {diverged} seeds diverged"
    table = 100 * np.array(rows)
    within = int((table[:, 1] <= 1.2).sum())
    mean, spread = table.mean(0), table.std(0, ddof=1) if len(table) > 1 else np.zeros(4)
    numbers = "  ".join(f"{m:6.2f} ± {s:5.2f}" for m, s in zip(mean, spread, strict=True))
    return f"{_label(cell)}  {numbers}  within {within}/{len(rows)}  diverged {diverged}"


def digits_dense():
    """Parts, network and dense model."""
    samples, names = data.load("digits").grouped_by("digit")
    test = data.random_test_indices(samples.size, 0.3, 0)
    parts = data.make_parts(samples, 10, names, test_indices=test)
    model = models.build("mlp", 10)
    variables = model.init(jax.random.key(0), parts.train.inputs[:1])
    dense = pipeline.train_dense(model, variables, parts.train, OptimizerSettings(0.05),
                                 epochs=100, batch_size=128, seed=0)
    return parts, model, dense


def _label(cell):
    return " ".join(f"{value:>8}" for value in cell.values())


def main(argv):
    del argv
    parts, model, dense = digits_dense()
    print(" ".join(f"{name:>8}" for name in _GRID), " train acc       max ψ           "
          "test acc        max ψ")
    for values in itertools.product(*(flag.value for flag in _GRID.values())):
        print(run_cell(dict(zip(_GRID, values, strict=True)), model, dense, parts), flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    app.run(main)
