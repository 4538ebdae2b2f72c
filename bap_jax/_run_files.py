"""Files that a finished run leaves beside its report: its predictions and its page."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import logging

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
) -> list[str]:
    """Writes `predictions.npz` and `report.html`.

    Args:
      folder: of the run; it holds `metrics.jsonl` already.
      task: data and network.
      tuned: the networks.
      evaluated: their evaluation.
      report: what `report.json` will hold.

    Returns:
      A warning if the page cannot be made.
    """
    splits: Splits = task.splits
    path = folder / PREDICTIONS
    with atomic_path(path) as temporary:
        reporting.save_predictions(
            temporary, evaluated.predictions, splits.group_names, splits.attribute_of_group()
        )

    def write_page():
        write_atomically(
            folder / PAGE, reporting.render_run(_record(folder, task, tuned, evaluated, report))
        )

    return attempt(write_page, folder / PAGE)


def _record(folder, task, tuned, evaluated, report) -> reporting.RunRecord:
    """What the page is made from."""
    masks = tuned.pruned.masks
    sizes = zip(pruning.leaf_paths(masks), jax.tree.leaves(masks), strict=True)
    return reporting.RunRecord(
        report=report,
        predictions=evaluated.predictions,
        splits=task.splits,
        metrics=folder / METRICS,
        constraint_names=tuned.constraint_names,
        layer_sizes={path: mask.size for path, mask in sizes},
        hashes={
            "weights of the pruned network": report["params_sha256"],
            "data, with labels, groups and splits": task.digest,
            PREDICTIONS: sha256_of(folder / PREDICTIONS),
        },
    )


def attempt(make: Callable[[], object], path: Path) -> list[str]:
    """Makes a page or a figure, of which a run's results must not depend.

    Args:
      make: writes it.
      path: where; what an earlier run left there is removed if it cannot be made.

    Returns:
      A warning if it cannot be made, whatever the reason.
    """
    try:
        make()
    except Exception as error:  # a user's font, a full disk, a library that is missing, a fault
        path.unlink(missing_ok=True)
        logging.debug("%s", traceback.format_exc())
        reason = (str(error) or repr(error)).splitlines()[0]
        return [
            f"{path.name} could not be made, all other results are kept: "
            f"{type(error).__name__}: {reason}"
        ]
    return []
