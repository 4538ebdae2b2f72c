"""Could the constraints be met at all? Read off how multipliers and violations moved.

A multiplier that keeps growing while its violation stays where it is says that this training cannot
meet this constraint (recipes.md E). Everything here is on the training split.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

NOT_FEASIBLE = "not feasible as trained"
NOT_OBSERVED = "not observed"
LEFT_OUT = "left out"


class History:
    """Multipliers and mean violations of every epoch in which a constraint was observed."""

    def __init__(self):
        self.multipliers: list[np.ndarray] = []
        self.violations: list[np.ndarray] = []
        self._epoch, self._sum, self._count = -1, 0.0, 0

    def add(self, epoch: int, multipliers: np.ndarray, violation: np.ndarray) -> None:
        """Notes steps of an epoch.

        Args:
          epoch: of the steps.
          multipliers: `(constraint,)` after a step, or `(step, constraint)` after several.
          violation: of the same shape, NaN where not observed.
        """
        multipliers, violation = np.atleast_2d(multipliers), np.atleast_2d(violation)
        seen = np.isfinite(violation)
        observed = np.flatnonzero(seen.any(1))
        if not observed.size:
            return
        if epoch != self._epoch:
            none = np.zeros(seen.shape[1])
            self._epoch, self._sum, self._count = epoch, none, none
            self.multipliers.append(none)
            self.violations.append(none)
        self._sum = self._sum + np.where(seen, violation, 0).sum(0, dtype=float)
        self._count = self._count + seen.sum(0)
        with np.errstate(invalid="ignore"):
            self.violations[-1] = self._sum / self._count
        self.multipliers[-1] = np.array(multipliers[observed[-1]], float)


def feasibility(
    history: History,
    names: Sequence[str],
    at_most: int = 1000,
    slack: float = 1e-3,
    left_out: Collection[str] = (),
) -> dict[str, Any]:
    """What the multipliers say about each constraint, over the last fifth of its observed epochs.

    A constraint is `met` if its mean violation there is ≤ `slack`; `not feasible as trained` if it
    is not, the multiplier grew over the last two fifths or stood at its bound, and the violation
    fell by less than a tenth since the fifth before; otherwise, and in fewer than ten epochs, it is
    still `moving`. One that was never observed is `not observed`, and the whole is then not `met`,
    whatever the others are; or `left out`, if that was meant.

    Args:
      history: of the run.
      names: one name a constraint.
      slack: mean violation that counts as none, for the noise of the estimate.
      at_most: beyond so many constraints only the 20 with the largest violation are listed.
      left_out: names of constraints that were not to be observed; they have no say in the whole.

    Returns:
      `status` (the worst of all), `least_max_violation` (over epochs), `unmet`, how many were
      observed and are not met, and for each of the `constraints` its last `multiplier`,
      `multiplier_slope` (an epoch), mean `violation`, `least_violation` (over epochs) and
      `response` (slope of the violation over the multiplier), None where there is nothing to say.
    """
    shape = len(history.multipliers), len(names)
    multipliers = np.reshape(history.multipliers, shape)
    violations = np.reshape(history.violations, shape)
    rows = [_row(name, multipliers[:, i], violations[:, i], slack) for i, name in enumerate(names)]
    rows.sort(key=lambda row: np.inf if row["violation"] is None else -row["violation"])
    worst = np.nan_to_num(violations, nan=-np.inf).max(1)
    rank = ("met", NOT_OBSERVED, "moving", NOT_FEASIBLE)
    for row in rows:
        if row["status"] == NOT_OBSERVED and row["name"] in left_out:
            row["status"] = LEFT_OUT
    found = [row["status"] for row in rows if row["status"] != LEFT_OUT]
    return {
        "status": max(found, key=rank.index, default=NOT_OBSERVED),
        "least_max_violation": float(worst.min()) if worst.size else None,
        "unmet": sum(status in ("moving", NOT_FEASIBLE) for status in found),
        "constraints": rows if len(rows) <= at_most else rows[:20],
    }


def _row(name, multiplier, violation, slack) -> dict[str, Any]:
    seen = np.isfinite(violation)
    last = float(multiplier[-1]) if multiplier.size else None
    row = {"name": name, "status": "met", "multiplier": last}
    if not seen.any():
        missing = ("multiplier_slope", "violation", "least_violation", "response")
        return row | dict.fromkeys(missing) | {"status": NOT_OBSERVED}
    multiplier, violation = multiplier[seen], violation[seen]
    fifth = max(1, len(violation) // 5)
    last, before = violation[-fifth:].mean(), violation[-2 * fifth : -fifth]
    slope = _slope(np.arange(fifth), multiplier[-fifth:])
    if last > slack:
        long = len(violation) >= 10
        grew = long and multiplier[-1] >= multiplier[-2 * fifth]
        stuck = grew and before.mean() - last < 0.1 * last
        row["status"] = NOT_FEASIBLE if stuck else "moving"
    return row | {
        "multiplier_slope": slope,
        "violation": float(last),
        "least_violation": float(violation.min()),
        "response": _slope(multiplier, violation),
    }


def _slope(x, y) -> float | None:
    """Of the regression line; None where x does not vary."""
    if np.ptp(x) == 0:
        return None
    return float(np.mean((x - x.mean()) * (y - y.mean())) / np.var(x))
