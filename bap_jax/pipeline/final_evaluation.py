"""The report of a run; the only place that reads the test split."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from bap_jax import data, pruning, reporting
from bap_jax.pipeline.context import RunContext
from bap_jax.pipeline.iterates import Snapshot
from bap_jax.pipeline.monitor import TuningResult
from bap_jax.reporting.predictions import (
    SplitPredictions,
    split_outcomes,
    split_predictions,
)
from bap_jax.reporting.verdicts import add_verdict
from bap_jax.training import Settings
from bap_jax.training.methods import method_name


class FinalEvaluation(NamedTuple):
    """What `evaluate_with_predictions` returns.

    Attributes:
      report: without what only the caller knows (config, seconds).
      predictions: of the dense and the pruned network, by name of the split.
    """

    report: dict[str, Any]
    predictions: dict[str, SplitPredictions]


def evaluate_final(
    context: RunContext, tuned: TuningResult, settings: Settings, names: Sequence[str] = data.SPLITS
) -> dict[str, Any]:
    """The report of a run, see `evaluate_with_predictions`."""
    return evaluate_with_predictions(context, tuned, settings, names).report


def evaluate_with_predictions(
    context: RunContext, tuned: TuningResult, settings: Settings, names: Sequence[str] = data.SPLITS
) -> FinalEvaluation:
    """Evaluates the pruned network and the last iterate on the splits called `names`.

    Each network is evaluated once, and the pruned network only if it is not the last iterate.

    Args:
      context: dense network and data.
      tuned: the networks.
      settings: of the run.
      names: of the splits; nothing else in a run reads the test split.
    """
    splits, predictions = _evaluate(context, tuned.last, settings, names)
    last = _snapshot_report(tuned.last, settings, splits)
    pruned = copy.deepcopy(last)
    if tuned.pruned is not tuned.last:
        splits, predictions = _evaluate(context, tuned.pruned, settings, names)
        pruned = _snapshot_report(tuned.pruned, settings, splits)
    report = {
        "versions": reporting.versions(),
        "execution": describe(context),
        "method": method_name(settings.method),
        "seed": settings.seed,
        "tolerance": settings.tolerance,
        "feasibility": tuned.feasibility,
        "multipliers": tuned.multipliers,
        "unconstrained_groups": tuned.unconstrained,
        "selection": settings.selection,
        **pruned,
        "last": last,
    }
    if tuned.epochs_averaged is not None:
        report["epochs_averaged"] = tuned.epochs_averaged
    return FinalEvaluation(report, predictions)


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


def _evaluate(context: RunContext, snapshot: Snapshot, settings: Settings, names: Sequence[str]):
    """Reports and predictions of a network on some splits, by name of the split."""
    reports, predictions, splits = {}, {}, context.splits
    for name in names:
        dense, sparse = context.dense_means(name), context.evaluate(snapshot.variables, name)
        ids, split = splits.ids_of(name), getattr(splits, name)
        if dense.predicted is None or sparse.predicted is None:
            right = dense.correct_on(split), sparse.correct_on(split)
            predictions[name] = split_outcomes(ids, split, *right)
        else:
            predictions[name] = split_predictions(ids, split, dense.predicted, sparse.predicted)
        report = reporting.split_report(dense, sparse, splits.group_names)
        reports[name] = add_verdict(
            report, predictions[name], splits.attribute_of_group(), settings.tolerance
        )
    return reports, predictions


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
