"""Distillation by group: no group's predictions move far from the dense model's.

    KL_g = mean over g of KL(p_dense ‖ p_sparse) ≤ δ

If pruning does not change the predictions, it does not change the accuracies either. A divergence
has a gradient, so it is its own proxy; the multipliers see its mean over the buffer.
"""

from bap_jax import metrics
from bap_jax.constraints.base import (
    Constraint,
    ConstraintValues,
    DenseReference,
)
from bap_jax.constraints.estimators import mean_estimator
from bap_jax.constraints.observations import Observations, divergence_of, presence_of
from bap_jax.types import Array


def group_distillation(
    reference: DenseReference, limit: Array | float, *, buffer_size: int = 40
) -> Constraint:
    """KL_g ≤ `limit` for every group; needs the dense model's logits.

    Args:
      reference: gives the number of groups.
      limit: δ ≥ 0, nats.
      buffer_size: k; the multipliers see the mean over each group's last k samples. With 0 they see
        the mean over the batch.

    Returns:
      One inequality per group.
    """
    num_groups = reference.frequency.shape[0]
    estimator = mean_estimator(num_groups, buffer_size, divergence_of)

    def evaluate(state, observations: Observations):
        estimate, state = estimator.update(state, observations)
        sums = metrics.group_sums(
            divergence_of(observations), observations.group_ids, observations.weight, num_groups
        )
        values = ConstraintValues(
            violation=estimate.mean - limit,
            proxy=metrics.group_means(sums),
            violation_mask=estimate.observed,
            proxy_mask=sums.count > 0,
            tolerance=limit,
            unit=reference.frequency,
            reach=estimate.mean + limit,
            directness=reference.class_overlap,
            presence=presence_of(observations, reference.frequency),
        )
        return values, state

    return Constraint(num_groups, estimator.init, evaluate)
