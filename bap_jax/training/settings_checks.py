"""Checks of settings, before anything is traced."""

import dataclasses
import math
import numbers

from bap_jax.constraints.estimators import OVERALL, check_estimator
from bap_jax.constraints.gaps import PROXIES
from bap_jax.errors import UserError
from bap_jax.lagrangian import OVERALL_TERMS, SCHEMES
from bap_jax.models.precision import PRECISIONS
from bap_jax.pruning.counting import check_counting
from bap_jax.training.dual_rules import DUAL_RULES, rules_that_read
from bap_jax.training.method_contract import MethodSpec
from bap_jax.training.methods import METHODS, find_method, method_name
from bap_jax.training.optimizer_registry import find_optimizer, is_transformation
from bap_jax.training.pruner_settings import check_known, check_pruning
from bap_jax.training.schedules import find_schedule
from bap_jax.training.settings import SELECTIONS, DualSettings, OptimizerSettings, Settings
from bap_jax.training.values import changed_fields

_OF_ASCENT = ("learning_rate", "momentum", "dampening")


def check_sections(settings: Settings) -> None:
    """Raises an error for settings, or sections of them, that are of another type.

    Raises:
      UserError: names the section, and what it must be.
    """
    if not isinstance(settings, Settings):
        raise UserError(f"settings must be a Settings(...); got {settings!r}.")
    for section in ("optimizer", "pruning", "dual", "constraint", "baseline"):
        expected = type(getattr(Settings, section))
        value = getattr(settings, section)
        if not isinstance(value, expected):
            raise UserError(f"{section} must be a {expected.__name__}(...); got {value!r}.")


def check_settings(settings: Settings) -> None:
    """Raises an error for settings that no run can have.

    Raises:
      UserError: a value is out of range or unknown, or two do not go together; the message says
        what was expected.
    """
    check_sections(settings)
    method = find_method(settings.method)
    check_known("scheme", settings.scheme, tuple(SCHEMES))
    check_number("tolerance", settings.tolerance, note=", a fraction: for one point write 0.01")
    check_integer("seed", settings.seed, 0)
    if settings.seed >= 2**32:
        raise UserError(f"seed must be less than 2**32; got {settings.seed}.")
    check_integer("batch_size", settings.batch_size, 1)
    check_known("precision", settings.precision, PRECISIONS)
    check_known("selection", settings.selection, SELECTIONS)
    check_integer("finetune_epochs", settings.finetune_epochs, 1)
    check_optimizer(settings.optimizer)
    _check_pruning(settings.pruning)
    _check_dual(settings.dual)
    _check_constraint(settings.constraint)
    _check_baseline(settings.baseline)
    _check_combination(settings, method)


def _check_combination(settings: Settings, method: MethodSpec) -> None:
    name = method_name(settings.method)
    hides_sign = settings.constraint.el_absolute and (
        "constraint.el_absolute" in method.own_settings
    )
    if settings.dual.rule == "auto" and hides_sign:
        raise UserError(
            "dual.rule 'auto' has to know on which side of the overall loss a group is, and "
            "constraint.el_absolute=True hides it. Leave it out, or write dual.rule='ascent' too."
        )
    if not (SCHEMES[settings.scheme].has_multipliers or method.supports_switching):
        suited = ", ".join(known for known, spec in METHODS.items() if spec.supports_switching)
        raise UserError(
            f"scheme {settings.scheme!r} has no multipliers and steps on one violated constraint "
            f"at a time, which does not suit method {name!r}; methods it suits: {suited}. If it "
            "suits yours, say so: register_method(name, build, supports_switching=True)."
        )
    if settings.dual.rule == "augmented" and not method.supports_augmented:
        raise UserError(
            f"dual.rule 'augmented' weighs a constraint beyond its multiplier, so the bound that "
            f"method {name!r} needs would not hold; write dual.rule='ascent'."
        )


def _check_pruning(pruning):
    if not (_is_number(pruning.sparsity) and 0 <= pruning.sparsity < 1):
        raise UserError(
            "pruning.sparsity must lie in [0, 1), the fraction of weights removed; "
            f"got {pruning.sparsity!r}. For 95 % write 0.95."
        )
    check_integer("pruning.epochs", pruning.epochs, 0)
    check_integer("pruning.frequency", pruning.frequency, 1)
    check_counting(pruning.counting)
    check_pruning(pruning)


def _check_dual(dual):
    check_known("dual.rule", dual.rule, DUAL_RULES)
    for name in ("learning_rate", "momentum", "dampening", "start", "restart_confidence"):
        check_number(f"dual.{name}", getattr(dual, name))
    for name in ("proportional", "integral"):
        check_number(f"dual.{name}", getattr(dual, name))
    for name in ("weight_limit", "bound", "penalty", "largest_penalty"):
        _check_positive(f"dual.{name}", getattr(dual, name))
    if not (_is_number(dual.nu) and -1 < dual.nu < 1):
        raise UserError(f"dual.nu must lie in (−1, 1); got {dual.nu}.")
    _check_dual_optimizer(dual)
    if not (_is_number(dual.penalty_growth) and dual.penalty_growth >= 1):
        raise UserError(f"dual.penalty_growth must be a factor ≥ 1; got {dual.penalty_growth}.")
    if dual.rule == "auto":
        _check_unused_by_auto(dual)


