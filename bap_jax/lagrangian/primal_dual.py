"""Alternating ascent-descent, weights first.

    θ_{t+1} = θ_t − η_θ ∇_θ L(θ_t, λ_t) ,   λ_{t+1} = [λ_t + η_λ v(θ_{t+1})]_+

The violation is measured again after the weights have moved. Costs two forward passes and one
backward pass. See docs/method.md, equation (29).
"""

from bap_jax.lagrangian.base import LagrangianState, Scheme, SchemeInfo, multipliers_of
from bap_jax.lagrangian.steps import primal_dual_steps, with_floats


def primal_dual(
    primal_optimizer, formulation, *, weight_limit=float("inf"), chained: bool = False
) -> Scheme:
    """Weights first, then multipliers.

    Args:
      primal_optimizer, formulation, weight_limit: as in `primal_dual_steps`.
      chained: pass the first evaluation to the problem's second call as `after=`, so that a problem
        with a replay buffer can push both of its forward passes, as the reference does. By default
        each sample counts once.
    """
    steps = primal_dual_steps(primal_optimizer, formulation, weight_limit)

    def update(problem, params, state, *inputs):
        step = steps.gradient(problem, params, lambda evaluation: state.dual, inputs)
        params, primal_state = steps.descend(step, params, state.primal_state)
        options = {"after": step.evaluation} if chained else {}
        after_step = with_floats(problem(params, *inputs, **options))
        dual = steps.update_multipliers(after_step, state.dual)
        value = steps.value(after_step, state.dual)
        info = SchemeInfo(after_step, value, multipliers_of(state.dual))
        return params, LagrangianState(dual, primal_state), info

    return Scheme(steps.init, update)
