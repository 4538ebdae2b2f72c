"""Equalized loss (EL), the paper's baseline: ℓ_g − ℓ = 0 for every group g (paper section 5.1).

The reference's released setting constrains |ℓ_g − ℓ| instead, whose multiplier can only grow: bound
it. Equal losses are reached from both sides, so EL also raises the loss of groups that do well;
that is its definition, and `overall_term` does not change it. `detach_overall` is the reference's
switch that gives no gradient through ℓ: each constraint then moves the loss of its own group alone.
See docs/method.md, equation (33).
"""

import jax
import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.base import Constraint, ConstraintValues, DenseReference
from bap_jax.constraints.estimators import (
    check_overall,
    mean_estimator,
    overall_mean,
    overall_shares,
)
from bap_jax.constraints.observations import Observations, presence_of

LEAST_REACH = 1e-3
"""Nats: where the overall loss is smaller, differences from it do not matter."""


def equalized_loss(
    reference: DenseReference,
    *,
    absolute: bool = False,
    buffer_size: int = 0,
    fading: bool = False,
    overall_loss: str = "population",
    detach_overall: bool = False,
) -> Constraint:
    """Constrains ℓ_g = ℓ for every group.

    Args:
      reference: only its group frequencies are used.
      absolute: constrain |ℓ_g − ℓ| as the released code does, instead of ℓ_g − ℓ as the paper does.
      buffer_size: k; the multipliers see the mean of each group's last k losses. With 0 they see
        the mean over the batch.
      fading: let old losses fade instead of buffering the last k; see `fading_mean`.
      overall_loss: how the buffer's overall loss is formed, `population` or `group_mean`; see
        `estimators.overall_shares`.
      detach_overall: give the weights no gradient through ℓ, only through ℓ_g. This changes no
        value.

    Returns:
      One equality per group.

    Raises:
      UserError: `overall_loss` is unknown.
    """
    check_overall(overall_loss)
    num_groups = reference.frequency.shape[0]
    estimator = mean_estimator(num_groups, buffer_size, fading=fading)
    magnitude = jnp.abs if absolute else lambda x: x

    def evaluate(state, observations: Observations):
        estimate, state = estimator.update(state, observations)
        sums = metrics.group_sums(
            observations.loss, observations.group_ids, observations.weight, num_groups
        )
        batch_loss = metrics.weighted_mean(observations.loss, observations.weight)
        overall = batch_loss
        if buffer_size:
            shares = overall_shares(estimate.observed, reference.frequency, overall_loss)
            overall = overall_mean(estimate.mean, shares)
        target = jax.lax.stop_gradient(batch_loss) if detach_overall else batch_loss
        values = ConstraintValues(
            violation=magnitude(estimate.mean - overall),
            proxy=magnitude(metrics.group_means(sums) - target),
            violation_mask=estimate.observed,
            proxy_mask=sums.count > 0,
            equality=True,
            unit=reference.frequency,
            reach=jnp.maximum(jnp.abs(overall), LEAST_REACH),
            directness=reference.class_overlap,
            presence=presence_of(observations, reference.frequency),
        )
        return values, state

    return Constraint(num_groups, estimator.init, evaluate)
