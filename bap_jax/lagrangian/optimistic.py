"""Optimistic ascent-descent, also called past extragradient (Popov 1980; Daskalakis et al. 2018,
arXiv 1711.00141): every step is corrected by the last change of the gradient.

    θ_{t+1} = θ_t − (2 u_t − u_{t−1}) ,   λ_{t+1} = [λ_t + η_λ (2 v_t − v_{t−1})]_+

where u_t is the update that the weights' optimiser makes at (θ_t, λ_t). Costs one forward and one
backward pass, and converges on bilinear games as extragradient does. See docs/method.md, equation
(31).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from bap_jax.lagrangian.base import LagrangianState, Scheme
from bap_jax.lagrangian.optimizer_step import with_any_arguments
from bap_jax.lagrangian.steps import check_num_constraints, each_set, primal_dual_steps
from bap_jax.types import Array


class Past(NamedTuple):
    """The last observation of each constraint.

    Attributes:
      violation: `(constraint,)` v_{t−1}.
      observed: `(constraint,)` bool, whether the constraint has been observed at all.
    """

    violation: Array
    observed: Array


def optimistic(primal_optimizer, formulation, *, weight_limit=float("inf")) -> Scheme:
    """Weights and multipliers at once, both corrected; arguments as in `primal_dual_steps`."""
    corrected = optax.chain(
        with_any_arguments(primal_optimizer), optax.scale_by_optimistic_gradient()
    )
    steps = primal_dual_steps(corrected, formulation, weight_limit)

    def init(params, num_constraints):
        check_num_constraints(num_constraints)
        past = jax.tree.map(
            lambda size: Past(jnp.zeros((size,)), jnp.zeros((size,), bool)), num_constraints
        )
        return steps.init(params, num_constraints, past)

    def update(problem, params, state, *inputs):
        step = steps.gradient(problem, params, lambda evaluation: state.dual, inputs)
        constraints = step.evaluation.constraints
        ahead = constraints
        if not steps.formulation.anticipates:
            ahead = each_set(_extrapolate, constraints, state.memory)
        dual = steps.update_multipliers(step.evaluation._replace(constraints=ahead), state.dual)
        past = each_set(_remember, constraints, state.memory)
        params, primal_state = steps.descend(step, params, state.primal_state)
        return params, LagrangianState(dual, primal_state, past), step.info

    return Scheme(init, update)


def _extrapolate(values, past):
    change = jnp.where(past.observed, values.violation - past.violation, 0)
    return values._replace(violation=values.violation + change)


def _remember(values, past):
    observed = values.violation_mask
    return Past(jnp.where(observed, values.violation, past.violation), past.observed | observed)
