"""The lines of `metrics.jsonl`: one per step and one per epoch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.constraints import ReplayBuffer, replay_buffer
from bap_jax.reporting.selection import Score
from bap_jax.training import Method, StepMetrics, TrainState
from bap_jax.types import Array

# With more constraints the row of a step, or of an epoch, holds summaries only.
LISTED, LISTED_EPOCH = 100, 10_000


def flatten_sets(sets: Array | Mapping[str, Array]) -> np.ndarray:
    """`(..., constraint)`: the constraints of several named sets, one set after the other."""
    if isinstance(sets, Mapping):
        return np.concatenate(list(sets.values()), axis=-1)
    return np.asarray(sets)


def step_rows(
    first: int, epoch: int, metrics: StepMetrics, frequency: Array, method: Method
) -> list[dict[str, Any]]:
    """Loss and accuracy of each step, and the constraints as multipliers and weights saw them.

    `min_group_weight` is the least of `Method.group_weights` at the multipliers after the step, for
    a batch that holds all groups: below 0, the loss of some group is driven up.
    `proxy_violation_correlation` is taken over the constraints whose proxy and violation were both
    observed. Lists follow the order of the constraints, None where not observed.

    Args:
      first: number of the first step.
      epoch: of all steps.
      metrics: `(step, ...)` on the host.
      frequency: `(group,)` shares of the groups in the training split.
      method: of the run.

    Returns:
      One dict per step, ready for JSON.
    """
    multipliers, violation, proxy = (
        flatten_sets(sets) for sets in (metrics.multipliers, metrics.violation, metrics.proxy)
    )
    numbers = np.arange(first, first + len(metrics.loss))
    columns: dict[str, list] = {
        "step": numbers.tolist(),
        "epoch": [epoch] * numbers.size,
        "loss": metrics.loss.tolist(),
        "accuracy": metrics.accuracy.tolist(),
    }
    if multipliers.shape[1]:
        columns |= _of_constraints(metrics, multipliers, violation, proxy)
        if method.group_weights is not None:
            least = [float(np.min(method.group_weights(frequency, row))) for row in multipliers]
            columns["min_group_weight"] = least
        if multipliers.shape[1] <= LISTED:
            named = {"multipliers": multipliers, "violation": violation, "proxy": proxy}
            columns |= {name: _listed(values) for name, values in named.items()}
    names = columns.keys()
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _of_constraints(metrics, multipliers, violation, proxy):
    """Summaries over the constraints, each with one number per step."""
    seen = ~np.isnan(violation)
    largest = np.where(seen, violation, -np.inf).max(1)
    return {
        "lagrangian": metrics.lagrangian.tolist(),
        "sum_multipliers": multipliers.sum(1).tolist(),
        "max_multiplier": multipliers.max(1).tolist(),
        "max_violation": _or_none(largest, seen.any(1)),
        "proxy_violation_correlation": _correlation(proxy, violation),
    }


class EpochNumbers(NamedTuple):
    """Numbers of the end of an epoch.

    Attributes:
      kept: `()` int32 number of weights that the masks keep, over the leaves that have a mask.
      prunable: `()` int32 number of weights of these leaves.
      multipliers: `(constraint,)`; with several sets, a dict by name.
      pushes: `()` int32 number of pushes to the buffer; None without a buffer.
      mean_staleness, max_staleness: `()` over the groups: steps since a group's newest value.
    """

    kept: Array
    prunable: Array
    multipliers: Array | Mapping[str, Array]
    pushes: Array | None = None
    mean_staleness: Array | None = None
    max_staleness: Array | None = None


def epoch_numbers(state: TrainState) -> EpochNumbers:
    """The numbers of a state that the row of an epoch needs; pure."""
    masks = jax.tree.leaves(state.masks)
    kept = sum((jnp.sum(mask, dtype=jnp.int32) for mask in masks), jnp.int32(0))
    prunable = jnp.int32(sum(mask.size for mask in masks))
    numbers = EpochNumbers(kept, prunable, state.lagrangian.multipliers)
    for node in jax.tree.leaves(state.constraint, is_leaf=_is_buffer):
        if _is_buffer(node):
            ages = replay_buffer.staleness(node)
            numbers = numbers._replace(
                pushes=node.pushes, mean_staleness=ages.mean(), max_staleness=ages.max()
            )
    return numbers


def _is_buffer(node: Any) -> bool:
    return isinstance(node, ReplayBuffer)


def epoch_row(epoch: int, numbers: EpochNumbers, score: Score) -> dict[str, Any]:
    """The iterate at the end of an epoch: sparsity, multipliers, score on the validation split.

    `staleness` is how many steps ago the newest buffered value of a group was pushed: mean and
    largest over the groups.

    Args:
      epoch: its number.
      numbers: on the host.
      score: on the validation split.
    """
    removed = int(numbers.prunable) - int(numbers.kept)
    row: dict[str, Any] = {
        "epoch": epoch,
        "sparsity": removed / max(int(numbers.prunable), 1),
        "validation_accuracy": score.accuracy,
        "validation_max_excess_gap": score.max_excess_gap,
    }
    multipliers = flatten_sets(numbers.multipliers)
    if multipliers.size:
        row["sum_multipliers"] = float(multipliers.sum())
    if multipliers.size <= LISTED_EPOCH:
        row["multipliers"] = multipliers.tolist()
    mean, largest = numbers.mean_staleness, numbers.max_staleness
    if numbers.pushes is not None and int(numbers.pushes):
        assert mean is not None and largest is not None
        row["staleness"] = {"mean": float(mean), "max": int(largest)}
    return row


def _listed(values):
    """`(step, constraint)` as lists, None where NaN."""
    objects = values.astype(object)
    objects[np.isnan(values)] = None
    return objects.tolist()


def _or_none(values, known):
    """`(step,)` as a list, None where not known."""
    pairs = zip(values.tolist(), known, strict=True)
    return [value if is_known else None for value, is_known in pairs]


def _correlation(proxy, violation):
    """The correlation over the constraints of each step; None where it is not defined."""
    seen = np.isfinite(proxy) & np.isfinite(violation)
    count = np.maximum(seen.sum(1, keepdims=True), 1)
    spread = []
    for values in (proxy, violation):
        values = np.where(seen, values, 0).astype(np.float64)
        spread.append(np.where(seen, values - values.sum(1, keepdims=True) / count, 0))
    x, y = spread
    varies = [_varies(values, seen) for values in (proxy, violation)]
    scale = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    known = varies[0] & varies[1] & (scale > 0)
    correlation = (x * y).sum(1) / np.where(known, scale, 1)
    return _or_none(np.clip(correlation, -1, 1), known)


def _varies(values, seen):
    """`(step,)` bool: whether the seen values of a step are not all equal."""
    return np.where(seen, values, -np.inf).max(1) > np.where(seen, values, np.inf).min(1)
