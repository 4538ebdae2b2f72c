"""A table over settings and seeds: accuracy, max excess gap and disparity of the last iterate.

    python benchmarks/grid.py --config=experiments/digits.py \\
        --axis=method=nft,ceag --axis=pruning.sparsity=0.95,0.98 --seeds=5

One line a combination: mean ± standard deviation over seeds, in percent; in how many seeds the
training max excess gap is within the tolerance plus 0.2 points; how many seeds diverged. Settings
are chosen on the validation part; --part=test is for a table of settings already chosen. Runs of
one data set, network and dense seed share their dense model, and programs once compiled.
"""

import ast
import functools
import itertools
import json
import tempfile

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from bap_jax import config as config_lib
from bap_jax import experiment, pipeline, training

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_AXES = flags.DEFINE_multi_string("axis", [], "KEY=VALUE,VALUE,…, a key of the config")
_PART = flags.DEFINE_enum("part", "validation", ["validation", "test"], "second pair of columns")
_SEEDS = flags.DEFINE_integer("seeds", 5, "number of seeds")


COLUMNS = ("sparse_accuracy", "max_excess_gap", "pairwise_disparity")


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
    model = experiment.make_model(plain["model"], parts.num_classes)
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


def run_cell(config, part: str) -> list[float] | None:
    """One run: COLUMNS on the training part, then on `part`, in percent; None if it diverged."""
    plain = json.loads(config.to_json())
    settings = config_lib.to_settings(plain)
    shared = {key: plain[key] for key in ("data", "model", "dense")}
    parts, model, dense = prepare(json.dumps(shared))
    try:
        tuned = pipeline.prune_and_tune(model, dense, parts, settings)
    except training.DivergedError:
        return None
    names = ("train", part)
    splits = pipeline.judge(model, dense, tuned, parts, settings, names)["last"]["splits"]
    return [100 * splits[name][key] for name in names for key in COLUMNS]


def run_seeds(config, seeds, part: str, changes: dict | None = None) -> list[list[float] | None]:
    """`run_cell` for every seed, after some keys of the config were changed."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes or {})
    rows = []
    for config.seed in seeds:
        rows.append(run_cell(config, part))
    return rows


def summarize(rows: list[list[float] | None], limit: float) -> str:
    """Mean ± standard deviation of each column over the seeds that ended."""
    ended = np.array([row for row in rows if row])
    if not ended.size:
        return f"all {len(rows)} diverged"
    spread = ended.std(0, ddof=1) if len(ended) > 1 else np.zeros(ended.shape[1])
    cells = [f"{m:6.2f} ± {s:5.2f}" for m, s in zip(ended.mean(0), spread, strict=True)]
    within = f"{int((ended[:, 1] <= limit).sum())}/{len(rows)}"
    return "  ".join([*cells, f"{within:>6}", f"{len(rows) - len(ended):>8}"])


def titles(part: str) -> str:
    """Heads of the columns of `summarize`."""
    heads = [f"{name[:5]} {what}" for name in ("train", part) for what in ("acc.", "max ψ", "Ψ_PW")]
    return "  ".join(f"{head:>14}" for head in heads) + "  within  diverged"


def share_compiled_programs() -> None:
    """Lets runs that differ in the seed alone compile once."""
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp(prefix="grid"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def main(argv):
    del argv
    share_compiled_programs()
    axes = [parse_axis(text) for text in _AXES.value]
    head = " ".join(f"{key.split('.')[-1][:14]:>14}" for key, _ in axes)
    print(head, titles(_PART.value))
    for values in itertools.product(*(values for _, values in axes)):
        changes = {key: value for (key, _), value in zip(axes, values, strict=True)}
        rows = run_seeds(_CONFIG.value, range(_SEEDS.value), _PART.value, changes)
        label = " ".join(f"{value!s:>14}" for value in values)
        print(label, summarize(rows, 100 * _CONFIG.value.tolerance + 0.2), flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
