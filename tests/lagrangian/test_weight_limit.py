"""A bound on the total weight of loss and constraints in the weights' step."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from tests.lagrangian.problems import toy_2d


@pytest.mark.parametrize(
    ("weight_limit", "scale"), [(np.inf, 1), (7.0, 1), (2.0, 2 / 5), (1, 1 / 5)]
)
def test_weight_limit_bounds_the_step(weight_limit, scale):
    """Weights move by the gradient of L, scaled to a total weight of at most the limit; the
    multipliers and the value reported do not change."""
    params = jnp.array([0.0, -1.0])
    ascent = lagrangian.gradient_ascent(optax.sgd(0.5), start=jnp.array([3.0, 0.0]))
    scheme = lagrangian.dual_primal(optax.sgd(1.0), ascent, weight_limit=weight_limit)
    after, state, info = scheme.update(toy_2d(), params, scheme.init(params, 2))
    gradient = jnp.array([-4.0, -4.0 - 4.0])
    np.testing.assert_allclose(after - params, -gradient * scale, rtol=1e-6)
    np.testing.assert_allclose(state.multipliers, [4.0, 0.0])
    np.testing.assert_allclose(info.multipliers, [4.0, 0.0])
    np.testing.assert_allclose(info.lagrangian, 2 + 4 * 2)


# The multipliers that the first step of 1 sees: those at the start, or already moved by v = 3, 1.
SEEN = {
    "simultaneous": ([2.0], [-1.0]),
    "dual_primal": ([5.0], [0.0]),
    "primal_dual": ([2.0], [-1.0]),
    "optimistic": ([2.0], [-1.0]),
}


@pytest.mark.parametrize("name", SEEN)
def test_all_named_sets_count_by_size(name):
    """1 + |λ| + |μ| for μ of either sign."""

    def problem(x):
        sets = {"a": constraint_values(x + 3), "b": constraint_values(1 - x, equality=True)}
        return lagrangian.Evaluation(7 * x, sets)

    formulations = {
        "a": lagrangian.gradient_ascent(optax.sgd(1.0), start=2.0),
        "b": lagrangian.gradient_ascent(optax.sgd(1.0), start=-1.0),
    }
    scheme = lagrangian.build_scheme(name, optax.sgd(1.0), formulations, weight_limit=1.5)
    x = jnp.zeros(())
    moved, _, info = scheme.update(problem, x, scheme.init(x, {"a": 1, "b": 1}))
    one, other = SEEN[name]
    np.testing.assert_allclose(info.multipliers["a"], one)
    np.testing.assert_allclose(info.multipliers["b"], other)
    gradient, total = 7 + one[0] - other[0], 1 + abs(one[0]) + abs(other[0])
    np.testing.assert_allclose(moved, -gradient * 1.5 / total, rtol=1e-6)


def test_extragradient_scales_both_of_its_steps():
    """min 4x s.t. 1 − x ≤ 0, λ = 3 at the start, limit 2: look-ahead to −.5 with λ' = 4."""

    def problem(x):
        return lagrangian.Evaluation(4 * x, constraint_values(1 - x))

    ascent = lagrangian.gradient_ascent(optax.sgd(1.0), start=3.0)
    scheme = lagrangian.extragradient(optax.sgd(1.0), ascent, weight_limit=2.0)
    x, state, info = scheme.update(problem, jnp.zeros(()), scheme.init(jnp.zeros(()), 1))
    np.testing.assert_allclose(info.evaluation.loss, 4 * -0.5, rtol=1e-6)
    np.testing.assert_allclose(x, -(4 - 4) * 2 / 5, atol=1e-6)
    np.testing.assert_allclose(state.multipliers, [3 + 1.5], rtol=1e-6)
