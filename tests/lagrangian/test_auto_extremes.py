"""Multipliers that need no tuning stay finite and within their bounds, whatever they see."""

import functools
import math

import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values

STEPS, SIZE = 6, 3
LARGE = float(np.finfo(np.float32).max)
EXTREMES = [0.0, 1e-45, 1e-38, 1e-30, 1e-20, 0.01, 1.0, 1e20, 1e30, LARGE]
EXTREMES = st.sampled_from([sign * one for one in EXTREMES for sign in (1, -1)])
ANY = EXTREMES | st.floats(width=32, allow_nan=False, allow_infinity=False)
POSITIVE = ANY.map(abs)
MODERATE = st.floats(-10, 10, width=32)


def some(elements, *shape):
    return arrays.arrays(np.float32, shape, elements=elements)


@functools.partial(jax.jit, static_argnames=("equality", "named_units"))
def path(violation, proxy, objective, mask, fields, bound, equality, named_units=False):
    """State after every step."""
    formulation = lagrangian.auto(bound=bound, named_units=named_units)

    def body(dual, seen):
        violation, proxy, mask, objective = seen
        values = constraint_values(
            violation, proxy, violation_mask=mask, equality=equality, objective=objective, **fields
        )
        dual = formulation.update_multipliers(values, dual)
        term = formulation.penalty_term(values._replace(proxy=jnp.sign(proxy)), dual)
        return dual, (dual, formulation.total_weight(dual), term)

    steps = (violation, proxy, mask, objective)
    return jax.lax.scan(body, formulation.init(SIZE), steps)[1]


def check(violation, proxy, objective, mask, fields, bound, equality, named_units=False):
    states, total, term = path(
        violation, proxy, objective, mask, fields, bound, equality, named_units
    )
    for leaf in jax.tree.leaves((states, term)):
        assert np.isfinite(leaf).all()
    assert (np.abs(states.multipliers) <= bound).all()
    if not equality:
        assert (states.multipliers >= 0).all()
    limit = lagrangian.LONGEST_STEP
    assert ((total >= 1) & (total <= limit * 1.0001) | np.isinf(total)).all()


FIELDS = st.fixed_dictionaries(
    {name: some(POSITIVE, SIZE) for name in ("unit", "reach", "tolerance", "deviation")}
)
STREAMS = (some(ANY, STEPS, SIZE), some(ANY, STEPS, SIZE), some(ANY, STEPS))
MASK = arrays.arrays(bool, (STEPS, SIZE))


@pytest.mark.parametrize("named_units", [False, True])
@pytest.mark.parametrize("equality", [False, True])
@settings(max_examples=50, deadline=None)
@given(*STREAMS, MASK, FIELDS, POSITIVE | st.just(np.inf))
def test_finite_and_within_bounds(
    equality, named_units, violation, proxy, objective, mask, fields, bound
):
    """Also where what is called named is 0, as a KL divergence limited to 0 may be."""
    bound = np.float32(bound)
    check(violation, proxy, objective, mask, fields, bound, equality, named_units)


@pytest.mark.parametrize("equality", [False, True])
@settings(max_examples=50, deadline=None)
@given(*STREAMS, MASK)
def test_finite_without_units(equality, violation, proxy, objective, mask):
    fields = {name: np.zeros(SIZE, np.float32) for name in ("unit", "reach")}
    check(violation, proxy, objective, mask, fields, np.float32(np.inf), equality)


@pytest.mark.parametrize("violation", [-1.0, 0.0, 1.0, 1e-30, -1e30, LARGE, "alternating"])
@pytest.mark.parametrize("unit", [0.0, 0.5])
@pytest.mark.parametrize("equality", [False, True])
def test_what_never_changes_for_thousands_of_steps(violation, unit, equality):
    """Where neither objective nor constraint respond, nothing is ever found out about units."""
    steps = 5000
    alternating = np.where(np.arange(steps) % 2, 1, -1)
    stream = alternating if violation == "alternating" else np.full(steps, violation)
    stream = np.repeat(stream[:, None].astype(np.float32), SIZE, 1)
    fields = {"unit": np.full(SIZE, unit, np.float32)}
    mask, objective = np.ones((steps, SIZE), bool), np.zeros(steps, np.float32)
    check(stream, stream, objective, mask, fields, np.float32(np.inf), equality)


@settings(max_examples=50, deadline=None)
@given(
    some(MODERATE, STEPS, SIZE),
    some(POSITIVE, STEPS, SIZE),
    FIELDS,
    st.sampled_from([math.inf, 0.3, 0.02]),
)
def test_a_larger_violation_gives_no_smaller_multiplier(violation, more, fields, bound):
    """With units that are named: at every step, whatever came before."""
    fields["unit"], fields["reach"] = np.full((2, SIZE), 0.1, np.float32)
    larger = np.minimum(violation + more, np.float32(LARGE))
    mask, objective = np.ones((STEPS, SIZE), bool), np.zeros(STEPS, np.float32)
    low, high = (
        path(v, v, objective, mask, fields, np.float32(bound), False)[0].multipliers
        for v in (violation, larger)
    )
    assert (low <= high).all()
