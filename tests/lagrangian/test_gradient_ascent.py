"""Multipliers that ascend by an optax optimiser: bounds, starts, masks and restarts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values


def ascend(formulation, values, steps=1):
    dual = formulation.init(values.violation.size)
    for _ in range(steps):
        dual = formulation.update_multipliers(values, dual)
    return dual.multipliers


@pytest.mark.parametrize(
    ("equality", "bound", "expected"),
    [
        (False, np.inf, [0.7, 0.0, 0.3]),
        (True, np.inf, [0.7, -0.4, 0.3]),
        (True, 0.2, [0.2, -0.2, 0.2]),
        (False, 0.2, [0.2, 0.0, 0.2]),
        ([False, True, False], 0.35, [0.35, -0.35, 0.3]),
        (True, [0.5, 0.3, 0.1], [0.5, -0.3, 0.1]),
    ],
)
def test_a_step_by_hand(equality, bound, expected):
    values = constraint_values(
        jnp.array([4.0, -5.0, 9.0]),
        violation_mask=jnp.array([True, True, False]),
        equality=np.array(equality),
    )
    start = jnp.array([0.3, 0.1, 0.3])
    bound = jnp.array(bound) if isinstance(bound, list) else bound
    formulation = lagrangian.gradient_ascent(optax.sgd(0.1), start=start, bound=bound)
    np.testing.assert_allclose(ascend(formulation, values), expected, atol=1e-6)


def test_start_may_be_one_number_or_one_per_constraint():
    start = jnp.array([1.0, 2, 3])
    one = lagrangian.gradient_ascent(optax.sgd(1.0), start=2.5).init(3)
    each = lagrangian.gradient_ascent(optax.sgd(1.0), start=start).init(3)
    np.testing.assert_array_equal(one.multipliers, [2.5, 2.5, 2.5])
    np.testing.assert_array_equal(each.multipliers, start)
    assert lagrangian.gradient_ascent(optax.sgd(1.0)).init(0).multipliers.shape == (0,)


def test_momentum_goes_on_where_nothing_is_observed():
    formulation = lagrangian.gradient_ascent(optax.sgd(0.1, momentum=0.5))
    dual = formulation.init(2)
    seen = constraint_values(jnp.array([1.0, 1.0]))
    dual = formulation.update_multipliers(seen, dual)
    half = seen._replace(violation_mask=jnp.array([True, False]))
    dual = formulation.update_multipliers(half, dual)
    np.testing.assert_allclose(dual.multipliers, [0.1 + 0.15, 0.1 + 0.05], rtol=1e-6)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        (None, [1.8, 1.7, 2.1, 2.0, 1.8, 2.0]),
        (0.0, [0.0, 0.0, 2.1, 2.0, 1.8, 0.0]),
        (2.0, [1.8, 0.0, 2.1, 2.0, 1.8, 2.0]),
        (2.5, [1.8, 0.0, 2.1, 2.0, 1.8, 2.0]),
        (3.1, [1.8, 1.7, 2.1, 2.0, 1.8, 2.0]),
    ],
)
def test_restart_by_hand(confidence, expected):
    """Inequalities that hold, one violated, one that is not observed, an equality, one at 0."""
    values = constraint_values(
        jnp.array([-2.0, -3.0, 1.0, -2.0, -2.0, 0.0]),
        violation_mask=jnp.array([True, True, True, False, True, True]),
        equality=jnp.array([False, False, False, False, True, False]),
        deviation=jnp.array([1.5, 1.0, 0.0, 0.0, 0.0, 1.0]),
    )
    options = {} if confidence is None else {"restart": True, "restart_confidence": confidence}
    formulation = lagrangian.gradient_ascent(optax.sgd(0.1), start=2.0, **options)
    np.testing.assert_allclose(ascend(formulation, values), expected, rtol=1e-6)


def test_an_adaptive_optimizer_receives_the_negative_violation():
    values = constraint_values(jnp.array([1e-3, -1e3, 10.0]))
    formulation = lagrangian.gradient_ascent(optax.adam(0.1), start=1.0)
    np.testing.assert_allclose(ascend(formulation, values, 3), [1.3, 0.7, 1.3], atol=1e-3)


def test_no_gradient_flows_through_multipliers_or_their_step():
    formulation = lagrangian.gradient_ascent(optax.sgd(1.0))

    def value(params):
        values = constraint_values(params, proxy=jnp.ones(2))
        return formulation.penalty_term(
            values, formulation.update_multipliers(values, formulation.init(2))
        )

    np.testing.assert_array_equal(jax.grad(value)(jnp.array([1.0, 2.0])), [0, 0])


def test_step_by_schedule():
    formulation = lagrangian.gradient_ascent(optax.sgd(lambda step: 1.0 / (step + 1)))
    found = ascend(formulation, constraint_values(jnp.array([6.0])), 3)
    np.testing.assert_allclose(found, [6 + 3 + 2], rtol=1e-6)
