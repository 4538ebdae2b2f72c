"""Files that a finished run leaves beside its report: its predictions and its page."""

from pathlib import Path
from typing import Any

import jax

from bap_jax import pruning, reporting
from bap_jax.audit.run_folder import PREDICTIONS
from bap_jax.audit.samples import sha256_of
from bap_jax.data import Splits
from bap_jax.pipeline import TuningResult
from bap_jax.pipeline.final_evaluation import FinalEvaluation
from bap_jax.task import Task
from bap_jax.workdir import atomic_path, write_atomically

PAGE, METRICS = "report.html", "metrics.jsonl"


def save_run_files(
    folder: Path,
    task: Task,
    tuned: TuningResult,
    evaluated: FinalEvaluation,
    report: dict[str, Any],
) -> None:
    """Writes `predictions.npz` and `report.html`.

    Args:
      folder: of the run; it holds `metrics.jsonl` already.
      task: data and network.
      tuned: the networks.
      evaluated: their evaluation.
      report: what `report.json` will hold.
    """
    splits: Splits = task.splits
    path = folder / PREDICTIONS
    with atomic_path(path) as temporary:
        reporting.save_predictions(
            temporary, evaluated.predictions, splits.group_names, splits.attribute_of_group()
        )
    masks = tuned.pruned.masks
    sizes = zip(pruning.leaf_paths(masks), jax.tree.leaves(masks), strict=True)
    record = reporting.RunRecord(
        report=report,
        predictions=evaluated.predictions,
        splits=splits,
        metrics=folder / METRICS,
        constraint_names=tuned.constraint_names,
        layer_sizes={path: mask.size for path, mask in sizes},
        hashes={
            "weights of the pruned network": report["params_sha256"],
            "data, with labels, groups and splits": task.digest,
            PREDICTIONS: sha256_of(path),
        },
    )
    write_atomically(folder / PAGE, reporting.render_run(record))
