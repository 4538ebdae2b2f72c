"""The augmented Lagrangian and the quadratic penalty, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.lagrangian.augmented import PenaltyState


def dual_state(multipliers, penalty):
    return lagrangian.DualState(jnp.array(multipliers), PenaltyState(jnp.array(penalty)))


def weights(formulation, values, dual):
    """The factor of each proxy's gradient."""
    return jax.grad(lambda proxy: formulation.penalty_term(values._replace(proxy=proxy), dual))(
        values.proxy
    )


def test_steps_by_hand():
    """A violated constraint whose penalty grows to its limit, one that holds, one observed late."""
    formulation = lagrangian.augmented(0.5, growth=2.0, largest_penalty=1.5, start=1.0)
    dual, late = formulation.init(3), jnp.array([True, True, False])
    steps = [
        ([2.0, -1.0, 5.0], late, [2.0, 0.5, 1.0], [1.0, 0.5, 0.5]),
        ([1.0, -2.0, 1.0], None, [3.0, 0.0, 1.5], [1.5, 0.5, 1.0]),
        ([1.0, 0.0, -1.0], None, [4.5, 0.0, 0.5], [1.5, 0.5, 1.0]),
    ]
    for violation, mask, multipliers, penalty in steps:
        values = constraint_values(jnp.array(violation), violation_mask=mask)
        dual = formulation.update_multipliers(values, dual)
        np.testing.assert_allclose(dual.multipliers, multipliers, rtol=1e-6)
        np.testing.assert_allclose(dual.memory.penalty, penalty, rtol=1e-6)


def test_a_step_of_equalities_by_hand():
    """Violations of both signs make the penalty grow."""
    formulation = lagrangian.augmented(0.5, growth=2.0, start=0.25, bound=0.4)
    values = constraint_values(jnp.array([-1.0, 1.0, 0.0]), equality=True)
    dual = formulation.update_multipliers(values, formulation.init(3))
    np.testing.assert_allclose(dual.multipliers, [-0.25, 0.4, 0.25])
    np.testing.assert_allclose(dual.memory.penalty, [1.0, 1.0, 0.5])
    dual = formulation.update_multipliers(values, dual)
    np.testing.assert_allclose(dual.multipliers, [-0.4, 0.4, 0.25])


def test_a_penalty_above_its_limit_neither_grows_nor_shrinks():
    formulation = lagrangian.augmented(20.0, growth=2.0, largest_penalty=10.0)
    dual = formulation.update_multipliers(constraint_values(jnp.array([1.0])), formulation.init(1))
    np.testing.assert_array_equal(dual.memory.penalty, [20.0])


def test_weights_and_value_by_hand():
    """[λ + κ(h − ε)]_+ and its integral minus λ²/2κ; the last entry is not in the batch."""
    formulation = lagrangian.augmented()
    values = constraint_values(
        jnp.zeros(4),
        jnp.array([0.5, -1.0, 3.0, 7.0]),
        proxy_mask=jnp.array([True, True, True, False]),
        tolerance=jnp.array([1.0, 1.0, 1.0, 0.0]),
    )
    dual = dual_state([2.0, 2.0, 1.0, 1.0], [2.0, 2.0, 0.5, 1.0])
    np.testing.assert_allclose(weights(formulation, values, dual), [1.0, 0.0, 2.0, 0.0])
    by_hand = (1 - 4) / 4 + (0 - 4) / 4 + (4 - 1) / 1
    np.testing.assert_allclose(formulation.penalty_term(values, dual), by_hand, rtol=1e-6)


def test_weights_and_value_of_equalities_by_hand():
    """λh + κh²/2, with weight λ + κh."""
    formulation = lagrangian.augmented()
    values = constraint_values(
        jnp.zeros(2), jnp.array([-2.0, 3.0]), equality=True, tolerance=jnp.array([0.0, 1.0])
    )
    dual = dual_state([1.0, -1.0], [2.0, 0.25])
    np.testing.assert_allclose(weights(formulation, values, dual), [-3.0, -0.5])
    by_hand = (-2 + 4) + (-2 + 0.5)
    np.testing.assert_allclose(formulation.penalty_term(values, dual), by_hand, rtol=1e-6)


def test_a_step_of_dual_primal_by_hand():
    """min x² s.t. x ≥ 1 from x = 0: λ = κ = .5, κ ← 1, weight .5 + 1 · 1, x ← 0 + .1 · 1.5."""
    scheme = lagrangian.dual_primal(optax.sgd(0.1), lagrangian.augmented(0.5, growth=2.0))

    def problem(x):
        return lagrangian.Evaluation(x**2, constraint_values(1 - x))

    x, state, info = scheme.update(problem, jnp.zeros(()), scheme.init(jnp.zeros(()), 1))
    np.testing.assert_allclose(x, 0.15, rtol=1e-6)
    np.testing.assert_allclose(state.multipliers, [0.5])
    np.testing.assert_allclose(info.lagrangian, (1.5**2 - 0.5**2) / 2, rtol=1e-6)


def test_quadratic_penalty_by_hand():
    """Value and weights κ[h − ε]_+; a constraint that is not in the batch keeps its last weight."""
    formulation = lagrangian.quadratic_penalty(3.0)
    values = constraint_values(
        jnp.full(4, jnp.nan),
        jnp.array([2.0, 0.5, -2.0, 9.0]),
        proxy_mask=jnp.array([True, True, True, False]),
        tolerance=1.0,
        equality=jnp.array([False, False, True, False]),
    )
    dual = formulation.init(4)._replace(multipliers=jnp.full(4, 8.0))
    expected = [3.0, 0.0, -9.0]
    np.testing.assert_allclose(weights(formulation, values, dual), [*expected, 0.0])
    np.testing.assert_allclose(
        formulation.update_multipliers(values, dual).multipliers, [*expected, 8.0]
    )
    np.testing.assert_allclose(formulation.penalty_term(values, dual), 1.5 * (1 + 9), rtol=1e-6)


@pytest.mark.parametrize("start", [0.5, jnp.array([0.5, 0.5])])
def test_start(start):
    np.testing.assert_array_equal(lagrangian.augmented(start=start).init(2).multipliers, [0.5, 0.5])


def test_each_constraint_may_have_its_own_penalty():
    formulation = lagrangian.augmented(jnp.array([0.5, 1.0]), growth=jnp.array([1.0, 2.0]))
    dual = formulation.update_multipliers(constraint_values(jnp.ones(2)), formulation.init(2))
    np.testing.assert_allclose(dual.multipliers, [0.5, 1.0])
    np.testing.assert_allclose(dual.memory.penalty, [0.5, 2.0])
