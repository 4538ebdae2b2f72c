"""Alternating ascent-descent, multipliers first (method.md 2; the paper's algorithm 1).

    λ_{t+1} = [λ_t + η_λ v(θ_t)]_+ ,   θ_{t+1} = θ_t − η_θ ∇_θ L(θ_t, λ_{t+1})

The violation of θ_t is known after the forward pass and the backward pass already uses the new λ:
one forward, one backward.
"""

import math

import jax
import jax.numpy as jnp
import optax

from bap_jax.lagrangian.base import (
    LagrangianState,
    Scheme,
    SchemeInfo,
    check_overall_term,
    lagrangian,
)
from bap_jax.lagrangian.multipliers import ascend
from bap_jax.types import Array


def dual_primal(
    primal_optimizer: optax.GradientTransformation,
    dual_optimizer: optax.GradientTransformation,
    *,
    equality: bool = False,
    overall_term: str = "full",
    multiplier_bound: Array | float = math.inf,
    weight_limit: Array | float = math.inf,
) -> Scheme:
    """Multipliers first, then weights, from one forward and one backward pass.

    Args:
      primal_optimizer: moves the weights.
      dual_optimizer: moves the multipliers, usually `optax.sgd(η_λ)`.
      equality: whether the constraints are equalities.
      overall_term: see `lagrangian`.
      multiplier_bound: largest |λ|, see `ascend`.
      weight_limit: largest total weight 1 + Σ|λ| of loss and constraints in the weights' gradient;
        beyond it L is scaled down to it. The saddle points stay, and large multipliers no longer
        lengthen the step without end. 1 gives every step the length it has without constraints, as
        the proxy-Lagrangian of Cotter et al. (2019) does.

    Raises:
      UserError: `overall_term` is unknown.
    """
    check_overall_term(overall_term)

    def init(params, num_constraints):
        multipliers = jnp.zeros((num_constraints,))
        return LagrangianState(
            multipliers, dual_optimizer.init(multipliers), primal_optimizer.init(params)
        )

    def update(problem, params, state):
        def objective(params):
            evaluation = problem(params)
            dual = ascend(
                dual_optimizer,
                state.multipliers,
                state.dual_state,
                evaluation.constraints,
                equality=equality,
                bound=multiplier_bound,
            )
            value = lagrangian(evaluation, dual[0], overall_term)
            scale = jnp.minimum(1, weight_limit / (1 + jnp.abs(dual[0]).sum()))
            return value * scale, (value, evaluation, dual)

        gradient, (value, evaluation, dual) = jax.grad(objective, has_aux=True)(params)
        updates, primal_state = primal_optimizer.update(gradient, state.primal_state, params)
        params = optax.apply_updates(params, updates)
        return params, LagrangianState(*dual, primal_state), SchemeInfo(evaluation, value)

    return Scheme(init, update)
