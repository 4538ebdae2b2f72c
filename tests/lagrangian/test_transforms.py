"""Transforms of multipliers, against numbers worked out by hand; they receive −v."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values

ALL = (True, True)
# Violations of two constraints and which were observed: the second is first observed in step 2, the
# first is not observed in step 2. Entries that were not observed hold values that must not be used.
STEPS = [
    ([1.0, 9.0], (True, False)),
    ([3.0, 9.0], (True, False)),
    ([-7.0, 4.0], (False, True)),
    ([2.0, 0.0], ALL),
    ([2.0, -2.0], ALL),
]
# ξ of the first: 1, 2, (2), 2, 2; of the second, from its own first value: 4, 2, 0.
NU_PI = [[1, 0], [3 + 2 * 1, 0], [0, 4], [2, 0 + 2 * -2], [2, -2 + 2 * -2]]


def directions(transform, steps=STEPS):
    """`(step, constraint)` direction of the multipliers."""
    state, found = transform.init(jnp.zeros(2)), []
    for violation, observed in steps:
        update, state = transform.update(-jnp.array(violation), state, observed=np.array(observed))
        found.append(-np.asarray(update))
    return np.array(found)


def test_nu_pi_by_hand():
    transform = lagrangian.scale_by_nu_pi(nu=0.5, proportional=2.0, integral=1.0)
    np.testing.assert_array_equal(directions(transform), NU_PI)


def test_negative_nu_by_hand():
    """ξ: 1, −.5 + 1.5 · 3 = 4; directions 2, 2 · 3 + 3."""
    transform = lagrangian.scale_by_nu_pi(nu=-0.5, proportional=1.0, integral=2.0)
    found = directions(transform, [([1.0, 1], ALL), ([3.0, 1], ALL)])
    np.testing.assert_array_equal(found, [[2, 2], [9, 2]])


def test_multipliers_follow_nu_pi_and_a_gap_in_the_observations_changes_nothing():
    formulation = lagrangian.gradient_ascent(lagrangian.nu_pi(0.1, 0.5, 2.0, 1.0), start=1.0)
    dual, expected = formulation.init(2), np.ones(2)
    for (violation, observed), direction in zip(STEPS, NU_PI, strict=True):
        seen = constraint_values(jnp.array(violation), violation_mask=jnp.array(observed))
        dual = formulation.update_multipliers(seen, dual)
        expected = np.maximum(expected + 0.1 * np.array(direction), 0)
        np.testing.assert_allclose(dual.multipliers, expected, rtol=1e-6)


def test_values_that_were_not_observed_may_be_nan():
    steps = [([1.0, np.nan], (True, False)), ([np.nan, 2.0], (False, True)), ([3.0, 3.0], ALL)]
    formulation = lagrangian.gradient_ascent(lagrangian.nu_pi(1.0, 0.0, 1.0, 1.0))
    dual = formulation.init(2)
    for violation, observed in steps:
        values = constraint_values(jnp.array(violation), violation_mask=jnp.array(observed))
        dual = formulation.update_multipliers(values, dual)
    np.testing.assert_array_equal(dual.multipliers, [1 + 3 + 2, 2 + 3 + 1])


def test_without_proportional_part_it_is_gradient_ascent():
    found = directions(lagrangian.scale_by_nu_pi(nu=0.0, proportional=0.0, integral=1.0))
    expected = [np.where(observed, violation, 0) for violation, observed in STEPS]
    np.testing.assert_array_equal(found, expected)


def test_with_equal_parts_it_is_optimistic():
    """The multipliers of `optimistic`, for violations that do not depend on the weights."""

    def problem(params, violation, observed):
        values = constraint_values(violation, violation_mask=observed)
        return lagrangian.Evaluation(params**2, values)

    plain = lagrangian.gradient_ascent(optax.sgd(0.1), start=1.0)
    corrected = lagrangian.gradient_ascent(lagrangian.nu_pi(0.1, 0.0, 0.7, 0.7), start=1.0)
    schemes = [
        lagrangian.optimistic(optax.sgd(0.1), plain),
        lagrangian.simultaneous(optax.sgd(0.1), corrected),
    ]
    params = [jnp.ones(())] * 2
    states = [scheme.init(jnp.ones(()), 2) for scheme in schemes]
    for violation, observed in STEPS:
        for i, scheme in enumerate(schemes):
            scale = (1.0, 1 / 0.7)[i]
            inputs = (scale * jnp.array(violation), jnp.array(observed))
            params[i], states[i], _ = scheme.update(problem, params[i], states[i], *inputs)
        np.testing.assert_allclose(states[0].multipliers, states[1].multipliers, rtol=1e-6)
    assert (states[0].multipliers > 0).all()


def test_nu_pi_takes_trees_and_no_mask():
    transform = lagrangian.scale_by_nu_pi(nu=0.0)
    state = transform.init({"a": jnp.zeros(1), "b": jnp.zeros(2)})
    for value, expected in ((1.0, 1.0), (3.0, 5.0)):
        update, state = transform.update({"a": jnp.full(1, value), "b": jnp.full(2, value)}, state)
        np.testing.assert_array_equal(update["a"], [expected])
        np.testing.assert_array_equal(update["b"], [expected, expected])


def test_nu_pi_follows_a_schedule():
    """With the learning rate applied it is an update of the multipliers, not a gradient."""
    transform = lagrangian.nu_pi(lambda step: 1.0 / (step + 1), 0.0, 0.0, 1.0)
    found = directions(transform, [([6.0, 3], ALL)] * 3)
    np.testing.assert_allclose(-found, [[6, 3], [3, 1.5], [2, 1]])


@pytest.mark.parametrize(
    ("dampening", "expected"), [(0.5, [1.0, 1.5, 2.75]), (0.0, [1.0, 2.5, 5.25])]
)
def test_dampened_momentum_by_hand(dampening, expected):
    transform = lagrangian.dampened_momentum(0.5, dampening)
    state, found = transform.init(jnp.zeros(1)), []
    for gradient in (1.0, 2.0, 4.0):
        update, state = transform.update(jnp.array([gradient]), state)
        found.append(float(update[0]))
    assert found == expected
