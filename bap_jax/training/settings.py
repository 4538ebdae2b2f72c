"""Every knob of a run, its default, and what it may be. The one place that knows them all.

Defaults are the paper's (section 5 and appendix): SGD .01 with momentum .9, divided by ten at 60,
80 and 90 % of the epochs, batch 128, 15 epochs of pruning and 45 of fine-tuning, buffer 40.
"""

import dataclasses
import math
import numbers

from bap_jax.constraints.estimators import OVERALL
from bap_jax.lagrangian import OVERALL_TERMS
from bap_jax.types import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """SGD with a step schedule.

    Attributes:
      learning_rate: initial step size.
      momentum: of the heavy ball.
      milestones: fractions of all epochs at which the step size is multiplied by `decay`.
      decay: that factor.
      weight_decay: L2 term added to the gradient.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    milestones: tuple[float, ...] = (0.6, 0.8, 0.9)
    decay: float = 0.1
    weight_decay: float = 0.0


@dataclasses.dataclass(frozen=True)
class PruningSettings:
    """Gradual magnitude pruning.

    Attributes:
      sparsity: fraction of the prunable weights that end as zeros, in [0, 1).
      epochs: length of the pruning phase; the last pruning opens the epoch after it.
      frequency: prune every so many epochs.
      prunable: which weights: `all_but_first_and_last` (the paper: the first convolution and the
        last linear layer stay dense), `kernels` (all of them), or paths joined by commas.
    """

    sparsity: float = 0.95
    epochs: int = 15
    frequency: int = 1
    prunable: str = "all_but_first_and_last"


@dataclasses.dataclass(frozen=True)
class DualSettings:
    """How the multipliers move.

    Attributes:
      learning_rate: η_λ, step size of the gradient ascent. A group that misses its tolerance by
        one point gains .01 η_λ a step: the fewer the steps, the larger it must be.
      momentum, dampening: of the ascent direction, as in `lagrangian.dampened_momentum`.
      weight_limit: largest 1 + Σ|λ| in the weights' gradient, see `lagrangian.dual_primal`.
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    dampening: float = 0.0
    weight_limit: float = 20.0


@dataclasses.dataclass(frozen=True)
class ConstraintSettings:
    """What the players see.

    Attributes:
      buffer_size: k, samples of each group from which CEAG estimates its accuracy; 0: the batch.
      overall_accuracy: `population` or `group_mean` (the reference), see
        `constraints.excess_accuracy_gap`.
      overall_term: `full` (the paper), `detached` or `clipped`, see `lagrangian.lagrangian`.
      el_absolute: EL constrains |ℓ_g − ℓ| (the released code) instead of ℓ_g − ℓ (the paper).
      el_buffer_size: the same as `buffer_size`, for EL.
      el_bound: largest |λ| of EL.
    """

    buffer_size: int = 40
    overall_accuracy: str = "population"
    overall_term: str = "detached"
    el_absolute: bool = True
    el_buffer_size: int = 0
    el_bound: float = 1.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run of pruning and fine-tuning under a method.

    Attributes:
      method: `nft`, `el` or `ceag`.
      seed: of the order of samples, and of dropout.
      tolerance: ε, how much more than the overall accuracy a group's may drop; a fraction.
      finetune_epochs: epochs after the pruning phase.
      batch_size: samples of one step.
      optimizer, pruning, dual, constraint: see there.
    """

    method: str = "ceag"
    seed: int = 0
    tolerance: float = 0.01
    finetune_epochs: int = 45
    batch_size: int = 128
    optimizer: OptimizerSettings = OptimizerSettings()
    pruning: PruningSettings = PruningSettings()
    dual: DualSettings = DualSettings()
    constraint: ConstraintSettings = ConstraintSettings()

    @property
    def epochs(self) -> int:
        """All epochs, pruning and fine-tuning."""
        return self.pruning.epochs + self.finetune_epochs


def check_settings(settings: Settings, known_methods: tuple[str, ...]) -> None:
    """Finds a value that no run can have.

    Raises:
      UserError: a value that no run can have; the message says what was expected.
    """
    for section in ("optimizer", "pruning", "dual", "constraint"):
        expected = type(getattr(Settings, section))
        if not isinstance(getattr(settings, section), expected):
            raise UserError(f"{section} must be a {expected.__name__}(...).")
    pruning, constraint = settings.pruning, settings.constraint
    _one_of("method", settings.method, known_methods)
    _one_of("constraint.overall_accuracy", constraint.overall_accuracy, OVERALL)
    _one_of("constraint.overall_term", constraint.overall_term, OVERALL_TERMS)
    if not (_is_number(pruning.sparsity) and 0 <= pruning.sparsity < 1):
        raise UserError(
            "pruning.sparsity must lie in [0, 1), the fraction of weights removed; "
            f"got {pruning.sparsity}. For 95 % write 0.95."
        )
    check_number("tolerance", settings.tolerance, note=", a fraction: for one point write 0.01")
    for name in ("learning_rate", "momentum", "dampening"):
        check_number(f"dual.{name}", getattr(settings.dual, name))
    for name, value in (
        ("dual.weight_limit", settings.dual.weight_limit),
        ("constraint.el_bound", constraint.el_bound),
    ):
        if not (_is_number(value) and value > 0):
            raise UserError(f"{name} must be a number > 0; got {value}.")
    check_optimizer(settings.optimizer)
    check_integer("seed", settings.seed, 0)
    check_integer("batch_size", settings.batch_size, 1)
    check_integer("finetune_epochs", settings.finetune_epochs, 1)
    check_integer("pruning.epochs", pruning.epochs, 0)
    check_integer("pruning.frequency", pruning.frequency, 1)
    check_integer("constraint.buffer_size", constraint.buffer_size, 0)
    check_integer("constraint.el_buffer_size", constraint.el_buffer_size, 0)


def check_optimizer(optimizer: OptimizerSettings, prefix: str = "optimizer.") -> None:
    """Finds an optimiser that no run can have.

    Raises:
      UserError: a negative rate, or a milestone that is no fraction of the epochs.
    """
    for name in ("learning_rate", "momentum", "decay", "weight_decay"):
        check_number(f"{prefix}{name}", getattr(optimizer, name))
    for milestone in optimizer.milestones:
        if not 0 < milestone < 1:
            raise UserError(
                f"{prefix}milestones must be fractions in (0, 1) of all epochs; got {milestone}."
            )


def check_number(name: str, value: float, note: str = "") -> None:
    """Finds what is no number ≥ 0.

    Raises:
      UserError: `value` is negative or not finite.
    """
    if not (_is_number(value) and math.isfinite(value) and value >= 0):
        raise UserError(f"{name} must be a number ≥ 0{note}; got {value}.")


def check_integer(name: str, value: int, least: int) -> None:
    """Finds what is no whole number ≥ `least`.

    Raises:
      UserError: `value` is no whole number, or less than `least`.
    """
    if not (isinstance(value, numbers.Integral) and _is_number(value) and value >= least):
        raise UserError(f"{name} must be an integer ≥ {least}; got {value}.")


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _one_of(name, value, known):
    if value not in known:
        raise UserError(f"unknown {name} {value!r}; known: {', '.join(known)}.")
