"""How sparse a network is to be at each epoch (paper section 5; Zhu & Gupta 2017, equation 1).

    s(t) = s_f + (s_0 − s_f) (1 − t / T)³ ,   t = 0 … T

Counts are formed on the host in double precision: k = ceil(s n), which is what the reference's
numbers hold and what differs from the exact rational for some pairs (0.07 · 100 → 8).
"""

import math
from typing import NamedTuple

import numpy as np

from bap_jax.types import UserError


class GradualSchedule(NamedTuple):
    """A cubic rise of sparsity over epochs.

    Attributes:
      final: s_f, sparsity from epoch T on, in [0, 1).
      last_epoch: T, the last epoch that prunes; 0 prunes once, before training.
      initial: s_0.
      frequency: prune every so many epochs, and at T whatever it divides.
    """

    final: float
    last_epoch: int
    initial: float = 0.0
    frequency: int = 1


def check_schedule(schedule: GradualSchedule) -> None:
    """Finds a schedule that cannot be followed.

    Raises:
      UserError: a sparsity outside [0, 1), a negative epoch, or a frequency below 1.
    """
    for name in ("final", "initial"):
        sparsity = getattr(schedule, name)
        if not 0 <= sparsity < 1:
            raise UserError(
                f"{name} sparsity must lie in [0, 1), the fraction of weights removed; "
                f"got {sparsity}. For 95 % write 0.95."
            )
    if schedule.last_epoch < 0:
        raise UserError(f"last pruning epoch must be at least 0, got {schedule.last_epoch}.")
    if schedule.frequency < 1:
        raise UserError(f"pruning frequency must be at least 1 epoch, got {schedule.frequency}.")


def sparsity_at(schedule: GradualSchedule, epoch: int) -> float:
    """s(epoch); constant after the last pruning epoch."""
    if epoch >= schedule.last_epoch:
        return schedule.final
    remaining = (1 - epoch / schedule.last_epoch) ** 3
    return schedule.final + (schedule.initial - schedule.final) * remaining


def prunes_at(schedule: GradualSchedule, epoch: int) -> bool:
    """Whether masks are formed anew at the start of `epoch`."""
    return epoch == schedule.last_epoch or (
        epoch < schedule.last_epoch and epoch % schedule.frequency == 0
    )


def pruned_count(sparsity: float, size: int) -> int:
    """k = ceil(sparsity · size), weights to remove from a tensor of `size` weights."""
    return math.ceil(sparsity * size)


def pruned_counts(schedule: GradualSchedule, sizes: list[int]) -> np.ndarray:
    """`(last_epoch + 1, leaf)` int32: how many weights of each leaf are gone after each epoch."""
    amount, rows = 0.0, []
    for epoch in range(schedule.last_epoch + 1):
        if prunes_at(schedule, epoch):
            amount = sparsity_at(schedule, epoch)
        rows.append([pruned_count(amount, size) for size in sizes])
    return np.array(rows, np.int32).reshape(schedule.last_epoch + 1, len(sizes))
