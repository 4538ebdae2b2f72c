"""Alternating ascent-descent, multipliers first: the paper's algorithm 1.

    λ_{t+1} = [λ_t + η_λ v(θ_t)]_+ ,   θ_{t+1} = θ_t − η_θ ∇_θ L(θ_t, λ_{t+1})

The violation at θ_t is known after the forward pass, and the backward pass already uses the new λ.
Costs one forward and one backward pass. See docs/method.md, section 5.
"""

from bap_jax.lagrangian.base import LagrangianState, Scheme
from bap_jax.lagrangian.steps import primal_dual_steps


def dual_primal(primal_optimizer, formulation, *, weight_limit=float("inf")) -> Scheme:
    """Multipliers first, then weights; arguments as in `primal_dual_steps`."""
    steps = primal_dual_steps(primal_optimizer, formulation, weight_limit)

    def update(problem, params, state, *inputs):
        step = steps.gradient(
            problem,
            params,
            lambda evaluation: steps.update_multipliers(evaluation, state.dual),
            inputs,
        )
        params, primal_state = steps.descend(step, params, state.primal_state)
        return params, LagrangianState(step.dual, primal_state), step.info

    return Scheme(steps.init, update)
