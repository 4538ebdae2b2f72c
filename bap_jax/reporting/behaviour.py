"""How the multipliers behaved towards the end of a run: settled, moving, oscillating or stuck.

Of E epochs in which any constraint was observed, the last q = max(4, ⌊E/5⌋) are looked at. Each
multiplier λ_c has one status, the first of these that fits:

    stuck           violated, and grew, stayed at its bound or was held down while its violation did
                    not fall: `not feasible as trained` in the words of `feasibility`
    at rest         λ_c = 0 in all q epochs
    settled         it moved by little beside s, the mean of w_g + |λ_c|: max λ_c − min λ_c is at
                    most s/10 if it has a trend, which would go on, and else s/5 (± s/10)
    oscillating     it turned twice or more, and has no trend
    still moving    otherwise

It has a *trend* if the regression line over the q epochs rises or falls by more than the range of
what is left without it.

s is the weight of group g's loss (docs/method.md, equation (18)), with w_g the share of its
samples. That it varies by ± 10 % matters little: what the group contributes to a gradient varies
more from batch to batch, with w_g = .1 and 256 samples in a batch by 19 % (one standard deviation).
So a λ that is small beside w_g is settled whatever it does. Where constraints do not weigh the
losses of groups, a tenth of the largest |λ| of the whole run stands in place of w_g.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from bap_jax.reporting.feasibility import (
    LEFT_OUT,
    NOT_FEASIBLE,
    NOT_OBSERVED,
    History,
    constraint_status,
)

STUCK, OSCILLATING, MOVING = "stuck", "oscillating", "still moving"
TOO_FEW, SETTLED, AT_REST = "too few epochs", "settled", "at rest"
FEWEST_EPOCHS = 4
_LITTLE = 0.1


class ConstrainedGroups(NamedTuple):
    """The groups that constraints are about, and how the multipliers weigh their losses.

    Attributes:
      names: `(group,)`.
      attributes: `(group,)` the name of the attribute that each group belongs to.
      share: `(group,)` w_g, the part of the training samples that are in each group.
      weights: `(share, multipliers) -> (group,)` the weight of each group's loss in the gradient,
        such as `lagrangian.group_weights`; None if it is not linear in their losses.
      of_constraint: `(constraint,)` id of the group that each constraint is about; −1 for none.
    """

    names: Sequence[str]
    attributes: Sequence[str]
    share: np.ndarray
    weights: Callable[[np.ndarray, np.ndarray], Any] | None
    of_constraint: np.ndarray

    def label(self, group: int) -> str:
        """What a text calls a group; with its attribute if there are several: "race=Black"."""
        several = len(set(self.attributes)) > 1
        name = self.names[group]
        return f"{self.attributes[group]}={name}" if several else name


class Behaviour(NamedTuple):
    """How each multiplier behaved over the last epochs.

    Attributes:
      statuses: one for each constraint.
      last: `(constraint,)` λ after the last epoch; NaN if no epoch had an observed constraint.
      mean, size: `(constraint,)` means of λ and |λ| over the last q epochs.
      low, high: `(constraint,)` the smallest and the largest λ of these epochs.
      first: `(constraint,)` λ after the first of them.
      has_trend: `(constraint,)` bool, whether the trend is larger than what is left without it.
      epochs: how many epochs had an observed constraint.
    """

    statuses: list[str]
    last: np.ndarray
    mean: np.ndarray
    size: np.ndarray
    low: np.ndarray
    high: np.ndarray
    first: np.ndarray
    has_trend: np.ndarray
    epochs: int

    @property
    def amplitude(self) -> np.ndarray:
        """`(constraint,)` half the distance between the smallest and the largest λ."""
        return self.high / 2 - self.low / 2

    @property
    def typical(self) -> np.ndarray:
        """`(constraint,)` λ where it acts: the mean where it oscillates, else the last one."""
        statuses = np.array(self.statuses, object)
        acting = np.where(statuses == OSCILLATING, self.mean, self.last)
        return np.where(statuses == LEFT_OUT, 0, acting)


def behaviour(
    history: History,
    names: Sequence[str],
    groups: ConstrainedGroups | None = None,
    *,
    bounds_violations: bool = True,
    left_out: Collection[str] = (),
) -> Behaviour:
    """How each multiplier behaved; the statuses are those of the module.

    A constraint observed in fewer than four epochs has the status `too few epochs`, one that never
    was is `not observed`, or `left out` if it is named in `left_out`.

    Args:
      history: multipliers and violations of the run.
      names: `(constraint,)` names of the constraints.
      groups: what the constraints are about; None if that is not groups.
      bounds_violations: whether violations are meant to end at or below 0; otherwise no multiplier
        is `stuck`.
      left_out: names of constraints that were not meant to be observed.
    """
    shape = len(history.multipliers), len(names)
    multipliers = np.reshape(np.asarray(history.multipliers, float), shape)
    violations = np.reshape(np.asarray(history.violations, float), shape)
    found = _moves(multipliers, _share(multipliers, groups))
    statuses = found.statuses
    observed = np.isfinite(violations).sum(0)
    for c, name in enumerate(names):
        if observed[c] < FEWEST_EPOCHS:
            unseen = LEFT_OUT if name in left_out else NOT_OBSERVED
            statuses[c] = TOO_FEW if observed[c] else unseen
        elif bounds_violations:
            status = constraint_status(multipliers[:, c], violations[:, c])
            statuses[c] = STUCK if status == NOT_FEASIBLE else statuses[c]
    return found


def _share(multipliers, groups):
    """`(constraint,)` w_g, or what stands in its place."""
    other = np.full(multipliers.shape[1], 0.1 * np.abs(multipliers).max(initial=0))
    if groups is None or groups.weights is None:
        return other
    of_group = groups.of_constraint
    return np.where(of_group >= 0, np.asarray(groups.share, float)[of_group], other)


def _moves(multipliers, share) -> Behaviour:
    """The behaviour by the multipliers alone."""
    epochs, size = multipliers.shape
    if not epochs:
        unknown = np.full((6, size), np.nan)
        return Behaviour([NOT_OBSERVED] * size, *unknown, has_trend=np.zeros(size, bool), epochs=0)
    part = multipliers[-max(FEWEST_EPOCHS, epochs // 5) :]
    time = np.arange(len(part)) - (len(part) - 1) / 2
    mean, magnitude = part.mean(0), np.abs(part).mean(0)
    low, high = part.min(0), part.max(0)
    line = np.outer(time, time @ part / max(time @ time, 1))
    has_trend = np.ptp(line, axis=0) > np.ptp(part - line, axis=0)
    turned = _turns(part) >= 2
    little = _LITTLE * (share + magnitude) * np.where(has_trend, 1, 2)
    conditions = [(low == 0) & (high == 0), high - low <= little, turned & ~has_trend]
    statuses = np.select(conditions, [AT_REST, SETTLED, OSCILLATING], MOVING).tolist()
    return Behaviour(
        statuses, part[-1], mean, magnitude, low, high, part[0], has_trend=has_trend, epochs=epochs
    )


def _turns(part):
    """`(constraint,)` how often the direction changed; epochs without a change do not count."""
    turns = np.zeros(part.shape[1], int)
    direction = np.zeros(part.shape[1])
    for step in np.sign(np.diff(part, axis=0)):
        turns += step * direction < 0
        direction = np.where(step, step, direction)
    return turns
