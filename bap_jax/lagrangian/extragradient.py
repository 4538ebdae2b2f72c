"""Extragradient (Korpelevich 1976; Gidel et al. 2019, arXiv 1802.10551): look ahead, then step.

    θ' = θ − η_θ ∇_θ L(θ, λ) ,    λ' = [λ + η_λ v(θ)]_+           look-ahead, thrown away
    θ ← θ − η_θ ∇_θ L(θ', λ') ,   λ ← [λ + η_λ v(θ')]_+           step from where it stood

Two forward and two backward passes. Converges on bilinear games, where plain descent-ascent cycles
or diverges.
"""

from bap_jax.lagrangian.base import LagrangianState, Scheme
from bap_jax.lagrangian.steps import primal_dual_steps


def extragradient(
    primal_optimizer, formulation, *, weight_limit=float("inf"), keep_ahead: bool = False
) -> Scheme:
    """Look-ahead and step by any optax optimiser, momentum and Adam included.

    Args:
      primal_optimizer, formulation, weight_limit: as in `primal_dual_steps`.
      keep_ahead: let the weights' optimiser remember its look-ahead, as the reference does: its
        momentum then gathers two gradients a step. By default only the step is remembered.
    """
    steps = primal_dual_steps(primal_optimizer, formulation, weight_limit)

    def update(problem, params, state, *inputs):
        here = steps.gradient(problem, params, lambda evaluation: state.dual, inputs)
        ahead, ahead_state = steps.descend(here.primal, params, state.primal_state)
        ahead_dual = steps.update_multipliers(here.evaluation, state.dual)

        there = steps.gradient(problem, ahead, lambda evaluation: ahead_dual, inputs)
        primal_state = ahead_state if keep_ahead else state.primal_state
        params, primal_state = steps.descend(there.primal, params, primal_state)
        dual = steps.update_multipliers(there.evaluation, state.dual)
        return params, LagrangianState(dual, primal_state), there.info

    return Scheme(steps.init, update)
