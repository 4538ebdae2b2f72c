"""Switching subgradient (Polyak 1967; Lan and Zhou 2020, arXiv 1604.03887): no multipliers.

    θ ← θ − η ∇ f(θ)       while every observed violation is ≤ δ
    θ ← θ − η ∇ h_c(θ)     otherwise, c the constraint violated most

It converges with a decreasing step size, in the average of the iterates that meet the constraints.
How often a constraint was chosen, divided by how often the objective was, estimates its multiplier;
that ratio is what the state shows as λ. See docs/method.md, equation (32).
"""

import functools

import jax
import jax.numpy as jnp
import optax

from bap_jax.compilation import strongly_typed
from bap_jax.lagrangian.base import DualState, LagrangianState, Scheme, SchemeInfo
from bap_jax.lagrangian.optimizer_step import move
from bap_jax.lagrangian.overall_term import check_overall_term, cut_overall
from bap_jax.lagrangian.steps import check_num_constraints, check_sizes, each_set, with_floats
from bap_jax.types import Array


def switching(
    primal_optimizer: optax.GradientTransformation,
    *,
    tolerance: Array | float = 0.0,
    overall_term: str = "full",
) -> Scheme:
    """Each step lowers the objective, or the constraint that is violated most.

    Args:
      primal_optimizer: any optax optimiser for the weights.
      tolerance: δ ≥ 0, the largest violation at which a step still lowers the objective.
      overall_term: see the module `overall_term`; with `detached` a step on h_g = ℓ_g − ℓ lowers
        ℓ_g and leaves ℓ alone.

    Raises:
      UserError: `overall_term` is unknown.
    """
    check_overall_term(overall_term)

    def chosen_proxy(values, signs):
        proxy = cut_overall(values, jnp.abs(signs).sum(), overall_term)
        return jnp.sum(signs * jnp.where(signs != 0, proxy, 0))

    def value_of(evaluation, signs, violated):
        terms = each_set(chosen_proxy, evaluation.constraints, signs)
        return jnp.where(violated, sum(jax.tree.leaves(terms), 0.0), evaluation.loss)

    def init(params, num_constraints):
        check_num_constraints(num_constraints)
        dual = jax.tree.map(
            lambda size: DualState(jnp.zeros((size,)), jnp.zeros((size,))), num_constraints
        )
        state = LagrangianState(dual, primal_optimizer.init(params), jnp.zeros(()))
        return strongly_typed(state)

    def update(problem, params, state, *inputs):
        def objective(params):
            evaluation = with_floats(problem(params, *inputs))
            check_sizes(evaluation.constraints, state.dual)
            signs, violated = _choose(evaluation.constraints, tolerance)
            value = value_of(evaluation, signs, violated)
            return value, (evaluation, value, signs, violated)

        gradient, aux = jax.grad(objective, has_aux=True)(params)
        evaluation, value, signs, violated = aux
        params, primal_state = move(
            primal_optimizer,
            gradient,
            state.primal_state,
            params,
            value=value,
            objective=lambda params: value_of(problem(params, *inputs), signs, violated),
        )
        objective_steps = state.memory + jnp.where(violated, 0, 1)
        dual = jax.tree.map(
            lambda counted, sign: _count(counted, sign, objective_steps),
            state.dual,
            signs,
            is_leaf=lambda node: isinstance(node, DualState),
        )
        new_state = LagrangianState(dual, primal_state, objective_steps)
        return params, new_state, SchemeInfo(evaluation, value, new_state.multipliers)

    return Scheme(init, update)


def _choose(constraints, tolerance):
    """Picks the constraint to step on.

    Returns:
      For every set `(constraint,)`, the sign of the gradient of the chosen constraint and 0 for all
      others; and `()` bool, whether any is chosen.
    """
    magnitudes, structure = jax.tree.flatten(each_set(_magnitude, constraints))
    worst = functools.reduce(
        jnp.maximum, [jnp.max(m, initial=-jnp.inf) for m in magnitudes], -jnp.inf
    )
    violated = worst > tolerance
    undecided = violated
    chosen = []
    for magnitude in magnitudes:  # of several equally bad constraints, the first
        is_worst = magnitude == worst
        chosen.append(is_worst & (jnp.cumsum(is_worst) == 1) & undecided)
        undecided = undecided & ~is_worst.any()
    signs = each_set(lambda v: jnp.where(v.equality & (v.violation < 0), -1.0, 1.0), constraints)
    chosen = jax.tree.unflatten(structure, chosen)
    return jax.tree.map(lambda pick, sign: jnp.where(pick, sign, 0), chosen, signs), violated


def _magnitude(values):
    magnitude = jnp.where(values.equality, jnp.abs(values.violation), values.violation)
    observed = values.violation_mask & values.proxy_mask
    return jax.lax.stop_gradient(jnp.where(observed, magnitude, -jnp.inf))


def _count(dual, signs, objective_steps):
    counts = dual.memory + signs
    steps = jnp.maximum(objective_steps, 1).astype(counts.dtype)
    return DualState(counts / steps, counts)
