"""The augmented Lagrangian of Powell, Hestenes and Rockafellar (PHR), with a growing penalty.

With h_c the proxy minus its tolerance, the weights see

    inequality   ([λ_c + κ_c h_c]_+² − λ_c²) / 2κ_c      gradient weight [λ_c + κ_c h_c]_+
    equality     λ_c h_c + κ_c h_c² / 2                  gradient weight λ_c + κ_c h_c

and the multipliers move by λ_c ← [λ_c + κ_c v_c]_+. The penalty κ_c of a constraint grows while
the constraint is violated. See docs/method.md, equations (23) and (24).
"""

import math
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax.errors import UserError
from bap_jax.lagrangian.base import DualState, Formulation
from bap_jax.lagrangian.gradient_ascent import project
from bap_jax.lagrangian.overall_term import check_overall_term, cut_overall
from bap_jax.types import Array


class PenaltyState(NamedTuple):
    """Penalties of the constraints.

    Attributes:
      penalty: `(constraint,)` κ_c.
    """

    penalty: Array


def augmented(
    penalty: Array | float = 0.1,
    *,
    growth: Array | float = 1.01,
    largest_penalty: Array | float = 10.0,
    start: Array | float = 0.0,
    bound: Array | float = math.inf,
    overall_term: str = "full",
) -> Formulation:
    """The augmented Lagrangian, which reads each constraint as proxy ≤ tolerance.

    Args:
      penalty: κ > 0 at the start; also the step size of the multipliers.
      growth: factor ≥ 1 by which the penalty of a violated constraint grows in each step.
      largest_penalty: the penalty at which growth ends.
      start: initial λ.
      bound: largest |λ|.
      overall_term: see the module `overall_term`.

    Raises:
      UserError: `penalty` or `growth` is out of range, or `overall_term` is unknown.
    """
    check_overall_term(overall_term)
    if isinstance(penalty, numbers.Real) and not penalty > 0:
        raise UserError(f"the penalty must be > 0; got {penalty}.")
    if isinstance(growth, numbers.Real) and not growth >= 1:
        raise UserError(f"the penalty's growth must be a factor ≥ 1; got {growth}.")

    def init(size):
        return DualState(
            jnp.full((size,), start, float), PenaltyState(jnp.full((size,), penalty, float))
        )

    def update_multipliers(values, dual):
        kappa = dual.memory.penalty
        violation = jax.lax.stop_gradient(values.violation)
        step = jnp.where(values.violation_mask, kappa * violation, 0)
        magnitude = jnp.where(values.equality, jnp.abs(violation), violation)
        grown = jnp.minimum(kappa * growth, jnp.maximum(largest_penalty, kappa))
        kappa = jnp.where(values.violation_mask & (magnitude > 0), grown, kappa)
        return DualState(project(dual.multipliers + step, values, bound), PenaltyState(kappa))

    def penalty_term(values, dual):
        multipliers, kappa = jax.lax.stop_gradient((dual.multipliers, dual.memory.penalty))

        def shifted(proxy):
            shift = multipliers + kappa * (proxy - values.tolerance)
            return jnp.where(values.equality, shift, jnp.maximum(shift, 0))

        weight = jnp.where(values.proxy_mask, shifted(values.proxy), 0)
        total = jax.lax.stop_gradient(weight.sum())
        proxy = cut_overall(values, total, overall_term)
        proxy = jnp.where(values.proxy_mask, proxy, 0)
        terms = (shifted(proxy) ** 2 - multipliers**2) / (2 * kappa)
        return jnp.sum(jnp.where(values.proxy_mask, terms, 0))

    return Formulation(init, update_multipliers, penalty_term)
