"""Multipliers of `auto` where there is nothing to do, or where the units are those of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values


def after(values, steps):
    formulation = lagrangian.auto()
    start = formulation.init(jnp.size(values.violation))
    step = lambda dual, _: (formulation.update_multipliers(values, dual), None)  # noqa: E731
    return jax.lax.scan(step, start, length=steps)[0]


@pytest.mark.parametrize(
    ("violation", "equality"), [(-1.0, False), (0.0, False), (0.0, True), (0.3, False), (0.3, True)]
)
def test_nothing_ever_moves(violation, equality):
    """Neither objective nor constraint answers, for longer than powers of 2 have an exponent."""
    dual = after(constraint_values(jnp.array([violation]), equality=equality), 400)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dual))
    assert (dual.multipliers[0] > 0) == (violation > 0)


def test_a_start_within_the_bound_leaves_the_unit_small():
    """Where a constraint holds for long, its first violation is not met by a huge multiplier."""
    held = after(constraint_values(jnp.array([-1.0])), 300)
    fresh = lagrangian.auto().init(1)
    assert held.memory.measured.fallback == fresh.memory.measured.fallback


def test_units_of_other_constraints_are_not_used():
    """As in a method that takes the largest of another one's violations."""
    many = constraint_values(
        jnp.array([-0.2, 0.3]),
        unit=jnp.array([0.4, 0.6]),
        reach=jnp.full(2, 0.1),
        directness=jnp.full(2, 0.3),
    )
    largest = many._replace(
        violation=jnp.array([0.3]),
        proxy=jnp.array([0.3]),
        violation_mask=jnp.array([True]),
        proxy_mask=jnp.array([True]),
        deviation=jnp.full(2, 0.1),
        tolerance=0.01,
    )
    plain = constraint_values(jnp.array([0.3]))
    found, expected = (after(values, 3) for values in (largest, plain))
    np.testing.assert_array_equal(found.multipliers, expected.multipliers)
    assert found.multipliers > 0
