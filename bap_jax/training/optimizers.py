"""Optax optimisers from settings."""

import math

import jax.numpy as jnp
import optax

from bap_jax import lagrangian
from bap_jax.training.settings import DualSettings, OptimizerSettings, Settings
from bap_jax.types import Array


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


def primal_optimizer(
    settings: OptimizerSettings, num_epochs: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """SGD with momentum, true L2 weight decay and the step schedule."""
    schedule = step_schedule(settings, num_epochs, steps_per_epoch)
    sgd = optax.sgd(schedule, momentum=settings.momentum or None, nesterov=settings.nesterov)
    if not settings.weight_decay:
        return sgd
    return optax.chain(optax.add_decayed_weights(settings.weight_decay), sgd)


def dual_optimizer(settings: DualSettings) -> optax.GradientTransformation:
    """Gradient ascent, with the momentum of the settings."""
    if not settings.momentum:
        return optax.sgd(settings.learning_rate)
    momentum = lagrangian.dampened_momentum(settings.momentum, settings.dampening)
    return optax.chain(momentum, optax.scale_by_learning_rate(settings.learning_rate))


def dual_formulation(
    settings: DualSettings, overall_term: str = "full", bound: Array | float = math.inf
) -> lagrangian.Formulation:
    """How multipliers move, by `settings.rule`.

    Args:
      settings: of the multipliers.
      overall_term: see `lagrangian.overall_term`.
      bound: a further bound on |λ|, `()` or `(constraint,)`; the smaller of the two holds.
    """
    bound = jnp.minimum(bound, settings.bound)
    if settings.rule == "augmented":
        return lagrangian.augmented(
            settings.penalty,
            growth=settings.penalty_growth,
            largest_penalty=settings.largest_penalty,
            start=settings.start,
            bound=bound,
            overall_term=overall_term,
        )
    optimizer = dual_optimizer(settings)
    if settings.rule == "nu_pi":
        optimizer = lagrangian.nu_pi(
            settings.learning_rate, settings.nu, settings.proportional, settings.integral
        )
    return lagrangian.gradient_ascent(
        optimizer,
        start=settings.start,
        bound=bound,
        overall_term=overall_term,
        restart=settings.restart,
        restart_confidence=settings.restart_confidence,
    )


def formulation_from_settings(
    settings: Settings, bound: Array | float = math.inf
) -> lagrangian.Formulation:
    """How the multipliers of a run move, by `settings.dual` and `settings.constraint.overall_term`.

    Args:
      settings: of the run.
      bound: a further bound on |λ|, see `dual_formulation`.
    """
    return dual_formulation(settings.dual, settings.constraint.overall_term, bound)
