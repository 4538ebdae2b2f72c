"""Methods by name: objective, constraint and formulation of the fine-tuning.

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
from typing import NamedTuple

import jax.numpy as jnp

from bap_jax import constraints, lagrangian
from bap_jax.constraints import Constraint, DenseReference
from bap_jax.constraints.objectives import Objective, mean_loss
from bap_jax.lagrangian import Formulation
from bap_jax.training.optimizers import dual_formulation
from bap_jax.training.settings import Settings
from bap_jax.types import Array, UserError


class Method(NamedTuple):
    """What is minimised, under what, and how.

    Attributes:
      constraint: what must hold.
      formulation: how its multipliers move.
      objective: what is minimised.
      group_weights: `(frequency, multipliers) -> (group,)` weight of each group's loss in the
        weights' gradient; None where the gradient is not linear in the groups' losses.
      needs_dense_logits: whether `Dataset.dense_logits` is read.
      is_constrained: whether violations are meant to end at or below 0.
      watches_all: whether groups under `min_group_size` are watched, too.
    """

    constraint: Constraint
    formulation: Formulation
    objective: Objective = mean_loss
    group_weights: Callable[[Array, Array], Array] | None = None
    needs_dense_logits: bool = False
    is_constrained: bool = False
    watches_all: bool = False


def _formulation(settings: Settings, bound=float("inf")):
    return dual_formulation(settings.dual, settings.constraint.overall_term, bound)


def _gap_options(settings: Settings):
    chosen = settings.constraint
    return {
        "buffer_size": chosen.buffer_size,
        "estimator": chosen.estimator,
        "overall_accuracy": chosen.overall_accuracy,
        "proxy": chosen.proxy,
    }


def _reads_dense_logits(settings: Settings) -> bool:
    return settings.constraint.proxy == "kl" or settings.constraint.estimator != "plain"


def _gap_method(make, group_weights, bound=lambda reference: float("inf")):
    """A method that constrains accuracy gaps."""

    def build(reference: DenseReference, settings: Settings) -> Method:
        chosen = settings.constraint
        constraint = make(reference, settings.tolerance, **_gap_options(settings))
        linear = chosen.proxy == "loss" and settings.dual.rule != "augmented"

        def weights(frequency, multipliers):
            return group_weights(frequency, multipliers, chosen.overall_term)

        return Method(
            constraint,
            _formulation(settings, bound(reference)),
            group_weights=weights if linear else None,
            needs_dense_logits=_reads_dense_logits(settings),
            is_constrained=True,
        )

    return build


def _two_sided_bound(reference):
    """λ of the lower side ≤ w_g: a group that fares well may be left alone, but its loss is not
    driven up, which has no end."""
    return jnp.concatenate([jnp.full_like(reference.frequency, jnp.inf), reference.frequency])


def _two_sided_weights(frequency, multipliers, overall_term):
    upper, lower = multipliers.reshape(2, -1)
    kept = (upper - lower).sum()
    kept = kept * (1 - lagrangian.detached_share(multipliers.sum(), overall_term))
    return frequency * (1 - kept) + upper - lower


def _el(reference, settings):
    chosen = settings.constraint
    constraint = constraints.equalized_loss(
        reference,
        absolute=chosen.el_absolute,
        buffer_size=chosen.el_buffer_size,
        overall_loss=chosen.overall_accuracy,
    )

    def weights(frequency, multipliers):
        return lagrangian.group_weights(frequency, multipliers, "full")

    linear = not chosen.el_absolute and settings.dual.rule != "augmented"
    formulation = _formulation(settings, chosen.el_bound)
    return Method(constraint, formulation, group_weights=weights if linear else None)


def _distillation(reference, settings):
    chosen = settings.constraint
    constraint = constraints.group_distillation(
        reference, chosen.kl_limit, buffer_size=chosen.buffer_size
    )
    formulation = _formulation(settings)
    return Method(constraint, formulation, needs_dense_logits=True, is_constrained=True)


def _penalty(reference, settings):
    constraint = constraints.excess_accuracy_gap(
        reference, settings.tolerance, **_gap_options(settings)
    )
    formulation = lagrangian.quadratic_penalty(
        settings.dual.penalty, overall_term=settings.constraint.overall_term
    )
    return Method(constraint, formulation, needs_dense_logits=_reads_dense_logits(settings))


def _group_dro(excess):
    def build(reference, settings):
        constraint = constraints.group_risk(
            reference, adjustment=settings.baseline.dro_adjustment, excess=excess
        )
        formulation = lagrangian.exponentiated_gradient(settings.dual.learning_rate)
        # A group that the adversary does not watch would not be learned from at all.
        return Method(
            constraint, formulation, group_weights=lambda frequency, q: q, watches_all=True
        )

    return build


def _without_constraint(objective, settings, **others):
    return Method(constraints.unconstrained(), _formulation(settings), objective, **others)


def _reweighted(form):
    def build(reference, settings):
        beta = settings.baseline.class_balanced_beta
        objective = constraints.reweighted_loss(reference, form, beta)
        return _without_constraint(objective, settings)

    return build


def _performance_weighted(reference, settings):
    chosen = settings.baseline
    objective = constraints.performance_weighted_loss(
        chosen.performance_floor, chosen.performance_gamma
    )
    return _without_constraint(objective, settings, needs_dense_logits=True)


METHODS = {
    "nft": lambda reference, settings: _without_constraint(mean_loss, settings),
    "el": _el,
    "ceag": _gap_method(constraints.excess_accuracy_gap, lagrangian.group_weights),
    "pairwise": _gap_method(constraints.pairwise_disparity, _two_sided_weights, _two_sided_bound),
    "floor": _gap_method(constraints.worst_group_floor, lambda w, m, term: w + m),
    "distillation": _distillation,
    "group_dro": _group_dro(excess=False),
    "group_dro_excess": _group_dro(excess=True),
    "reweighted": _reweighted("inverse"),
    "reweighted_sqrt": _reweighted("inverse_sqrt"),
    "class_balanced": _reweighted("class_balanced"),
    "penalty": _penalty,
    "performance_weighted": _performance_weighted,
}


def build_method(reference: DenseReference, settings: Settings) -> Method:
    """The method of `settings.method`, watching groups of at least `min_group_size` samples.

    Raises:
      UserError: the reference has no group sizes.
    """
    method = METHODS[settings.method](reference, settings)
    if method.watches_all:
        return method
    if jnp.ndim(reference.count) == 0:
        raise UserError(
            "DenseReference.count must hold the training samples of each group, (group,); got a "
            "single number. training.dense_reference fills it in."
        )
    large = reference.count >= settings.constraint.min_group_size
    sides = method.constraint.size // large.size
    return method._replace(
        constraint=constraints.restrict(method.constraint, jnp.tile(large, sides))
    )
