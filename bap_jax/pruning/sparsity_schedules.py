"""When masks change, and how sparse they are then.

A schedule has two methods, and the step that both take may be traced: `is_mask_update_iter` says
whether masks change at a step, and `get_sparsity_at_step` turns the target of each tensor into its
sparsity at that step. A schedule counts whatever its caller counts; `InEpochs` lets one that counts
epochs serve a caller that counts steps.
"""

import dataclasses
import math
import numbers
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.pruning.promises import promised
from bap_jax.pruning.schedule_protocol import (
    Schedule,
    exact_sparsities,
    never_falls,
    update_index,
)
from bap_jax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class NoUpdateSchedule:
    """Masks stay as they were made at the start.

    Class attributes:
      sparsity_never_falls: a promise about `get_sparsity_at_step`, see `pruning.promises`: later
        steps have the same sparsity or a higher one.
    """

    sparsity_never_falls: ClassVar[bool] = True

    @property
    def last_update_step(self) -> int | None:
        """The last step at which masks change; −1: they never do, None: there is none or not known.

        It is not known of a subclass that decides itself when masks change.
        """
        return -1 if _updates_as(NoUpdateSchedule, self) else None

    def get_sparsity_at_step(self, target_sparsities: PyTree, step: Array | int) -> PyTree:
        """The sparsity of each tensor at `step`, given its target."""
        del step
        return target_sparsities

    def is_mask_update_iter(self, step: Array | int) -> Array | bool:
        """Whether masks change at `step`."""
        del step
        return False

    def never_falls(self) -> bool:
        """Whether a later step never has a lower sparsity than an earlier one."""
        return promised(type(self), "sparsity_never_falls", "get_sparsity_at_step")

    def tabulate(self, target: float) -> np.ndarray | None:
        """`(update,)` sparsities in double precision, the target last; None where unknown."""
        is_constant = type(self).get_sparsity_at_step is NoUpdateSchedule.get_sparsity_at_step
        return np.array([target]) if is_constant else None

    def update_index(self, step: Array | int) -> Array | int:
        """The place in `tabulate` of the sparsity at `step`."""
        del step
        return 0


@dataclasses.dataclass(frozen=True)
class OneShotSchedule(NoUpdateSchedule):
    """One update.

    Attributes:
      target_step: when.
    """

    target_step: int

    def __post_init__(self):
        _check_least("target_step", self.target_step, 0)

    @property
    def last_update_step(self):
        return self.target_step if _updates_as(OneShotSchedule, self) else None

    def is_mask_update_iter(self, step):
        return step == self.target_step


@dataclasses.dataclass(frozen=True)
class PeriodicSchedule(NoUpdateSchedule):
    """An update every so many steps, each to the same sparsity.

    Attributes:
      update_freq: steps between updates.
      update_start_step: the first update.
      update_end_step: the last update; None: no end.
      aligned: True updates at start, start + freq, … and in any case at the end. False updates at
        those multiples of `update_freq` that lie between start and end, as jaxpruner does; start
        and end themselves may then be left out.

    Raises:
      UserError: the end lies before the start, or a number is not a whole one.
    """

    update_freq: int
    update_start_step: int
    update_end_step: int | None
    aligned: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self):
        _check_least("update_freq", self.update_freq, 1)
        _check_least("update_start_step", self.update_start_step, 0)
        end = self.update_end_step
        if end is not None and end < self.update_start_step:
            raise UserError(
                f"update_end_step cannot be smaller than update_start_step; "
                f"got end {end} and start {self.update_start_step}."
            )

    @property
    def last_update_step(self):
        if self.update_end_step is None or not _updates_as(PeriodicSchedule, self):
            return None
        if self.aligned:
            return self.update_end_step
        last = self.update_end_step // self.update_freq * self.update_freq
        return last if last >= self.update_start_step else -1

    def is_mask_update_iter(self, step):
        if step is None:  # before there is a count
            return False
        offset = self.update_start_step if self.aligned else 0
        due = ((step - offset) % self.update_freq == 0) & (step >= self.update_start_step)
        if self.update_end_step is None:
            return due
        due &= step <= self.update_end_step
        return due | (step == self.update_end_step) if self.aligned else due


@dataclasses.dataclass(frozen=True)
class PolynomialSchedule(PeriodicSchedule):
    """Sparsity rises as a polynomial (Zhu & Gupta 2017, arXiv 1710.01878).

        s(step) = target (1 − (1 − p)^power) ,   p = (step + 1 − start) / (end − start) in [0, 1]

    Attributes:
      power: 3 prunes fast at first.
    """

    sparsity_never_falls: ClassVar[bool] = True

    power: int = 3

    def __post_init__(self):
        super().__post_init__()
        if self.update_end_step is None:
            raise UserError("a polynomial schedule needs an update_end_step.")

    def get_sparsity_at_step(self, target_sparsities, step):
        assert self.update_end_step is not None  # checked when the schedule was made
        length = self.update_end_step - self.update_start_step
        done = jnp.clip(jnp.asarray(step + 1 - self.update_start_step, jnp.float32), 0, length)
        progress = done / length if length else 1.0
        share = 1.0 - (1.0 - progress) ** self.power
        return jax.tree.map(lambda target: target * share, target_sparsities)


