"""The built-in methods: objective, constraint and formulation of each.

nft                    mean loss, no constraint
el                     equalized loss, the paper's baseline
ceag                   constrained excess accuracy gaps, the paper's method
pairwise               excess gaps bounded on both sides
floor                  no group's accuracy falls by more than ε
distillation           no group's predictions move far from the dense model's
group_dro(_excess)     the worst group's loss (less the dense model's)
reweighted(_sqrt), class_balanced    samples weighted by their group's size
penalty                quadratic penalty on CEAG's proxies, no multipliers
performance_weighted   samples weighted by how unsure the dense model is
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from bap_jax import constraints, lagrangian
from bap_jax.constraints import Constraint, DenseReference
from bap_jax.constraints.estimators import READ_DENSE_LOGITS
from bap_jax.constraints.objectives import Objective
from bap_jax.training.method_contract import Method, MethodBuilder, MethodSpec
from bap_jax.training.optimizers import formulation_from_settings
from bap_jax.training.settings import Settings
from bap_jax.types import Array


def _gap_options(settings: Settings) -> dict[str, Any]:
    constraint = settings.constraint
    return {
        "buffer_size": constraint.buffer_size,
        "estimator": estimator_of(settings),
        "overall_accuracy": constraint.overall_accuracy,
        "proxy": constraint.proxy,
    }


def estimator_of(settings: Settings) -> str:
    """What estimates the groups' accuracies: `constraint.estimator`, with `auto` decided."""
    constraint = settings.constraint
    if constraint.estimator != "auto":
        return constraint.estimator
    adaptive = settings.dual.rule == "auto" and constraint.buffer_size > 0
    return "adaptive" if adaptive else "plain"


def _reads_dense_logits(settings: Settings) -> bool:
    return settings.constraint.proxy == "kl" or estimator_of(settings) in READ_DENSE_LOGITS


def _no_bound(reference: DenseReference) -> Array | float:
    del reference
    return float("inf")


def _gap_method(
    make_constraint: Callable[..., Constraint],
    group_weights: Callable[[Array, Array, str], Array],
    bound: Callable[[DenseReference], Array | float] = _no_bound,
) -> MethodBuilder:
    """A method that constrains accuracy gaps."""

    def build(reference: DenseReference, settings: Settings, /) -> Method:
        constraint = make_constraint(reference, settings.tolerance, **_gap_options(settings))
        linear = settings.constraint.proxy == "loss" and settings.dual.rule != "augmented"

        def weights(frequency: Array, multipliers: Array) -> Array:
            return group_weights(frequency, multipliers, settings.constraint.overall_term)

        return Method(
            constraint,
            formulation_from_settings(settings, bound(reference), named_units=True),
            group_weights=weights if linear else None,
            needs_dense_logits=_reads_dense_logits(settings),
            is_constrained=True,
        )

    return build


def _two_sided_bound(reference: DenseReference) -> Array:
    """λ of the lower side ≤ w_g: a group that does well may be left alone, but its loss is not
    driven up, which has no end."""
    frequency = jnp.asarray(reference.frequency)
    return jnp.concatenate([jnp.full_like(frequency, jnp.inf), frequency])


def _two_sided_weights(frequency: Array, multipliers: Array, overall_term: str) -> Array:
    upper, lower = multipliers.reshape(2, -1)
    kept = (upper - lower).sum()
    kept = kept * (1 - lagrangian.detached_share(multipliers.sum(), overall_term))
    return frequency * (1 - kept) + upper - lower


def _own_weights(frequency: Array, multipliers: Array, overall_term: str) -> Array:
    del overall_term
    return frequency + multipliers


def _fine_tuning(reference: DenseReference, settings: Settings, /) -> Method:
    del reference
    return Method(constraints.unconstrained(), formulation_from_settings(settings))


def _equalized_loss(reference: DenseReference, settings: Settings, /) -> Method:
    options, is_auto = settings.constraint, settings.dual.rule == "auto"
    constraint = constraints.equalized_loss(
        reference,
        absolute=options.el_absolute,
        buffer_size=options.el_buffer_size or (options.buffer_size if is_auto else 0),
        fading=is_auto,
        overall_loss=options.overall_accuracy,
        detach_overall=is_auto,
    )

    def weights(frequency: Array, multipliers: Array) -> Array:
        return lagrangian.group_weights(frequency, multipliers, "detached" if is_auto else "full")

    linear = not options.el_absolute and settings.dual.rule != "augmented"
    formulation = formulation_from_settings(settings, options.el_bound, named_units=True)
    return Method(
        constraint, formulation, group_weights=weights if linear else None, has_multipliers=True
    )


