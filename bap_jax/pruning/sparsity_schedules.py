"""When masks are formed anew, and how sparse they then are.

A schedule has two methods, both of which take a step that may be traced: `is_mask_update_iter` and
`get_sparsity_at_step`, which turns the target of each tensor into its sparsity now. It counts in
whatever its holder counts; `InEpochs` lets a schedule count epochs while its holder counts steps.
"""

import dataclasses
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.types import Array, PyTree, UserError


@dataclasses.dataclass(frozen=True)
class NoUpdateSchedule:
    """Masks stay as they are made at the start."""

    @property
    def last_update_step(self) -> int | None:
        """The last step that forms masks anew; −1: there is none, None: there is no last."""
        return -1

    def get_sparsity_at_step(self, target_sparsities: PyTree, step: Array | int) -> PyTree:
        """The sparsity of each tensor, given its target."""
        del step
        return target_sparsities

    def is_mask_update_iter(self, step: Array | int) -> Array | bool:
        """Whether masks are formed anew at `step`."""
        del step
        return False


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
        return self.target_step

    def is_mask_update_iter(self, step):
        return step == self.target_step


@dataclasses.dataclass(frozen=True)
class PeriodicSchedule(NoUpdateSchedule):
    """An update every so many steps, towards the same sparsity.

    Attributes:
      update_freq: steps between updates.
      update_start_step: the first update.
      update_end_step: the last update; None: no end.
      aligned: updates are at start, start + freq, … and in any case at the end. False: at the
        multiples of `update_freq` from start to end, as in jaxpruner, whatever these leave out.

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
        if self.update_end_step is None or self.aligned:
            return self.update_end_step
        last = self.update_end_step // self.update_freq * self.update_freq
        return last if last >= self.update_start_step else -1

    def is_mask_update_iter(self, step):
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

    power: int = 3

    def __post_init__(self):
        super().__post_init__()
        if self.update_end_step is None:
            raise UserError("a polynomial schedule needs an update_end_step.")

    def get_sparsity_at_step(self, target_sparsities, step):
        length = self.update_end_step - self.update_start_step
        done = jnp.clip(jnp.asarray(step + 1 - self.update_start_step, jnp.float32), 0, length)
        progress = done / length if length else 1.0
        share = 1.0 - (1.0 - progress) ** self.power
        return jax.tree.map(lambda target: target * share, target_sparsities)


@dataclasses.dataclass(frozen=True)
class GradualSchedule(NoUpdateSchedule):
    """The paper's cubic rise over epochs t_0 … T (section 5, where t_0 = 0).

        s(t) = target + (initial − target) (1 − (t − t_0) / (T − t_0))³

    With jaxpruner's polynomial it shares the power; here update t = t_0 stands at `initial`.

    Attributes:
      last_epoch: T; with T = t_0 it prunes once, at that epoch.
      frequency: prune every so many epochs from t_0 on, and at T whatever it divides.
      initial: sparsity at epoch t_0. Nothing is pruned before that epoch.
      first_epoch: t_0.

    Raises:
      UserError: a negative epoch, a first epoch after the last, a frequency below 1, or an initial
        sparsity outside [0, 1).
    """

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
        return self.last_epoch

    def get_sparsity_at_step(self, target_sparsities, step):
        def at(target):
            if isinstance(step, int) and isinstance(target, numbers.Real):
                return self.tabulate(target)[min(max(step, 0), self.last_epoch)]
            length = max(self.last_epoch - self.first_epoch, 1)
            remaining = (1 - jnp.clip((step - self.first_epoch) / length, 0, 1)) ** 3
            remaining = jnp.where(step >= self.last_epoch, 0, remaining)
            return target + (self.initial - target) * remaining

        return jax.tree.map(at, target_sparsities)

    def is_mask_update_iter(self, step):
        due = ((step - self.first_epoch) % self.frequency == 0) & (step >= self.first_epoch)
        return due & (step < self.last_epoch) | (step == self.last_epoch)

    def tabulate(self, target: float) -> np.ndarray:
        """`(last_epoch + 1,)` s(t) in double precision, for counts that are exact."""
        # `target + (initial - target)` can miss `initial` by a last bit, which changes a count.
        flat = [self.initial] * min(self.first_epoch + 1, self.last_epoch)
        rise = []
        for epoch in range(self.first_epoch + 1, self.last_epoch):
            done = (epoch - self.first_epoch) / (self.last_epoch - self.first_epoch)
            rise.append(target + (self.initial - target) * (1 - done) ** 3)
        return np.array([*flat, *rise, target])


@dataclasses.dataclass(frozen=True)
class InEpochs(NoUpdateSchedule):
    """A schedule that counts epochs, for a holder that counts steps: it acts as epochs begin.

    Attributes:
      schedule: counts epochs.
      steps_per_epoch: steps of an epoch.
    """

    schedule: NoUpdateSchedule
    steps_per_epoch: int

    def __post_init__(self):
        _check_least("steps_per_epoch", self.steps_per_epoch, 1)

    @property
    def last_update_step(self):
        last = self.schedule.last_update_step
        return last if last is None or last < 0 else last * self.steps_per_epoch

    def get_sparsity_at_step(self, target_sparsities, step):
        return self.schedule.get_sparsity_at_step(target_sparsities, step // self.steps_per_epoch)

    def is_mask_update_iter(self, step):
        begins = step % self.steps_per_epoch == 0
        return begins & self.schedule.is_mask_update_iter(step // self.steps_per_epoch)


NEVER_FALLING = (
    NoUpdateSchedule,
    OneShotSchedule,
    PeriodicSchedule,
    PolynomialSchedule,
    GradualSchedule,
)


def exact_sparsities(schedule: NoUpdateSchedule, target: float) -> np.ndarray | None:
    """`(update,)` a schedule's sparsities in double precision, the target last.

    None where the schedule cannot tell them beforehand.
    """
    if isinstance(schedule, InEpochs):
        return exact_sparsities(schedule.schedule, target)
    if isinstance(schedule, GradualSchedule):
        return schedule.tabulate(target)
    if type(schedule) in (NoUpdateSchedule, OneShotSchedule, PeriodicSchedule):
        return np.array([target])
    return None


def update_index(schedule: NoUpdateSchedule, step: Array | int) -> Array | int:
    """Where among `exact_sparsities` that of `step` is."""
    if isinstance(schedule, InEpochs):
        return update_index(schedule.schedule, step // schedule.steps_per_epoch)
    if isinstance(schedule, GradualSchedule):
        return jnp.clip(step, 0, schedule.last_epoch)
    return 0


def _check_least(name, value, least):
    if not (math.isfinite(value) and value >= least and value == int(value)):
        raise UserError(f"{name} must be a whole number ≥ {least}; got {value}.")
