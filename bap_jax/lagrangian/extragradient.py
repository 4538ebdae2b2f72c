"""Extragradient (Korpelevich 1976; Gidel et al. 2019, arXiv 1802.10551): look ahead, then step.

    θ' = θ − η_θ ∇_θ L(θ, λ) ,    λ' = [λ + η_λ v(θ)]_+           trial step, thrown away
    θ ← θ − η_θ ∇_θ L(θ', λ') ,   λ ← [λ + η_λ v(θ')]_+           real step, from the old point

Costs two forward and two backward passes. Converges on bilinear games, where plain descent-ascent
cycles or diverges. See docs/method.md, equation (30).
"""

import functools

import jax

from bap_jax.lagrangian.base import DualState, LagrangianState, Scheme
from bap_jax.lagrangian.steps import primal_dual_steps


def extragradient(
    primal_optimizer,
    formulation,
    *,
    weight_limit=float("inf"),
    keep_ahead: bool = False,
    chained: bool = False,
) -> Scheme:
    """Trial step and real step by any optax optimiser, momentum and Adam included.

    Args:
      primal_optimizer, formulation, weight_limit: as in `primal_dual_steps`.
      keep_ahead: let both optimisers remember the trial step, as the reference does: momentum and
        the moments of Adam then gather two gradients per step, and Adam's count advances by two. By
        default they remember the real step alone.
      chained: pass the first evaluation to the problem's second call as `after=`, so that a problem
        with a replay buffer can push both of its forward passes, as the reference does. By default
        each sample counts once.
    """
    steps = primal_dual_steps(primal_optimizer, formulation, weight_limit)

    def update(problem, params, state, *inputs):
        trial = steps.gradient(problem, params, lambda evaluation: state.dual, inputs)
        ahead, ahead_state = steps.descend(trial, params, state.primal_state)
        ahead_dual = steps.update_multipliers(trial.evaluation, state.dual)

        again = functools.partial(problem, after=trial.evaluation) if chained else problem
        real = steps.gradient(again, ahead, lambda evaluation: ahead_dual, inputs)
        primal_state, dual = state.primal_state, state.dual
        if keep_ahead:
            primal_state, dual = ahead_state, _with_memory(dual, ahead_dual)
        params, primal_state = steps.descend(real, params, primal_state)
        dual = steps.update_multipliers(real.evaluation, dual)
        return params, LagrangianState(dual, primal_state), real.info

    return Scheme(steps.init, update)


def _with_memory(dual, ahead_dual):
    """The multipliers of `dual` with the memory of `ahead_dual`, set by set."""
    return jax.tree.map(
        lambda state, ahead: state._replace(memory=ahead.memory),
        dual,
        ahead_dual,
        is_leaf=lambda node: isinstance(node, DualState),
    )
