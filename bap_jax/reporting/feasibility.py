"""Could the constraints be met at all? How multipliers and violations moved gives the answer.

If a multiplier keeps growing while its violation stays where it is, this training cannot meet this
constraint (docs/method.md, equation (35)). All numbers here are from the training split.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

NOT_FEASIBLE = "not feasible as trained"
NOT_OBSERVED = "not observed"
LEFT_OUT = "left out"
SLACK = 1e-3


class History:
    """The last multipliers and the mean violations of each epoch.

    Epochs in which no constraint was observed are left out.
    """

    def __init__(self):
        self.multipliers: list[np.ndarray] = []
        self.violations: list[np.ndarray] = []
        self._epoch, self._sum, self._count = -1, 0.0, 0

    def add(self, epoch: int, multipliers: np.ndarray, violation: np.ndarray) -> None:
        """Records one or several steps of an epoch.

        Args:
          epoch: number of the epoch that the steps belong to.
          multipliers: `(constraint,)` after a step, or `(step, constraint)` after several.
          violation: same shape; NaN where a constraint was not observed.
        """
        multipliers, violation = np.atleast_2d(multipliers), np.atleast_2d(violation)
        seen = np.isfinite(violation)
        observed = np.flatnonzero(seen.any(1))
        if not observed.size:
            return
        if epoch != self._epoch:
            zeros = np.zeros(seen.shape[1])
            self._epoch, self._sum, self._count = epoch, zeros, zeros
            self.multipliers.append(zeros)
            self.violations.append(zeros)
        self._sum = self._sum + np.where(seen, violation, 0).sum(0, dtype=float)
        self._count = self._count + seen.sum(0)
        with np.errstate(invalid="ignore"):
            self.violations[-1] = self._sum / self._count
        self.multipliers[-1] = np.array(multipliers[observed[-1]], float)


def feasibility(
    history: History,
    names: Sequence[str],
    at_most: int = 1000,
    slack: float = SLACK,
    left_out: Collection[str] = (),
) -> dict[str, Any]:
    """The status of each constraint at the end of training.

    The status depends on the last fifth of the epochs in which the constraint was observed:

      * `met`: its mean violation is at most `slack`.
      * `not feasible as trained`: it is violated, its multiplier grew over the last two fifths,
        stayed at its bound, or came down although every one of these epochs violated it (as it does
        where more would cost too much accuracy), and its violation fell by less than a tenth since
        the fifth before.
      * `moving`: it is violated otherwise, or was observed in fewer than ten epochs.
      * `not observed`: it was never observed. The whole run is then not `met` either.
      * `left out`: it was never observed and is named in `left_out`.

    Args:
      history: multipliers and violations of the run.
      names: `(constraint,)` names of the constraints.
      slack: mean violation that counts as none, because violations are estimates.
      at_most: with more constraints, only the 20 with the largest violations are listed.
      left_out: names of constraints that were not meant to be observed. They do not affect the
        status of the run.

    Returns:
      What `report.json` holds under `feasibility`, see docs/outputs.md: `status` (the worst of all
      constraints), `least_max_violation`, `unmet` (how many were observed and are not met), and a
      list `constraints`, largest violation first.
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
    statuses = [row["status"] for row in rows if row["status"] != LEFT_OUT]
    return {
        "status": max(statuses, key=rank.index, default=NOT_OBSERVED),
        "least_max_violation": float(worst.min()) if worst.size else None,
        "unmet": sum(status in ("moving", NOT_FEASIBLE) for status in statuses),
        "constraints": rows if len(rows) <= at_most else rows[:20],
    }


def constraint_status(multiplier: np.ndarray, violation: np.ndarray, slack: float = SLACK) -> str:
    """The status of one constraint, see `feasibility`; `not observed` if it never was.

    Args:
      multiplier: `(epoch,)`, the last of each epoch.
      violation: `(epoch,)`, the mean of each epoch; NaN where the constraint was not observed.
      slack: mean violation that counts as none.
    """
    seen = np.isfinite(violation)
    if not seen.any():
        return NOT_OBSERVED
    multiplier, violation = multiplier[seen], violation[seen]
    fifth = max(1, len(violation) // 5)
    last, before = violation[-fifth:].mean(), violation[-2 * fifth : -fifth]
    if last <= slack:
        return "met"
    if len(violation) < 10 or before.mean() - last >= 0.1 * last:
        return "moving"
    grew = multiplier[-1] >= multiplier[-2 * fifth]
    held_down = (violation[-2 * fifth :] > slack).all()
    return NOT_FEASIBLE if grew or held_down else "moving"


def _row(name, multiplier, violation, slack) -> dict[str, Any]:
    seen = np.isfinite(violation)
    last = float(multiplier[-1]) if multiplier.size else None
    row = {"name": name, "status": NOT_OBSERVED, "multiplier": last}
    if not seen.any():
        missing = ("multiplier_slope", "violation", "least_violation", "response")
        return row | dict.fromkeys(missing)
    row["status"] = constraint_status(multiplier, violation, slack)
    multiplier, violation = multiplier[seen], violation[seen]
    fifth = max(1, len(violation) // 5)
    last = violation[-fifth:].mean()
    slope = _slope(np.arange(fifth), multiplier[-fifth:])
    return row | {
        "multiplier_slope": slope,
        "violation": float(last),
        "least_violation": float(violation.min()),
        "response": _slope(multiplier, violation),
    }


def _slope(x, y) -> float | None:
    """Slope of the regression line of y on x; None if x does not vary."""
    if np.ptp(x) == 0:
        return None
    return float(np.mean((x - x.mean()) * (y - y.mean())) / np.var(x))
