"""A violation may be a bool or a whole number: met or not, or how many are not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import ConstraintValues, constraint_values
from bap_jax.lagrangian import SCHEMES, Evaluation, build_scheme

PARAMS = {"w": jnp.array([0.5, 0.1])}
KINDS = {"bool": bool, "int": jnp.int32, "uint8": jnp.uint8}
FORMULATIONS = {
    "ascent": lagrangian.gradient_ascent(optax.sgd(0.1)),
    "adam": lagrangian.gradient_ascent(optax.adam(0.1)),
    "nu_pi": lagrangian.gradient_ascent(lagrangian.nu_pi(0.1, 0.5)),
    "restart": lagrangian.gradient_ascent(optax.sgd(0.1), restart=True),
    "augmented": lagrangian.augmented(1.0),
    "penalty": lagrangian.quadratic_penalty(1.0),
    "simplex": lagrangian.exponentiated_gradient(0.1),
}


def plainly(violation, proxy):
    """Without `constraint_values`, as a user may write it."""
    mask = jnp.ones(2, bool)
    return ConstraintValues(violation, proxy, mask, mask)


def problem(kind, make=constraint_values):
    def evaluate(params):
        violation = (params["w"] > 0.3).astype(kind)
        return Evaluation(jnp.sum((params["w"] - 1) ** 2), make(violation, params["w"] - 0.3))

    return evaluate


def moved(scheme, formulation, kind, make=constraint_values):
    made = build_scheme(scheme, optax.sgd(0.1), FORMULATIONS[formulation])
    state = made.init(PARAMS, 2)
    return made.update(problem(kind, make), PARAMS, state)[:2]


def assert_same(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_every_formulation_takes_them_as_numbers(formulation, kind):
    found = moved("dual_primal", formulation, KINDS[kind])
    assert_same(found, moved("dual_primal", formulation, float))


@pytest.mark.parametrize("make", [constraint_values, plainly])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_takes_them_as_numbers(scheme, make):
    assert_same(moved(scheme, "ascent", bool, make), moved(scheme, "ascent", float))


def test_the_multiplier_of_what_is_violated_rises():
    _, state = moved("dual_primal", "ascent", bool)
    np.testing.assert_allclose(state.multipliers, [0.1, 0])


def test_a_bool_alone():
    values = constraint_values(jnp.array([True, False]))
    assert values.violation.tolist() == values.proxy.tolist() == [1.0, 0.0]
    assert values.violation.dtype == jnp.float32
    assert constraint_values(jnp.bool_(True)).violation.tolist() == [1.0]
    formulation = FORMULATIONS["ascent"]
    dual = formulation.update_multipliers(
        plainly(values.violation > 0, values.proxy), formulation.init(2)
    )
    np.testing.assert_allclose(dual.multipliers, [0.1, 0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_floats_stay_as_they_are(dtype):
    assert constraint_values(jnp.ones(2, dtype)).violation.dtype == dtype
