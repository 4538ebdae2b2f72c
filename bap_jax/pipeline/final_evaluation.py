"""The report of a run; the only place that reads the test split."""

from collections.abc import Sequence
from typing import Any

import jax

from bap_jax import data, pruning, reporting
from bap_jax.pipeline.context import RunContext
from bap_jax.pipeline.monitor import Snapshot, TuningResult
from bap_jax.training import Settings
from bap_jax.training.methods import method_name


def evaluate_final(
    context: RunContext, tuned: TuningResult, settings: Settings, names: Sequence[str] = data.SPLITS
) -> dict[str, Any]:
    """Evaluates both iterates of a run on the splits called `names`.

    Args:
      context: dense network and data.
      tuned: the iterates.
      settings: of the run.
      names: of the splits; nothing else in a run reads the test split.

    Returns:
      The report, without what only the caller knows (config, seconds).
    """
    splits = {"selected": {}, "last": {}}
    for name in names:
        dense_means = context.dense_means(name)
        for which, reports in splits.items():
            means = context.evaluate(getattr(tuned, which).variables, name)
            reports[name] = reporting.split_report(dense_means, means, context.splits.group_names)
    return {
        "versions": reporting.versions(),
        "execution": describe(context),
        "method": method_name(settings.method),
        "seed": settings.seed,
        "tolerance": settings.tolerance,
        "feasibility": tuned.feasibility,
        "unconstrained_groups": tuned.unconstrained,
        **_snapshot_report(tuned.selected, settings, splits["selected"]),
        "last": _snapshot_report(tuned.last, settings, splits["last"]),
    }


def describe(context: RunContext) -> dict[str, Any]:
    """How the programs of these runs are executed, as plain values."""
    execution = context.execution
    mesh = execution.mesh()
    return {
        "backend": jax.default_backend(),
        "devices": mesh.size if mesh else 1,
        "processes": jax.process_count(),
        "epoch": execution.epoch,
        "members": execution.members,
        "spread": execution.spread,
        "data": "streamed" if data.is_streamed(context.train) else "on the device",
    }


def _snapshot_report(snapshot: Snapshot, settings: Settings, splits: dict[str, Any]):
    sparsity = pruning.sparsity(snapshot.variables.params, snapshot.masks)
    return {
        "epoch": snapshot.epoch,
        "params_sha256": reporting.tree_sha256(snapshot.variables.params),
        "sparsity": {
            "target": settings.pruning.sparsity,
            **sparsity._asdict(),
            "layers": pruning.leaf_sparsity(snapshot.masks),
        },
        "splits": splits,
    }
