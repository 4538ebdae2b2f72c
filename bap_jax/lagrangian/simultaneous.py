"""Simultaneous ascent-descent: weights and multipliers move from the same point.

    θ_{t+1} = θ_t − η_θ ∇_θ L(θ_t, λ_t) ,   λ_{t+1} = [λ_t + η_λ v(θ_t)]_+

Costs one forward and one backward pass. Diverges on a bilinear game, where alternating steps cycle.
See docs/method.md, equation (28).
"""

from bap_jax.lagrangian.base import LagrangianState, Scheme
from bap_jax.lagrangian.steps import primal_dual_steps


def simultaneous(primal_optimizer, formulation, *, weight_limit=float("inf")) -> Scheme:
    """Weights and multipliers at once; arguments as in `primal_dual_steps`."""
    steps = primal_dual_steps(primal_optimizer, formulation, weight_limit)

    def update(problem, params, state, *inputs):
        step = steps.gradient(problem, params, lambda evaluation: state.dual, inputs)
        dual = steps.update_multipliers(step.evaluation, state.dual)
        params, primal_state = steps.descend(step, params, state.primal_state)
        return params, LagrangianState(dual, primal_state), step.info

    return Scheme(steps.init, update)
