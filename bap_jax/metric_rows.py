"""What the lines of `metrics.jsonl` hold: one a step and one an epoch."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from bap_jax import pruning
from bap_jax.audit.selection import Score
from bap_jax.lagrangian import group_weights
from bap_jax.training.settings import Settings
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.types import Array


@contextlib.contextmanager
def json_lines(path: Path):
    """A function that writes dicts to a file, one JSON object a line."""
    with open(path, "w", encoding="utf-8") as file:
        yield lambda row: file.write(json.dumps(row) + "\n")


def step_row(
    step: int, epoch: int, metrics: StepMetrics, frequency: Array, settings: Settings
) -> dict[str, Any]:
    """Loss, accuracy and, where there are constraints, a summary of multipliers and violations.

    `min_group_weight` is min_g ω_g of `lagrangian.group_weights`, for CEAG: below 0, some group's
    loss is being driven up. `max_violation` is None while no constraint is observed.
    """
    row = {
        "step": step,
        "epoch": epoch,
        "loss": float(metrics.loss),
        "accuracy": float(metrics.accuracy),
    }
    multipliers, violation = metrics.multipliers, metrics.violation
    if multipliers.size == 0:
        return row
    row["lagrangian"] = float(metrics.lagrangian)
    row["sum_multipliers"] = float(np.sum(multipliers))
    row["max_multiplier"] = float(np.max(multipliers))
    row["max_violation"] = None if np.isnan(violation).all() else float(np.nanmax(violation))
    if settings.method == "ceag":
        weights = group_weights(frequency, multipliers, settings.constraint.overall_term)
        row["min_group_weight"] = float(np.min(weights))
    return row


def epoch_row(epoch: int, state: TrainState, score: Score) -> dict[str, Any]:
    """The iterate at the end of an epoch: sparsity, multipliers, score on the validation part."""
    found = pruning.sparsity(state.params, state.masks)
    return {
        "epoch": epoch,
        "sparsity": found.prunable,
        "multipliers": np.asarray(state.lagrangian.multipliers).tolist(),
        "validation_accuracy": score.accuracy,
        "validation_max_excess_gap": score.max_excess_gap,
    }