def _check_constraint(constraint):
    check_known("constraint.overall_accuracy", constraint.overall_accuracy, OVERALL)
    check_known("constraint.overall_term", constraint.overall_term, OVERALL_TERMS)
    check_known("constraint.proxy", constraint.proxy, PROXIES)
    check_integer("constraint.first_epoch", constraint.first_epoch, -1)
    check_integer("constraint.min_group_size", constraint.min_group_size, 1)
    check_integer("constraint.buffer_size", constraint.buffer_size, 0)
    check_integer("constraint.el_buffer_size", constraint.el_buffer_size, 0)
    if constraint.estimator != "auto":
        check_estimator(constraint.estimator, constraint.buffer_size)
    check_number("constraint.kl_limit", constraint.kl_limit)
    _check_positive("constraint.el_bound", constraint.el_bound)


def _check_baseline(baseline):
    check_number("baseline.dro_adjustment", baseline.dro_adjustment)
    check_number("baseline.performance_gamma", baseline.performance_gamma)
    for name in ("class_balanced_beta", "performance_floor"):
        value = getattr(baseline, name)
        if not (_is_number(value) and 0 <= value < 1):
            raise UserError(f"baseline.{name} must lie in [0, 1); got {value}.")


def _check_positive(name, value):
    if not (_is_number(value) and value > 0):
        raise UserError(f"{name} must be a number > 0; got {value}.")


def check_optimizer(optimizer: OptimizerSettings, prefix: str = "optimizer.") -> None:
    """Raises an error for an optimiser that no run can have.

    Raises:
      UserError: an optimiser or schedule is unknown, a rate is out of range, a milestone is not a
        fraction of the epochs, or an optax transformation comes with settings that it ignores.
    """
    find_optimizer(optimizer.name)
    find_schedule(optimizer.schedule)
    for name in ("learning_rate", "momentum", "decay", "weight_decay"):
        check_number(f"{prefix}{name}", getattr(optimizer, name))
    for milestone in optimizer.milestones:
        if not 0 < milestone < 1:
            raise UserError(
                f"{prefix}milestones must be fractions in (0, 1) of all epochs; got {milestone}."
            )
    _check_positive(f"{prefix}clip_norm", optimizer.clip_norm)
    for name in ("warmup", "beta1", "beta2"):
        value = getattr(optimizer, name)
        if not (_is_number(value) and 0 <= value < 1):
            what = ", a fraction of all steps" if name == "warmup" else ""
            raise UserError(f"{prefix}{name} must lie in [0, 1){what}; got {value}.")
    if is_transformation(optimizer.name):
        _check_ignored(optimizer, dataclasses.replace(OptimizerSettings(), name=optimizer.name))


def _check_dual_optimizer(dual):
    find_optimizer(dual.optimizer)
    if dual.optimizer != DualSettings.optimizer and dual.rule != "ascent":
        raise UserError(
            f"dual.optimizer is of dual.rule='ascent'; {dual.rule!r} moves the multipliers by "
            "itself. Leave it out, or write dual.rule='ascent' too."
        )
    if is_transformation(dual.optimizer):
        own = {name: getattr(DualSettings(), name) for name in _OF_ASCENT}
        _check_ignored(dual, dataclasses.replace(dual, **own), "dual.")


# Experiments bring the rate of plain ascent, an optimiser has an error of its own, and the method
# `penalty` reads its constant by any rule.
_NOT_CHECKED = ("learning_rate", "optimizer", "penalty")


def _check_unused_by_auto(dual):
    plain = DualSettings()
    names = [field.name for field in dataclasses.fields(DualSettings)]
    unread = [n for n in names if "auto" not in rules_that_read(n) and n not in _NOT_CHECKED]
    unused = dataclasses.replace(plain, **{name: getattr(dual, name) for name in unread})
    changed = [f"dual.{name}={pair[0]!r}" for name, pair in changed_fields(unused, plain).items()]
    if changed:
        raise UserError(
            f"dual.rule='auto' sets the speed of multipliers itself, so {', '.join(changed)} would "
            "have no effect. Leave this out, or choose the rule that reads it: dual.rule='ascent', "
            "'nu_pi' or 'augmented'."
        )


def _check_ignored(given, expected, prefix="optimizer."):
    changed = [
        f"{prefix}{name}={pair[0]!r}" for name, pair in changed_fields(given, expected).items()
    ]
    if changed:
        raise UserError(
            f"an optax transformation brings its own step size, schedule and decay, so "
            f"{', '.join(changed)} would have no effect. Leave this out, or pass a function "
            "(learning_rate, settings) -> transformation."
        )


def check_number(name: str, value: float, note: str = "") -> None:
    """Raises an error unless `value` is a number ≥ 0.

    Raises:
      UserError: `value` is negative, not finite or not a number.
    """
    if not (_is_number(value) and math.isfinite(value) and value >= 0):
        raise UserError(f"{name} must be a number ≥ 0{note}; got {value}.")


def check_integer(name: str, value: int, least: int) -> None:
    """Raises an error unless `value` is a whole number ≥ `least`.

    Raises:
      UserError: `value` is not a whole number, or less than `least`.
    """
    if not (isinstance(value, numbers.Integral) and _is_number(value) and value >= least):
        raise UserError(f"{name} must be an integer ≥ {least}; got {value}.")


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
