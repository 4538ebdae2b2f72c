"""Optax optimisers from settings."""

import math

import jax.numpy as jnp
import optax

from bap_jax import lagrangian
from bap_jax.lagrangian.optimizer_step import with_any_arguments
from bap_jax.training.optimizer_registry import build_optimizer
from bap_jax.training.schedules import StepCount, learning_rate
from bap_jax.training.settings import DualSettings, OptimizerSettings, Settings
from bap_jax.types import Array


def primal_optimizer(
    settings: OptimizerSettings, num_epochs: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """The optimiser of the weights: its schedule, and the clipping before it.

    Args:
      settings: of the optimiser, checked.
      num_epochs: how many epochs it will run for.
      steps_per_epoch: steps of one.
    """
    steps = StepCount(num_epochs * steps_per_epoch, steps_per_epoch)
    rate = learning_rate(settings, steps)
    optimizer = build_optimizer(settings.name, rate, settings)
    if math.isinf(settings.clip_norm):
        return optimizer
    return optax.chain(optax.clip_by_global_norm(settings.clip_norm), with_any_arguments(optimizer))


def dual_optimizer(settings: DualSettings) -> optax.GradientTransformation:
    """What moves the multipliers by the rule `ascent`; it receives −v, since optax descends."""
    if settings.optimizer != DualSettings.optimizer:
        options = OptimizerSettings(settings.learning_rate, settings.momentum)
        return build_optimizer(settings.optimizer, settings.learning_rate, options)
    if not settings.momentum:
        return optax.sgd(settings.learning_rate)
    momentum = lagrangian.dampened_momentum(settings.momentum, settings.dampening)
    return optax.chain(momentum, optax.scale_by_learning_rate(settings.learning_rate))


def dual_formulation(
    settings: DualSettings,
    overall_term: str = "full",
    bound: Array | float = math.inf,
    named_units: bool = False,
) -> lagrangian.Formulation:
    """How multipliers move, by `settings.rule`.

    Args:
      settings: of the multipliers.
      overall_term: see `lagrangian.overall_term`.
      bound: a further bound on |λ|, `()` or `(constraint,)`; the smaller of the two holds.
      named_units: see `lagrangian.auto`.
    """
    is_free = isinstance(bound, float) and math.isinf(bound)
    bound = settings.bound if is_free else jnp.minimum(bound, settings.bound)
    if settings.rule == "auto":
        longest = jnp.minimum(lagrangian.LONGEST_STEP, settings.weight_limit)
        return lagrangian.auto(
            bound=bound, overall_term=overall_term, longest=longest, named_units=named_units
        )
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
    settings: Settings, bound: Array | float = math.inf, *, named_units: bool = False
) -> lagrangian.Formulation:
    """How the multipliers of a run move, by `settings.dual` and `settings.constraint.overall_term`.

    Args:
      settings: of the run.
      bound: a further bound on |λ|, see `dual_formulation`.
      named_units: see `lagrangian.auto`.
    """
    return dual_formulation(settings.dual, settings.constraint.overall_term, bound, named_units)
