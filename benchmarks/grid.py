"""A table over settings and seeds: accuracy and max excess gap of the last iterate.

    python benchmarks/grid.py --config=experiments/digits.py \\
        --axis=method=nft,ceag --axis=pruning.sparsity=0.95,0.98 --seeds=5

One line a combination: mean ± standard deviation over seeds, in percent; in how many seeds the
training max excess gap is within the tolerance plus 0.2 points; how many seeds diverged. Settings
are chosen on the validation part; --part=test is for a table of settings already chosen. Runs of
one data set, network and dense seed share their dense model.
"""

import ast
import functools
import itertools
import json

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from bap_jax import config as config_lib
from bap_jax import experiment, models, pipeline, training

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_AXES = flags.DEFINE_multi_string("axis", [], "KEY=VALUE,VALUE,…, a key of the config")
_PART = flags.DEFINE_enum("part", "validation", ["validation", "test"], "second pair of columns")
_SEEDS = flags.DEFINE_integer("seeds", 5, "number of seeds")


def parse_axis(text: str) -> tuple[str, list]:
    """`"a.b=1,2"` as `("a.b", [1, 2])`; what is no literal stays a string."""
    key, _, values = text.partition("=")
    return key, [_literal(value) for value in values.split(",")]


def _literal(value):
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return float(value) if value == "inf" else value


@functools.cache
def prepare(choice: str):
    """Parts, network and dense model of the data, model and dense sections, given as JSON."""
    plain = json.loads(choice)
    parts = experiment.make_parts(plain["data"])
    name, hidden = plain["model"]["name"], plain["model"]["hidden"]
    model = models.build(name, parts.num_classes, hidden=hidden)
    dense = plain["dense"]
    like = model.init(jax.random.key(dense["seed"]), parts.train.inputs[:1])
    variables = pipeline.train_dense(
        model,
        like,
        parts.train,
        config_lib.dense_optimizer(plain),
        epochs=dense["epochs"],
        batch_size=dense["batch_size"],
        seed=dense["seed"],
    )
    return parts, model, variables


def run_cell(config) -> list[float] | None:
    """One run: train accuracy and max excess gap, then those of --part; None if it diverged."""
    plain = json.loads(config.to_json())
    settings = config_lib.to_settings(plain)
    shared = {key: plain[key] for key in ("data", "model", "dense")}
    parts, model, dense = prepare(json.dumps(shared))
    try:
        tuned = pipeline.prune_and_tune(model, dense, parts, settings)
    except training.DivergedError:
        return None
    names = ("train", _PART.value)
    splits = pipeline.judge(model, dense, tuned, parts, settings, names)["last"]["splits"]
    keys = ("sparse_accuracy", "max_excess_gap")
    return [100 * splits[part][key] for part in names for key in keys]


def summarize(rows: list[list[float] | None], limit: float) -> str:
    """Mean ± standard deviation of each column over the seeds that ended."""
    ended = np.array([row for row in rows if row])
    if not ended.size:
        return f"all {len(rows)} diverged"
    spread = ended.std(0, ddof=1) if len(ended) > 1 else np.zeros(4)
    cells = [f"{m:6.2f} ± {s:5.2f}" for m, s in zip(ended.mean(0), spread, strict=True)]
    within = f"{int((ended[:, 1] <= limit).sum())}/{len(rows)}"
    return "  ".join([*cells, f"{within:>6}", f"{len(rows) - len(ended):>8}"])


def main(argv):
    del argv
    axes = [parse_axis(text) for text in _AXES.value]
    head = " ".join(f"{key.split('.')[-1][:14]:>14}" for key, _ in axes)
    titles = [f"{part[:5]} {what}" for part in ("train", _PART.value) for what in ("acc.", "max ψ")]
    print(head, "  ".join(f"{title:>14}" for title in titles), " within  diverged")
    for values in itertools.product(*(values for _, values in axes)):
        config = _CONFIG.value.copy_and_resolve_references()
        config.update_from_flattened_dict({k: v for (k, _), v in zip(axes, values, strict=True)})
        rows = []
        for config.seed in range(_SEEDS.value):
            rows.append(run_cell(config))
        label = " ".join(f"{value!s:>14}" for value in values)
        print(label, summarize(rows, 100 * config.tolerance + 0.2), flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
