"""A quadratic penalty in place of multipliers: ½ κ Σ_c [h_c]_+² with a fixed κ.

h_c is the proxy minus its tolerance; equalities enter with h_c². This is the simplest baseline: its
optimum violates the constraints by about λ*_c / κ. See docs/method.md, equation (25).
"""

import jax
import jax.numpy as jnp

from bap_jax.lagrangian.base import DualState, Formulation
from bap_jax.lagrangian.overall_term import check_overall_term, cut_overall
from bap_jax.types import Array


def quadratic_penalty(coefficient: Array | float, *, overall_term: str = "full") -> Formulation:
    """½ κ Σ [h]_+²; what it reports as multipliers are the last gradient weights κ [h]_+.

    Args:
      coefficient: κ ≥ 0.
      overall_term: see the module `overall_term`.

    Raises:
      UserError: `overall_term` is unknown.
    """
    check_overall_term(overall_term)

    def excess(values, proxy):
        proxy = jnp.where(values.proxy_mask, proxy - values.tolerance, 0)
        return jnp.where(values.equality, proxy, jnp.maximum(proxy, 0))

    def weights(values):
        return coefficient * jax.lax.stop_gradient(excess(values, values.proxy))

    def update_multipliers(values, dual):
        return DualState(jnp.where(values.proxy_mask, weights(values), dual.multipliers))

    def penalty_term(values, dual):
        del dual
        proxy = cut_overall(values, weights(values).sum(), overall_term)
        return 0.5 * coefficient * jnp.sum(excess(values, proxy) ** 2)

    return Formulation(lambda size: DualState(jnp.zeros((size,))), update_multipliers, penalty_term)
