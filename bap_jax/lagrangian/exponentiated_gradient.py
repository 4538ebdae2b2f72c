"""Multipliers on the simplex: q_c ∝ q_c exp(η v_c), Σ q = 1 (docs/method.md, equation (26)).

This is the adversary of group DRO (Sagawa et al. 2020, arXiv 1911.08731, algorithm 1). With proxies
h_g = ℓ_g − ℓ the objective ℓ + Σ q_g h_g is Σ q_g ℓ_g. In a batch that lacks some groups, q is
rescaled over the groups present, so that the weights always add up to 1.
"""

import jax
import jax.numpy as jnp

from bap_jax.lagrangian.base import DualState, Formulation
from bap_jax.types import Array


def exponentiated_gradient(learning_rate: Array | float) -> Formulation:
    """q ← softmax(log q + η v) over all constraints, with v = 0 where one was not observed.

    Args:
      learning_rate: η.
    """

    def init(size):
        return DualState(jnp.full((size,), 1 / max(size, 1), float), jnp.zeros((size,)))

    def update_multipliers(values, dual):
        violation = jax.lax.stop_gradient(values.violation)
        step = jnp.where(values.violation_mask, learning_rate * violation, 0)
        logits = jax.nn.log_softmax(dual.memory + step)
        return DualState(jnp.exp(logits), logits)

    def penalty_term(values, dual):
        # From the logits: next to an absent group's q, those of the groups present may underflow.
        logits = jnp.where(values.proxy_mask, dual.memory, -jnp.inf)
        weight = jnp.where(values.proxy_mask.any(), jax.nn.softmax(logits), 0)
        weight = jax.lax.stop_gradient(jnp.where(values.proxy_mask, weight, 0))
        return jnp.sum(weight * jnp.where(values.proxy_mask, values.proxy, 0))

    return Formulation(init, update_multipliers, penalty_term)
