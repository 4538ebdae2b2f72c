"""Learning rates by step, of names and of functions.

    name       rate at step t of T, W of them warm-up, from the rate η
    step       η · decay^(number of milestones passed), the paper's
    constant   η
    cosine     η · ½ (1 + cos π (t − W) / (T − W))      (Loshchilov and Hutter 2017, SGDR)
    linear     η · (1 − (t − W) / (T − W))

During the warm-up, t < W, each is multiplied by (t + 1) / W (Goyal et al. 2017, "Accurate, large
minibatch SGD").
"""

import inspect
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax.numpy as jnp
import optax

from bap_jax._user_code import check_registration, import_object
from bap_jax.errors import UserError
from bap_jax.training.settings import OptimizerSettings
from bap_jax.types import Array


class StepCount(NamedTuple):
    """How long a training lasts.

    Attributes:
      total: steps of all epochs.
      per_epoch: steps of one.
    """

    total: int
    per_epoch: int

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.total // self.per_epoch


Rate = float | Array | optax.Schedule


class ScheduleBuilder(Protocol):
    """A function that makes the schedule of one training."""

    def __call__(self, settings: OptimizerSettings, steps: StepCount, /) -> Rate:
        """Makes a schedule: a pure function from the number of the step to the learning rate, or a
        number for all steps.

        It is called while a program is traced: `settings.learning_rate` may be an array there.

        Args:
          settings: of the optimiser.
          steps: how long the training lasts.
        """
        ...


# What `OptimizerSettings.schedule` may be: a known name, `module:function`, or a builder.
ScheduleLike = str | ScheduleBuilder


def step_schedule(
    settings: OptimizerSettings, num_epochs: int, steps_per_epoch: int
) -> optax.Schedule:
    """Learning rate by step: × `decay` from epoch ⌊milestone · num_epochs⌋ on.

    Example:
      >>> schedule = step_schedule(OptimizerSettings(0.5, milestones=(0.5,), decay=0.1), 4, 10)
      >>> [round(float(schedule(step)), 3) for step in (19, 20)]
      [0.5, 0.05]
    """
    boundaries: dict[int, float] = {}
    for milestone in settings.milestones:
        # .29 · 100 is 28.999…; milestones that meet in one epoch multiply.
        step = math.floor(milestone * num_epochs + 1e-9) * steps_per_epoch
        boundaries[step] = boundaries.get(step, 1.0) * settings.decay
    return optax.piecewise_constant_schedule(settings.learning_rate, boundaries)


def warmup_steps(settings: OptimizerSettings, steps: StepCount) -> int:
    """W: how many steps the warm-up lasts."""
    return round(settings.warmup * steps.total)


def _step(settings: OptimizerSettings, steps: StepCount, /) -> optax.Schedule:
    return step_schedule(settings, steps.epochs, steps.per_epoch)


def _constant(settings: OptimizerSettings, steps: StepCount, /) -> Rate:
    del steps
    return settings.learning_rate


def _falling(shape: Callable[[Array], Array]) -> ScheduleBuilder:
    """A schedule η · shape(share of the steps after the warm-up that are done)."""

    def build(settings: OptimizerSettings, steps: StepCount, /) -> optax.Schedule:
        warm = warmup_steps(settings, steps)
        falling = max(steps.total - warm, 1)

        def schedule(step):
            done = jnp.clip((step - warm) / falling, 0, 1)
            return settings.learning_rate * shape(done)

        return schedule

    return build


SCHEDULES: dict[str, ScheduleBuilder] = {
    "step": _step,
    "constant": _constant,
    "cosine": _falling(lambda done: 0.5 * (1 + jnp.cos(jnp.pi * done))),
    "linear": _falling(lambda done: 1 - done),
}


def register_schedule(name: str, build: ScheduleBuilder, *, replace: bool = False) -> None:
    """Makes a schedule known by name, for `optimizer.schedule` in settings, configs and sweeps.

    Args:
      name: letters, numbers and `_ . + -`.
      build: makes it, see `ScheduleBuilder`.
      replace: give a name that is in use a new meaning.

    Raises:
      UserError: the name is taken, unless by the same function, or cannot be a name; or `build`
        does not take settings and steps.

    Example:
      >>> def halves(settings, steps):
      ...     return lambda step: settings.learning_rate * 0.5 ** (step / steps.per_epoch)
      >>> register_schedule("halves", halves)
      >>> rate = learning_rate(OptimizerSettings(schedule="halves"), StepCount(40, 10))
      >>> rate(20)
      0.0025
      >>> SCHEDULES.pop("halves") is halves  # forgets it again
      True
    """
    check_registration("schedule", name, build, SCHEDULES, replace)
    SCHEDULES[name] = _checked(build)


def find_schedule(schedule: ScheduleLike) -> ScheduleBuilder:
    """The builder that `OptimizerSettings.schedule` names, or is.

    Raises:
      UserError: it is unknown, cannot be imported, or is no such function; the message lists the
        known names.
    """
    if not isinstance(schedule, str):
        return _checked(schedule)
    if schedule in SCHEDULES:
        return SCHEDULES[schedule]
    if ":" in schedule:
        return _checked(import_object(schedule, "schedule"))
    raise UserError(
        f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}. For your own write "
        "'module:function', or call bap_jax.register_schedule(name, build) first."
    )


def learning_rate(settings: OptimizerSettings, steps: StepCount) -> Rate:
    """The learning rate of a training: a number, or a function of the step.

    Args:
      settings: of the optimiser, checked.
      steps: how long the training lasts.
    """
    warm = warmup_steps(settings, steps)
    rate = find_schedule(settings.schedule)(settings, steps)
    if not warm:
        return rate

    def warmed_up(step):
        usual = rate(step) if callable(rate) else rate
        return usual * jnp.minimum((step + 1) / warm, 1)

    return warmed_up


def _checked(build) -> ScheduleBuilder:
    try:
        inspect.signature(build).bind(None, None)
    except (TypeError, ValueError):
        raise UserError(
            "a schedule is a name, or a function (settings, steps) -> schedule, where the schedule "
            f"maps the number of a step to a learning rate; got {build!r}. For one of optax write "
            "lambda settings, steps: optax.exponential_decay(...)."
        ) from None
    return build
