"""Units of multipliers and violations that a problem does not name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.lagrangian import measured_units

STEPS, SIZE = 300, 2
KEPT = 1 - measured_units._FADING


def stream(seed=0, steps=STEPS):
    """Objective `(step,)`, violations and proxies `(step, constraint)`: random walks."""
    moves = np.random.default_rng(seed).normal(size=(steps, 1 + 2 * SIZE))
    walks = moves.cumsum(0).astype(np.float32) / 8
    return walks[:, 0], walks[:, 1 : 1 + SIZE], walks[:, 1 + SIZE :]


@jax.jit
def measured(objective, violation, proxy, mask):
    """What was measured after every step."""

    def body(state, seen):
        objective, violation, proxy, mask = seen
        values = constraint_values(violation, proxy, objective=objective)
        state = measured_units.measure(state, values, mask)
        return state, state

    seen = (objective, violation, proxy, mask)
    return jax.lax.scan(body, measured_units.init(SIZE), seen)[1]


def after(objective, violation, proxy, mask=None):
    mask = np.ones(violation.shape, bool) if mask is None else mask
    return measured(*map(jnp.asarray, (objective, violation, proxy, mask)))


def test_units_by_hand():
    """F and H_c add up changes, of which old ones make room for new ones; r_c is the largest mean
    size of v_c."""
    objective, violation, proxy = stream()
    found = after(objective, violation, proxy)
    path, way, size, largest = 0.0, np.zeros(SIZE), np.abs(violation[0]), np.abs(violation[0])
    for t in range(1, STEPS):
        path = max(path, KEPT * path + abs(objective[t] - objective[t - 1]))
        way = np.maximum(way, KEPT * way + np.abs(proxy[t] - proxy[t - 1]))
        size = size + measured_units._SMOOTHING * (np.abs(violation[t]) - size)
        largest = np.maximum(largest, size)
    last = jax.tree.map(lambda leaf: leaf[-1], found)
    np.testing.assert_allclose(measured_units.unit_of_violations(last), largest, rtol=1e-4)
    expected = path / np.maximum(way, largest)
    np.testing.assert_allclose(measured_units.unit_of_multipliers(last), expected, rtol=1e-3)


def test_a_constraint_that_is_seldom_seen_has_the_unit_of_one_that_always_is():
    """f and h_1 are compared with what they were when h_1 was seen last."""
    way = np.linspace(0, 50, STEPS)
    mask = np.stack([np.ones(STEPS, bool), np.arange(STEPS) % 20 == 0], axis=-1)
    found = after(way, np.full((STEPS, SIZE), 0.1), np.stack([way / 3] * 2, axis=-1), mask)
    last = jax.tree.map(lambda leaf: leaf[-1], found)
    np.testing.assert_allclose(measured_units.unit_of_multipliers(last), [3, 3], rtol=0.02)


def test_the_unit_of_violations_is_their_size():
    found = after(np.arange(9.0), np.tile([[0.25, -4.0]], (9, 1)), np.zeros((9, 2)))
    units = measured_units.unit_of_violations(found)
    np.testing.assert_allclose(units, np.tile([[0.25, 4.0]], (9, 1)), rtol=1e-6)


def test_a_violation_that_falls_keeps_its_unit():
    violation = np.geomspace(8, 1e-3, STEPS)[:, None] * np.ones((1, SIZE))
    found = after(np.zeros(STEPS), violation, violation)
    np.testing.assert_allclose(measured_units.unit_of_violations(found), 8, rtol=1e-5)


def test_the_unit_of_multipliers_is_the_change_of_the_objective_for_one_of_the_proxy():
    """f = 3 h_0 = −6 h_1 along the way, which is long in comparison with r_c."""
    way = np.linspace(0, 50, STEPS)
    proxy = np.stack([way / 3, -way / 6], axis=-1)
    found = after(way, np.full((STEPS, SIZE), 0.1), proxy)
    last = jax.tree.map(lambda leaf: leaf[-1], found)
    np.testing.assert_allclose(measured_units.unit_of_multipliers(last), [3, 6], rtol=0.02)


def test_the_gain_follows_the_speed_of_violations():
    """κ = 5 · speed / size, between its limits."""
    last = jax.tree.map(lambda leaf: leaf[-1], after(*stream()))
    for rate in (0.0, 1e-5, 0.001, 0.003, 0.1, 1e9):
        given = last._replace(size=jnp.full(SIZE, 4.0), speed=jnp.full(SIZE, 4.0 * rate))
        expected = np.clip(
            measured_units._PER_SPEED * rate,
            measured_units._LEAST_GAIN,
            measured_units._MOST_GAIN,
        )
        np.testing.assert_allclose(measured_units.integral_gain(given), expected, rtol=1e-5)


def test_noise_leaves_the_unit_alone_and_alternating_steps_raise_it():
    signs = np.stack([np.random.default_rng(0).choice([-1, 1], STEPS), (-1) ** np.arange(STEPS)])
    violation = signs.T.astype(np.float32)
    found = measured_units.unit_of_violations(after(np.arange(STEPS), violation, violation))
    assert found[-1, 0] < 1.5 and found[-1, 1] > 100
    np.testing.assert_allclose(found[:24, 1], 1, rtol=1e-3)  # not at once


def test_the_fallback_doubles_until_a_violated_constraint_responds():
    violation = np.ones((200, SIZE), np.float32)
    still = np.zeros(200)
    start = float(measured_units.init(SIZE).fallback)
    found = after(still, violation, violation).fallback
    np.testing.assert_allclose(found[:60], start * 2.0 ** np.arange(60), rtol=1e-6)
    moving = violation - 0.05 * np.arange(200)[:, None].clip(50, 52)
    found = after(still, moving, moving).fallback
    np.testing.assert_array_equal(found[55:], np.broadcast_to(found[55], 145))
    satisfied = after(still, -violation, -violation).fallback
    np.testing.assert_allclose(satisfied, start)


def test_what_is_not_observed_stays():
    objective, violation, proxy = stream()
    mask = np.ones((STEPS, SIZE), bool)
    mask[100:200, 1] = False
    found = after(objective, violation, proxy, mask)
    for leaf in jax.tree.leaves(found):
        if leaf.shape == (STEPS, SIZE):
            np.testing.assert_array_equal(leaf[100:200, 1], np.broadcast_to(leaf[99, 1], 100))


@functools.partial(jax.jit, static_argnums=3)
def exponents(objective, violation, proxy, equality):
    """Integral parts and multipliers of every step."""
    formulation = lagrangian.auto()

    def body(dual, seen):
        objective, violation, proxy = seen
        values = constraint_values(violation, proxy, objective=objective, equality=equality)
        dual = formulation.update_multipliers(values, dual)
        return dual, (dual.memory.integral, dual.multipliers)

    return jax.lax.scan(body, formulation.init(SIZE), (objective, violation, proxy))[1]


@pytest.mark.parametrize("equality", [False, True])
@pytest.mark.parametrize("objective_power", [-20, 0, 20])
@pytest.mark.parametrize("constraint_power", [-20, 0, 20])
def test_powers_of_two_scale_multipliers_bit_by_bit(equality, objective_power, constraint_power):
    """z is the same, and λ counted in the objective for a constraint."""
    objective, violation, proxy = stream()
    of_objective, of_constraint = (
        np.float32(2.0**objective_power),
        np.float32(2.0**constraint_power),
    )
    plain = exponents(objective, violation, proxy, equality)
    found = exponents(
        of_objective * objective, of_constraint * violation, of_constraint * proxy, equality
    )
    np.testing.assert_array_equal(found[0], plain[0])
    in_units = found[1] * (of_constraint / of_objective)
    np.testing.assert_array_equal(in_units[1:], plain[1][1:])  # nothing is measured in one step
    assert np.abs(plain[1]).max() > 0


def test_vmap_over_members_is_a_loop():
    members = [stream(seed, 40) for seed in range(3)]
    stacked = [np.stack(parts) for parts in zip(*members, strict=True)]
    mapped = jax.vmap(after)(*map(jnp.asarray, stacked))
    for member, one in enumerate(members):
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(after(*one)), strict=True):
            np.testing.assert_allclose(a[member], b, rtol=1e-6)
