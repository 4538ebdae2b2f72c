"""The Lagrangian f + Σ λ_c h_c, with multipliers that ascend by any optax transform.

See docs/method.md, equations (8), (9) and (27).
"""

import math
from typing import cast

import jax
import jax.numpy as jnp
import optax

from bap_jax.compilation import with_usual_promotion
from bap_jax.constraints.base import ConstraintValues, as_floats
from bap_jax.lagrangian.base import DualState, Formulation
from bap_jax.lagrangian.optimizer_step import with_any_arguments
from bap_jax.lagrangian.overall_term import check_overall_term, linear_term
from bap_jax.types import Array


def gradient_ascent(
    optimizer: optax.GradientTransformation,
    *,
    start: Array | float = 0.0,
    bound: Array | float = math.inf,
    overall_term: str = "full",
    restart: bool = False,
    restart_confidence: Array | float = 0.0,
) -> Formulation:
    """λ ← [λ + η v]_+ by an optax optimiser; the weights see Σ λ_c h_c.

    A constraint that was not observed enters with gradient 0: plain gradient ascent then leaves its
    multiplier alone, and an optimiser with momentum moves it on, as in the reference. An optimiser
    that takes `observed=` (`nu_pi`) receives the mask.

    Args:
      optimizer: an optax optimiser; it receives −v, since optax descends.
      start: initial λ.
      bound: largest |λ|. The weights' gradient, and so their step, grows with Σ λ; the bound keeps
        both finite where a constraint cannot be met. Analyses of proxy constraints assume one
        (Cotter et al. 2019).
      overall_term: see the module `overall_term`.
      restart: set λ_c ← 0 wherever an inequality is observed to hold.
      restart_confidence: z; a restart also asks for a margin of z standard deviations of the
        estimate, v + z · deviation ≤ 0.

    Raises:
      UserError: `overall_term` is unknown.

    Example:
      >>> import optax
      >>> from bap_jax.constraints import constraint_values
      >>> formulation = gradient_ascent(optax.sgd(0.5))
      >>> values = constraint_values(jnp.array([0.2, -0.2]))
      >>> dual = formulation.update_multipliers(values, formulation.init(2))
      >>> [round(float(x), 3) for x in dual.multipliers]
      [0.1, 0.0]
    """
    check_overall_term(overall_term)
    optimizer = with_any_arguments(optimizer)

    def init(size):
        multipliers = jnp.full((size,), start, float)
        return DualState(multipliers, optimizer.init(multipliers))

    def update_multipliers(values, dual):
        violation = jax.lax.stop_gradient(as_floats(values.violation))
        descent = jnp.where(values.violation_mask, -violation, 0)
        updates, memory = with_usual_promotion(optimizer.update)(
            descent, dual.memory, dual.multipliers, observed=values.violation_mask
        )
        ascended = cast(Array, optax.apply_updates(dual.multipliers, updates))
        multipliers = project(ascended, values, bound)
        if restart:
            holds = violation + restart_confidence * jax.lax.stop_gradient(values.deviation) <= 0
            inequality = jnp.logical_not(values.equality)
            multipliers = jnp.where(holds & values.violation_mask & inequality, 0, multipliers)
        return DualState(multipliers, memory)

    def penalty_term(values, dual):
        return linear_term(values, dual.multipliers, overall_term)

    return Formulation(init, update_multipliers, penalty_term)


def project(multipliers: Array, values: ConstraintValues, bound: Array | float = math.inf) -> Array:
    """λ in [0, bound] for inequalities, in [−bound, bound] for equalities."""
    lower = jnp.where(values.equality, -bound, 0.0)
    return jnp.clip(multipliers, lower, bound)
