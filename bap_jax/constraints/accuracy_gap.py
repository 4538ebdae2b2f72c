"""Constrained excess accuracy gaps (CEAG): ψ_g ≤ ε for every group g.

    Δ_g = A_g(θ_d) − A_g(θ_s)      group gap
    Δ   = A(θ_d) − A(θ_s)          overall gap
    ψ_g = Δ_g − Δ                  excess gap

The violation is ψ̂_g − ε from 0/1 correctness, estimated by the replay buffer. The proxy is
ψ̃_g = (ℓ_g(θ_s) − ℓ_g(θ_d)) − (ℓ(θ_s) − ℓ(θ_d)) on the batch. Paper equations 3, 6 and 7.
"""

import math

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.base import Constraint, ConstraintValues, DenseReference, Observations
from bap_jax.constraints.estimators import group_estimator, overall_mean
from bap_jax.types import Array


def excess_accuracy_gap(
    reference: DenseReference,
    tolerance: Array | float,
    *,
    buffer_size: int = 40,
    overall_accuracy: str = "population",
) -> Constraint:
    """The constraint ψ_g ≤ ε for every group.

    Args:
      reference: the dense model on the training part; its arrays give the number of groups.
      tolerance: ε ≥ 0, a fraction.
      buffer_size: k, samples of each group that its accuracy is estimated from; 0 takes the batch.
      overall_accuracy: how the buffer's overall accuracy is formed. `population` weighs groups by
        their training frequencies and compares with the dense accuracy of the same groups;
        `group_mean` is the reference's plain mean over groups against the mean over samples.

    Returns:
      One inequality a group.
    """
    num_groups = reference.group_accuracy.shape[0]
    estimator = group_estimator(num_groups, buffer_size, dtype=bool)

    def violation(estimate, observations):
        dense = reference.accuracy
        if buffer_size == 0:
            sparse = metrics.weighted_mean(observations.correct, observations.weight)
        else:
            args = (estimate.observed, reference.frequency, overall_accuracy)
            sparse = overall_mean(estimate.mean, *args)
            if overall_accuracy == "population":
                dense = overall_mean(reference.group_accuracy, *args)
        return (reference.group_accuracy - estimate.mean) - (dense - sparse) - tolerance

    def evaluate(state, observations: Observations):
        estimate, state = estimator.update(state, observations.correct, observations)
        sums = metrics.group_sums(
            observations.loss, observations.group_ids, observations.weight, num_groups
        )
        loss = metrics.weighted_mean(observations.loss, observations.weight)
        values = ConstraintValues(
            violation=violation(estimate, observations),
            proxy=(metrics.group_means(sums) - reference.group_loss) - (loss - reference.loss),
            violation_mask=estimate.observed,
            proxy_mask=sums.count > 0,
            overall=jnp.broadcast_to(loss, (num_groups,)),
        )
        return values, state

    return Constraint(num_groups, False, math.inf, estimator.init, evaluate)
