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
def prepare(choice: str) -> pipeline.RunContext:
    """Data and dense model of the sections that `choice` holds as JSON."""
    plain = json.loads(choice)
    task = experiment.load(plain)
    dense = plain["dense"]
    variables = pipeline.train_dense(
        task.model,
        task.untrained,
        task.splits.train,
        config_lib.dense_optimizer(plain),
        epochs=dense["epochs"],
        batch_size=dense["batch_size"],
        seed=dense["seed"],
    )
    return pipeline.make_context(task.model, variables, task.splits)


def run_members(configs: list, split: str) -> list[list[float] | None]:
    """Runs that differ in array values only: for each COLUMNS on the training split and `split`.

    In percent; None of a run that diverged.
    """
    plains = [json.loads(config.to_json()) for config in configs]
    members = [config_lib.to_settings(plain) for plain in plains]
    shared = {key: plains[0][key] for key in ("data", "model", "dense", "precision")}
    whole = json.loads(config_lib.default_config().to_json())
    prunable = {"pruning": {**whole["pruning"], "prunable": members[0].pruning.prunable}}
    context = prepare(json.dumps({**whole, **shared, **prunable}))
    outcomes = pipeline.make_tuner(context, members[0]).run(members)
    return [
        None if isinstance(found, training.DivergedError) else _columns(context, found, one, split)
        for found, one in zip(outcomes, members, strict=True)
    ]


def _columns(context, tuned, settings, split):
    names = ("train", split)
    splits = pipeline.evaluate_final(context, tuned, settings, names)["last"]["splits"]
    return [100 * splits[name][key] for name in names for key in COLUMNS]


def run_seeds(config, seeds, split: str, changes: dict | None = None) -> list[list[float] | None]:
    """`run_members` for every seed, after some keys of the config were changed."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes or {})
    members = []
    for seed in seeds:
        member = config.copy_and_resolve_references()
        member.seed = seed
        members.append(member)
    return run_members(members, split)


def summarize(rows: list[list[float] | None], limit: float) -> str:
    """Mean ± standard deviation of each column over the seeds that ended."""
    ended = np.array([row for row in rows if row])
    if not ended.size:
        return f"all {len(rows)} diverged"
    spread = ended.std(0, ddof=1) if len(ended) > 1 else np.zeros(ended.shape[1])
    cells = [f"{m:6.2f} ± {s:5.2f}" for m, s in zip(ended.mean(0), spread, strict=True)]
    within = f"{int((ended[:, 1] <= limit).sum())}/{len(rows)}"
    return "  ".join([*cells, f"{within:>6}", f"{len(rows) - len(ended):>8}"])


def titles(split: str) -> str:
    """Heads of the columns of `summarize`."""
    heads = [
        f"{name[:5]} {what}" for name in ("train", split) for what in ("acc.", "max ψ", "Ψ_PW")
    ]
    return "  ".join(f"{head:>14}" for head in heads) + "  within  diverged"


def share_compiled_programs() -> None:
    """Lets runs that differ in the seed alone compile once."""
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp(prefix="grid"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
