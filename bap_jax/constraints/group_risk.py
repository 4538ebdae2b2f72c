"""Group losses for group DRO (Sagawa et al. 2020, arXiv 1911.08731).

    v_g = ℓ_g + C / √n_g              plain
    v_g = ℓ_g − ℓ_g(θ_d)              on excess loss

This is not a constraint by itself: together with `lagrangian.exponentiated_gradient`, whose
multipliers lie on the simplex, it gives the objective ℓ + Σ q_g (ℓ_g − ℓ) = Σ q_g ℓ_g
(docs/method.md, equation (26)).
"""

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.base import Constraint, ConstraintValues, DenseReference
from bap_jax.constraints.observations import Observations
from bap_jax.types import Array


def group_risk(
    reference: DenseReference, *, adjustment: Array | float = 0.0, excess: bool = False
) -> Constraint:
    """The batch's group losses for the multipliers, ℓ_g − ℓ for the weights.

    Args:
      reference: the dense model's group losses, and group sizes.
      adjustment: C, which raises the risk of each group by C / √n_g, of small ones most.
      excess: subtract the dense model's loss on the group.

    Returns:
      One value per group; it is never meant to end at or below 0.
    """
    num_groups = reference.frequency.shape[0]
    raised = adjustment / jnp.sqrt(jnp.maximum(reference.count, 1))
    offset = raised - (reference.group_loss if excess else 0.0)

    def evaluate(state, observations: Observations):
        sums = metrics.group_sums(
            observations.loss, observations.group_ids, observations.weight, num_groups
        )
        means, present = metrics.group_means(sums), sums.count > 0
        loss = metrics.weighted_mean(observations.loss, observations.weight)
        return ConstraintValues(means + offset, means - loss, present, present), state

    return Constraint(num_groups, lambda: (), evaluate)
