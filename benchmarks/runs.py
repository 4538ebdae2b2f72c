"""Runs of an experiment without a workdir: dense models shared, numbers of the last iterate."""

import functools
import json
import tempfile

import jax
import numpy as np

from bap_jax import config as config_lib
from bap_jax import experiment, pipeline, training

COLUMNS = ("sparse_accuracy", "max_excess_gap", "pairwise_disparity")


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
