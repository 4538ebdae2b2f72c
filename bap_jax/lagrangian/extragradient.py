"""Extragradient (Korpelevich 1976; Gidel et al. 2019, arXiv 1802.10551): look ahead, then step.

    θ' = θ − η_θ ∇_θ L(θ, λ) ,    λ' = [λ + η_λ v(θ)]_+           look-ahead, thrown away
    θ ← θ − η_θ ∇_θ L(θ', λ') ,   λ ← [λ + η_λ v(θ')]_+           step from where it stood

Two forward and two backward passes. Converges on bilinear games, where plain descent-ascent cycles
or diverges.
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
    """Look-ahead and step by any optax optimiser, momentum and Adam included.

    Args:
      primal_optimizer, formulation, weight_limit: as in `primal_dual_steps`.
      keep_ahead: let both optimisers remember the look-ahead, as the reference does: momentum and
        the moments of Adam then gather two gradients a step, and Adam's count advances by two. By
        default only the step is remembered.
      chained: call the problem the second time with `after=` its first evaluation, so that one
        with a replay buffer can push both of its forward passes, as the reference does. By default
        each sample counts once.
    """
    steps = primal_dual_steps(primal_optimizer, formulation, weight_limit)

    def update(problem, params, state, *inputs):
        here = steps.gradient(problem, params, lambda evaluation: state.dual, inputs)
        ahead, ahead_state = steps.descend(here.primal, params, state.primal_state)
        ahead_dual = steps.update_multipliers(here.evaluation, state.dual)

        again = functools.partial(problem, after=here.evaluation) if chained else problem
        there = steps.gradient(again, ahead, lambda evaluation: ahead_dual, inputs)
        primal_state, dual = state.primal_state, state.dual
        if keep_ahead:
            primal_state, dual = ahead_state, _with_memory(dual, ahead_dual)
        params, primal_state = steps.descend(there.primal, params, primal_state)
        dual = steps.update_multipliers(there.evaluation, dual)
        return params, LagrangianState(dual, primal_state), there.info

    return Scheme(steps.init, update)


def _with_memory(dual, other):
    """The multipliers of `dual` with what the update of `other` remembers, set by set."""
    return jax.tree.map(
        lambda one, ahead: one._replace(memory=ahead.memory),
        dual,
        other,
        is_leaf=lambda node: isinstance(node, DualState),
    )
