"""The report of a run; the only place that reads the test split."""

from collections.abc import Sequence
from typing import Any

import jax

from bap_jax import audit, data, pruning
from bap_jax.pipeline.context import RunContext
from bap_jax.pipeline.monitor import TuningResult
from bap_jax.training.settings import Settings


def evaluate_final(
    context: RunContext, tuned: TuningResult, settings: Settings, names: Sequence[str] = data.SPLITS
) -> dict[str, Any]:
    """Evaluates both iterates on the splits called `names`; nothing else reads the test split.

    Returns:
      The report without what only its caller knows (config, seconds).
    """
    splits = {"selected": {}, "last": {}}
    for name in names:
        dense_means = context.dense_means(name)
        for which, found in splits.items():
            means = context.evaluate(getattr(tuned, which).variables, name)
            found[name] = audit.split_report(dense_means, means, context.splits.group_names)
    return {
        "versions": audit.versions(),
        "execution": describe(context),
        "method": settings.method,
        "seed": settings.seed,
        "tolerance": settings.tolerance,
        "feasibility": tuned.feasibility,
        "unconstrained_groups": tuned.unconstrained,
        **_iterate_report(tuned.selected, settings, splits["selected"]),
        "last": _iterate_report(tuned.last, settings, splits["last"]),
    }


def describe(context: RunContext) -> dict[str, Any]:
    """How programs of these runs are executed, as plain values."""
    chosen, mesh = context.execution, context.execution.mesh()
    return {
        "backend": jax.default_backend(),
        "devices": mesh.size if mesh else 1,
        "processes": jax.process_count(),
        "epoch": chosen.epoch,
        "members": chosen.members,
        "spread": chosen.spread,
        "data": "streamed" if data.is_streamed(context.train) else "on the device",
    }


def _iterate_report(iterate, settings, splits):
    found = pruning.sparsity(iterate.variables.params, iterate.masks)
    return {
        "epoch": iterate.epoch,
        "params_sha256": audit.tree_sha256(iterate.variables.params),
        "sparsity": {
            "target": settings.pruning.sparsity,
            **found._asdict(),
            "layers": pruning.leaf_sparsity(iterate.masks),
        },
        "splits": splits,
    }
