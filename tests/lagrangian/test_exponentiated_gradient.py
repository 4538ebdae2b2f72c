"""Multipliers on the simplex."""

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values


def test_steps_by_hand():
    """q ∝ exp of the summed violations; violations that are not observed add nothing."""
    formulation = lagrangian.exponentiated_gradient(0.5)
    dual = formulation.init(3)
    np.testing.assert_allclose(dual.multipliers, np.full(3, 1 / 3), rtol=1e-6)
    seen = constraint_values(
        jnp.array([1.0, -2.0, jnp.nan]), violation_mask=jnp.array([True, True, False])
    )
    for _ in range(2):
        dual = formulation.update_multipliers(seen, dual)
    expected = np.exp([1.0, -2.0, 0.0])
    np.testing.assert_allclose(dual.multipliers, expected / expected.sum(), rtol=1e-6)


def test_sums_to_one_and_recovers_after_ten_thousand_large_steps():
    formulation = lagrangian.exponentiated_gradient(10.0)

    def drive(dual, violation):
        def body(dual, _):
            return formulation.update_multipliers(constraint_values(violation), dual), None

        return jax.lax.scan(body, dual, length=10_000)[0]

    away = drive(formulation.init(3), jnp.array([3.0, -5.0, 2.0]))
    np.testing.assert_array_equal(away.multipliers, [1.0, 0.0, 0.0])
    assert np.isfinite(away.memory).all()
    back = drive(away, jnp.array([-3.0, 5.0, -2.0]))
    np.testing.assert_allclose(back.multipliers.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(back.multipliers, np.full(3, 1 / 3), atol=0.1)


def test_weights_are_renormalised_over_the_groups_present():
    formulation = lagrangian.exponentiated_gradient(1.0)
    dual = formulation.update_multipliers(
        constraint_values(jnp.log(jnp.array([1.0, 2, 5]))), formulation.init(3)
    )

    def weights(mask):
        values = constraint_values(jnp.zeros(3), proxy_mask=jnp.array(mask))
        return jax.grad(lambda h: formulation.penalty_term(values._replace(proxy=h), dual))(
            jnp.zeros(3)
        )

    np.testing.assert_allclose(weights([True] * 3), [1 / 8, 2 / 8, 5 / 8], rtol=1e-6)
    np.testing.assert_allclose(weights([True, True, False]), [1 / 3, 2 / 3, 0], rtol=1e-6)
    np.testing.assert_array_equal(weights([False] * 3), [0, 0, 0])


def test_weights_add_up_to_one_even_if_the_groups_present_have_almost_no_weight():
    """Two groups with far less weight than a third, which the batch lacks."""
    formulation = lagrangian.exponentiated_gradient(1.0)
    dual = formulation.update_multipliers(
        constraint_values(jnp.array([0.0, 0.0, 300.0])), formulation.init(3)
    )
    values = constraint_values(jnp.zeros(3), proxy_mask=jnp.array([True, True, False]))
    weights = jax.grad(lambda h: formulation.penalty_term(values._replace(proxy=h), dual))(
        jnp.zeros(3)
    )
    np.testing.assert_allclose(weights, [0.5, 0.5, 0], rtol=1e-6)


def test_without_constraints():
    formulation = lagrangian.exponentiated_gradient(1.0)
    none = constraint_values(jnp.zeros((0,)))
    dual = formulation.update_multipliers(none, formulation.init(0))
    assert dual.multipliers.shape == (0,) and formulation.penalty_term(none, dual) == 0
