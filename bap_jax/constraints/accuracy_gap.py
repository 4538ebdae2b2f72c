"""Constraints on accuracy gaps; the quantities are those of `gaps`.

    constrained excess accuracy gaps (CEAG, the paper's method)        ψ_g ≤ ε
    pairwise disparity                                                 −ε ≤ ψ_g ≤ ε
    worst-group floor                                                  A_g(θ_s) ≥ A_g(θ_d) − ε

Violations, gap − ε, come from correctness and proxies from losses (docs/method.md, equations (5)
to (7)).
"""

import jax.numpy as jnp

from bap_jax.constraints.base import Constraint, ConstraintValues, DenseReference
from bap_jax.constraints.gaps import gap_estimator
from bap_jax.constraints.observations import presence_of
from bap_jax.types import Array

LEAST_REACH = 0.02
"""That of an accuracy of 98 %: where nearly all or no samples are to be right, it is near 0."""


def excess_accuracy_gap(
    reference: DenseReference, tolerance: Array | float, **options
) -> Constraint:
    """ψ_g ≤ ε: no group's accuracy drops by more than ε beyond the overall drop.

    Args:
      reference: the dense model on the training split; its arrays give the number of groups.
      tolerance: ε ≥ 0, a fraction.
      **options: `buffer_size`, `estimator`, `overall_accuracy`, `proxy` of `gaps.gap_estimator`.

    Returns:
      One inequality per group.
    """
    return _gap_constraint(reference, tolerance, options, relative=True, signs=(1,))


def pairwise_disparity(
    reference: DenseReference, tolerance: Array | float, **options
) -> Constraint:
    """|ψ_g| ≤ ε, hence max_g ψ_g − min_g ψ_g ≤ 2ε; arguments as in `excess_accuracy_gap`.

    The lower side raises the loss of groups that lose least, without end: bound its multipliers by
    the groups' frequencies.

    Returns:
      Two inequalities per group: first the upper ones of all groups, then the lower ones.
    """
    constraint = _gap_constraint(reference, tolerance, options, relative=True, signs=(1, -1))
    return constraint._replace(
        names=lambda groups: [*groups, *(f"lower side of {name}" for name in groups)]
    )


def worst_group_floor(reference: DenseReference, tolerance: Array | float, **options) -> Constraint:
    """A_g(θ_s) ≥ A_g(θ_d) − ε: no group loses more than ε; arguments as in `excess_accuracy_gap`.

    Returns:
      One inequality per group.
    """
    return _gap_constraint(reference, tolerance, options, relative=False, signs=(1,))


def _gap_constraint(reference, tolerance, options, *, relative, signs):
    """sign · gap ≤ ε for every sign, where the gap is ψ_g if `relative`, else Δ_g."""
    num_groups = reference.group_accuracy.shape[0]
    class_overlap = jnp.broadcast_to(reference.class_overlap, (num_groups,))
    estimator = gap_estimator(reference, **options)

    def sided(gap):
        return jnp.concatenate([sign * gap for sign in signs])

    def evaluate(state, observations):
        gaps, state = estimator.update(state, observations)
        gap, proxy, variance = gaps.group, gaps.group_proxy, gaps.group_variance
        overall = jnp.zeros((num_groups,))
        if relative:
            gap, proxy, variance = gaps.excess, gaps.excess_proxy, gaps.excess_variance
            overall = jnp.broadcast_to(gaps.overall, (num_groups,))
        met = reference.group_accuracy - gaps.group + gap  # the accuracy at which the gap is 0
        return ConstraintValues(
            violation=sided(gap) - tolerance,
            proxy=sided(proxy),
            violation_mask=jnp.tile(gaps.observed, len(signs)),
            proxy_mask=jnp.tile(gaps.present, len(signs)),
            overall=sided(overall),
            tolerance=tolerance,
            deviation=jnp.tile(jnp.sqrt(variance), len(signs)),
            unit=jnp.tile(reference.frequency, len(signs)),
            reach=_reach(jnp.tile(met, len(signs)) - sided(jnp.ones(num_groups)) * tolerance),
            directness=jnp.tile(class_overlap, len(signs)),
            presence=jnp.tile(presence_of(observations, reference.frequency), len(signs)),
            accuracy=gaps.accuracy,
            accuracy_deviation=gaps.accuracy_deviation,
        ), state

    return Constraint(num_groups * len(signs), estimator.init, evaluate)


def _reach(accuracy):
    """How much an accuracy rises where its logit rises by 1; at least `LEAST_REACH`."""
    accuracy = jnp.clip(accuracy, 0, 1)
    return jnp.maximum(accuracy * (1 - accuracy), LEAST_REACH)
