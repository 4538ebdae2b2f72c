"""Runs of an experiment without a workdir; they share dense models and yield a few numbers."""

import functools
import json
import tempfile

import jax
import numpy as np

from bap_jax import config as config_lib
from bap_jax import pipeline, training
from bap_jax.task import load_task

COLUMNS = ("sparse_accuracy", "max_excess_gap", "pairwise_disparity")


@functools.cache
def make_context(config_json: str) -> pipeline.RunContext:
    """Data and dense model of a config; made once for each config."""
    plain = json.loads(config_json)
    task = load_task(plain)
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
    """Runs members that differ only in array values.

    Returns:
      For each member `COLUMNS` of the last iterate on the training split and on `split`, in
      percent; None if it diverged.
    """
    plains = [json.loads(config.to_json()) for config in configs]
    members = [config_lib.to_settings(plain) for plain in plains]
    shared = {key: plains[0][key] for key in ("data", "model", "dense", "precision")}
    # Defaults for all else, so that configs with the same dense model share a context.
    defaults = json.loads(config_lib.default_config().to_json())
    prunable = {"pruning": {**defaults["pruning"], "prunable": members[0].pruning.prunable}}
    context = make_context(json.dumps({**defaults, **shared, **prunable}))
    outcomes = pipeline.make_tuner(context, members[0]).run(members)
    return [
        None
        if isinstance(outcome, training.DivergedError)
        else _columns(context, outcome, settings, split)
        for outcome, settings in zip(outcomes, members, strict=True)
    ]


def _columns(context, result, settings, split):
    names = ("train", split)
    splits = pipeline.evaluate_final(context, result, settings, names)["last"]["splits"]
    return [100 * splits[name][key] for name in names for key in COLUMNS]


def run_seeds(config, seeds, split: str, changes: dict | None = None) -> list[list[float] | None]:
    """`run_members` for every seed, with some keys of the config changed."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes or {})
    members = []
    for seed in seeds:
        member = config.copy_and_resolve_references()
        member.seed = seed
        members.append(member)
    return run_members(members, split)


def summarize(rows: list[list[float] | None], limit: float) -> str:
    """A line of text: mean ± standard deviation of each column over the seeds that did not diverge.

    Then for how many seeds the max excess gap on the training split is at most `limit`, in percent,
    and how many diverged.
    """
    ended = np.array([row for row in rows if row])
    if not ended.size:
        return f"all {len(rows)} diverged"
    spread = ended.std(0, ddof=1) if len(ended) > 1 else np.zeros(ended.shape[1])
    cells = [f"{m:6.2f} ± {s:5.2f}" for m, s in zip(ended.mean(0), spread, strict=True)]
    within = f"{int((ended[:, 1] <= limit).sum())}/{len(rows)}"
    return "  ".join([*cells, f"{within:>6}", f"{len(rows) - len(ended):>8}"])


def titles(split: str) -> str:
    """The heading of the lines of `summarize`."""
    heads = [
        f"{name[:5]} {what}" for name in ("train", split) for what in ("acc.", "max ψ", "Ψ_PW")
    ]
    return "  ".join(f"{head:>14}" for head in heads) + "  within  diverged"


def share_compiled_programs() -> None:
    """Keeps compiled programs on disk, so that runs that differ only in the seed compile once."""
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp(prefix="grid"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
