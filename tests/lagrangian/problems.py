"""Problems with known answers, and the reference's schemes."""

import jax.numpy as jnp

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.models import Model


def toy_2d(surrogate=False):
    """min x² + 2y² s.t. x + y ≥ 1, x² + y ≤ 1, solved by (2/3, 1/3) with λ = (4/3, 0)."""

    def problem(params, after=None):
        x, y = params
        true = jnp.stack([1 - x - y, x**2 + y - 1])
        proxy = jnp.stack([1.1 - 0.9 * x - y, x**2 + y - 1]) if surrogate else true
        del after
        return lagrangian.Evaluation(x**2 + 2 * y**2, constraint_values(true, proxy))

    return problem


def linear_model():
    """Logits x Wᵀ + b."""

    def apply(variables, inputs, *, train=False, key=None):
        del train, key
        params = variables.params
        return inputs @ params["W"].T + params["b"][None], variables.state

    return Model(lambda key, inputs: None, apply)


def reference_scheme(name, primal_optimizer, formulation):
    """The scheme that the reference calls `name`, with the options that restore its behaviour.

    Its multipliers that the weights saw are found in `state.memory`.
    """
    name, options = {
        "extrapolation": ("extragradient", {"keep_ahead": True, "chained": True}),
        "primal_dual": ("primal_dual", {"chained": True}),
    }.get(name, (name, {}))
    scheme = lagrangian.build_scheme(name, primal_optimizer, formulation, **options)

    def init(params, num_constraints):
        state = scheme.init(params, num_constraints)
        return state._replace(memory=state.multipliers)

    def update(problem, params, state, *inputs):
        params, state, info = scheme.update(problem, params, state, *inputs)
        return params, state._replace(memory=info.multipliers), info

    return lagrangian.Scheme(init, update)
