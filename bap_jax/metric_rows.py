"""What the lines of `metrics.jsonl` hold: one a step and one an epoch."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.audit.selection import Score
from bap_jax.constraints import ReplayBuffer, replay_buffer
from bap_jax.training.methods import Method
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.types import Array

# Beyond so many constraints the row of a step, or of an epoch, holds summaries only.
LISTED, LISTED_EPOCH = 100, 10_000


@contextlib.contextmanager
def json_lines(path: Path):
    """A function that writes dicts to a file, one JSON object a line."""
    with open(path, "w", encoding="utf-8") as file:
        yield lambda row: file.write(json.dumps(row) + "\n")


def flat(sets: Array | Mapping[str, Array]) -> np.ndarray:
    """`(constraint,)`: the constraints of several named sets one after another."""
    return np.concatenate(list(sets.values())) if isinstance(sets, Mapping) else np.asarray(sets)


def step_row(
    step: int, epoch: int, metrics: StepMetrics, frequency: Array, method: Method
) -> dict[str, Any]:
    """Loss, accuracy and, where there are constraints, what both players saw of them.

    `min_group_weight` is the least of `Method.group_weights` at the multipliers after the step, for
    a batch that holds all groups: below 0, some group's loss is being driven up.
    `proxy_violation_correlation` is taken over the constraints that both players observed. Lists
    follow the order of the constraints, None where not observed.
    """
    row = {
        "step": step,
        "epoch": epoch,
        "loss": float(metrics.loss),
        "accuracy": float(metrics.accuracy),
    }
    multipliers, violation = flat(metrics.multipliers), flat(metrics.violation)
    if multipliers.size == 0:
        return row
    row["lagrangian"] = float(metrics.lagrangian)
    row["sum_multipliers"] = float(np.sum(multipliers))
    row["max_multiplier"] = float(np.max(multipliers))
    row["max_violation"] = None if np.isnan(violation).all() else float(np.nanmax(violation))
    row["proxy_violation_correlation"] = _correlation(flat(metrics.proxy), violation)
    if method.group_weights is not None:
        row["min_group_weight"] = float(np.min(method.group_weights(frequency, multipliers)))
    if multipliers.size <= LISTED:
        row["multipliers"] = _listed(multipliers)
        row["violation"] = _listed(violation)
        row["proxy"] = _listed(flat(metrics.proxy))
    return row


class EpochNumbers(NamedTuple):
    """Numbers of the end of an epoch.

    Attributes:
      kept: `()` int32 weights that the masks keep, over the leaves that have one.
      prunable: `()` int32 weights of these leaves.
      multipliers: `(constraint,)`, or a dict of such.
      pushes: `()` int32 how often the buffer was filled; None where there is none.
      mean_staleness, max_staleness: `()` over the groups: steps since the newest value came in.
    """

    kept: Array
    prunable: Array
    multipliers: Array | Mapping[str, Array]
    pushes: Array | None = None
    mean_staleness: Array | None = None
    max_staleness: Array | None = None


def epoch_numbers(state: TrainState) -> EpochNumbers:
    """What the row of an epoch tells of a state; pure."""
    masks = jax.tree.leaves(state.masks)
    kept = sum((jnp.sum(mask, dtype=jnp.int32) for mask in masks), jnp.int32(0))
    prunable = jnp.int32(sum(mask.size for mask in masks))
    found = EpochNumbers(kept, prunable, state.lagrangian.multipliers)
    is_buffer = lambda node: isinstance(node, ReplayBuffer)  # noqa: E731
    for node in jax.tree.leaves(state.constraint, is_leaf=is_buffer):
        if is_buffer(node):
            ages = replay_buffer.staleness(node)
            found = found._replace(
                pushes=node.pushes, mean_staleness=ages.mean(), max_staleness=ages.max()
            )
    return found


def epoch_row(epoch: int, numbers: EpochNumbers, score: Score) -> dict[str, Any]:
    """The iterate at the end of an epoch: sparsity, multipliers, score on the validation part.

    `staleness` is how many steps ago the newest buffered value of a group came in: mean and
    largest over the groups.

    Args:
      epoch: which.
      numbers: on the host.
      score: on the validation part.
    """
    removed = int(numbers.prunable) - int(numbers.kept)
    row = {
        "epoch": epoch,
        "sparsity": removed / max(int(numbers.prunable), 1),
        "validation_accuracy": score.accuracy,
        "validation_max_excess_gap": score.max_excess_gap,
    }
    multipliers = flat(numbers.multipliers)
    if multipliers.size <= LISTED_EPOCH:
        row["multipliers"] = multipliers.tolist()
    if numbers.pushes is not None and int(numbers.pushes):
        row["staleness"] = {
            "mean": float(numbers.mean_staleness),
            "max": int(numbers.max_staleness),
        }
    return row


def _listed(values):
    return [None if np.isnan(value) else float(value) for value in values]


def _correlation(proxy, violation):
    seen = np.isfinite(proxy) & np.isfinite(violation)
    if seen.sum() < 2 or np.ptp(proxy[seen]) == 0 or np.ptp(violation[seen]) == 0:
        return None
    return float(np.corrcoef(proxy[seen], violation[seen])[0, 1])