@dataclasses.dataclass(frozen=True)
class GradualSchedule(NoUpdateSchedule):
    """The paper's cubic rise over epochs t_0 … T (section 5, where t_0 = 0).

        s(t) = target + (initial − target) (1 − (t − t_0) / (T − t_0))³

    See docs/method.md, equation (11).

    It has the power of jaxpruner's polynomial, but here the first update, t = t_0, has sparsity
    `initial`.

    Attributes:
      last_epoch: T; with T = t_0 it prunes once, at that epoch.
      frequency: prune every so many epochs from t_0 on, and in any case at T.
      initial: sparsity at epoch t_0. Nothing is pruned before that epoch.
      first_epoch: t_0.

    Raises:
      UserError: a negative epoch, a first epoch after the last, a frequency below 1, or an initial
        sparsity outside [0, 1).

    Example:
      >>> GradualSchedule(last_epoch=2).tabulate(0.8).round(3).tolist()
      [0.0, 0.7, 0.8]
    """

    sparsity_never_falls: ClassVar[bool] = True

    last_epoch: int
    frequency: int = 1
    initial: float = 0.0
    first_epoch: int = 0

    def __post_init__(self):
        _check_least("last pruning epoch", self.last_epoch, 0)
        _check_least("first pruning epoch", self.first_epoch, 0)
        if self.first_epoch > self.last_epoch:
            raise UserError(
                "the first pruning epoch cannot come after the last; "
                f"got first {self.first_epoch} and last {self.last_epoch}."
            )
        _check_least("pruning frequency", self.frequency, 1)
        if not 0 <= self.initial < 1:
            raise UserError(f"initial sparsity must lie in [0, 1); got {self.initial}.")

    @property
    def last_update_step(self):
        return self.last_epoch if _updates_as(GradualSchedule, self) else None

    def get_sparsity_at_step(self, target_sparsities, step):
        def at(target):
            if isinstance(step, int) and isinstance(target, numbers.Real):
                return self.tabulate(cast(float, target))[min(max(step, 0), self.last_epoch)]
            length = max(self.last_epoch - self.first_epoch, 1)
            remaining = (1 - jnp.clip((step - self.first_epoch) / length, 0, 1)) ** 3
            remaining = jnp.where(step >= self.last_epoch, 0, remaining)
            return target + (self.initial - target) * remaining

        return jax.tree.map(at, target_sparsities)

    def is_mask_update_iter(self, step):
        due = ((step - self.first_epoch) % self.frequency == 0) & (step >= self.first_epoch)
        return due & (step < self.last_epoch) | (step == self.last_epoch)

    def never_falls(self):
        return super().never_falls() and not self.initial

    def tabulate(self, target: float) -> np.ndarray:
        """`(last_epoch + 1,)` s(t) in double precision, for counts that are exact."""
        # `target + (initial - target)` can miss `initial` by a last bit, which changes a count.
        flat = [self.initial] * min(self.first_epoch + 1, self.last_epoch)
        rise = []
        for epoch in range(self.first_epoch + 1, self.last_epoch):
            done = (epoch - self.first_epoch) / (self.last_epoch - self.first_epoch)
            rise.append(target + (self.initial - target) * (1 - done) ** 3)
        return np.array([*flat, *rise, target])

    def update_index(self, step):
        return jnp.clip(step, 0, self.last_epoch)


@dataclasses.dataclass(frozen=True)
class InEpochs(NoUpdateSchedule):
    """A schedule that counts epochs, for a caller that counts steps: masks change as epochs begin.

    Attributes:
      schedule: counts epochs.
      steps_per_epoch: steps of an epoch.
    """

    schedule: Schedule
    steps_per_epoch: int

    def __post_init__(self):
        _check_least("steps_per_epoch", self.steps_per_epoch, 1)

    @property
    def last_update_step(self):
        last = getattr(self.schedule, "last_update_step", None)
        return last if last is None or last < 0 else last * self.steps_per_epoch

    def get_sparsity_at_step(self, target_sparsities, step):
        return self.schedule.get_sparsity_at_step(target_sparsities, step // self.steps_per_epoch)

    def is_mask_update_iter(self, step):
        begins = step % self.steps_per_epoch == 0
        return begins & self.schedule.is_mask_update_iter(step // self.steps_per_epoch)

    def never_falls(self):
        return never_falls(self.schedule)

    def tabulate(self, target):
        return exact_sparsities(self.schedule, target)

    def update_index(self, step):
        return update_index(self.schedule, step // self.steps_per_epoch)


def _updates_as(kind, schedule):
    return type(schedule).is_mask_update_iter is kind.is_mask_update_iter


def _check_least(name, value, least):
    if not (math.isfinite(value) and value >= least and value == int(value)):
        raise UserError(f"{name} must be a whole number ≥ {least}; got {value}.")