def _distillation(reference: DenseReference, settings: Settings, /) -> Method:
    options = settings.constraint
    constraint = constraints.group_distillation(
        reference, options.kl_limit, buffer_size=options.buffer_size
    )
    formulation = formulation_from_settings(settings, named_units=True)
    return Method(constraint, formulation, needs_dense_logits=True, is_constrained=True)


def _penalty(reference: DenseReference, settings: Settings, /) -> Method:
    constraint = constraints.excess_accuracy_gap(
        reference, settings.tolerance, **_gap_options(settings)
    )
    formulation = lagrangian.quadratic_penalty(
        settings.dual.penalty, overall_term=settings.constraint.overall_term
    )
    return Method(constraint, formulation, needs_dense_logits=_reads_dense_logits(settings))


def _group_dro(excess: bool) -> MethodBuilder:
    def build(reference: DenseReference, settings: Settings, /) -> Method:
        constraint = constraints.group_risk(
            reference, adjustment=settings.baseline.dro_adjustment, excess=excess
        )
        formulation = lagrangian.exponentiated_gradient(settings.dual.learning_rate)
        # A group that the adversary does not watch would not be learned from at all.
        return Method(constraint, formulation, group_weights=_adversary_weights, watches_all=True)

    return build


def _adversary_weights(frequency: Array, multipliers: Array) -> Array:
    del frequency
    return multipliers


def _without_constraint(objective: Objective, settings: Settings) -> Method:
    return Method(constraints.unconstrained(), formulation_from_settings(settings), objective)


def _reweighted(form: str) -> MethodBuilder:
    def build(reference: DenseReference, settings: Settings, /) -> Method:
        beta = settings.baseline.class_balanced_beta
        return _without_constraint(constraints.reweighted_loss(reference, form, beta), settings)

    return build


def _performance_weighted(reference: DenseReference, settings: Settings, /) -> Method:
    del reference
    objective = constraints.performance_weighted_loss(
        settings.baseline.performance_floor, settings.baseline.performance_gamma
    )
    return _without_constraint(objective, settings)._replace(needs_dense_logits=True)


BUILT_IN: dict[str, MethodSpec] = {
    "nft": MethodSpec(
        _fine_tuning, supports_switching=True, description="naive fine-tuning: the mean loss alone"
    ),
    "el": MethodSpec(
        _equalized_loss,
        supports_augmented=False,  # the bound on its multipliers would not hold
        description="every group's loss equals the overall loss",
        follows_rule=True,
        own_settings=("constraint.el_absolute",),
    ),
    "ceag": MethodSpec(
        _gap_method(constraints.excess_accuracy_gap, lagrangian.group_weights),
        supports_switching=True,
        description="no group's accuracy falls by more than ε beyond the overall fall",
        follows_rule=True,
    ),
    "pairwise": MethodSpec(
        _gap_method(constraints.pairwise_disparity, _two_sided_weights, _two_sided_bound),
        supports_augmented=False,  # the bound on its multipliers would not hold
        description="excess accuracy gaps bounded on both sides",
        follows_rule=True,
    ),
    "floor": MethodSpec(
        _gap_method(constraints.worst_group_floor, _own_weights),
        supports_switching=True,
        description="no group's accuracy falls by more than ε",
        follows_rule=True,
    ),
    "distillation": MethodSpec(
        _distillation,
        supports_switching=True,
        description="no group's predictions move far from the dense model's",
        follows_rule=True,
    ),
    "group_dro": MethodSpec(_group_dro(excess=False), description="the worst group's loss"),
    "group_dro_excess": MethodSpec(
        _group_dro(excess=True), description="the worst group's loss, less the dense model's"
    ),
    "reweighted": MethodSpec(
        _reweighted("inverse"), description="samples weighted by 1 / the size of their group"
    ),
    "reweighted_sqrt": MethodSpec(
        _reweighted("inverse_sqrt"),
        description="samples weighted by 1 / √ of the size of their group",
    ),
    "class_balanced": MethodSpec(
        _reweighted("class_balanced"),
        description="samples weighted by the effective size of their group",
    ),
    "penalty": MethodSpec(
        _penalty, description="a quadratic penalty on excess accuracy gaps, no multipliers"
    ),
    "performance_weighted": MethodSpec(
        _performance_weighted,
        description="samples weighted by how unsure the dense model is of them",
    ),
}
