"""Gradients of every formulation by finite differences; masks; named sets; what is accepted."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.lagrangian import OVERALL_TERMS
from bap_jax.lagrangian.formulations import as_formulation, named
from tests.covering import every_pair

START = np.array([0.5, 0.0, 1.2, 0.8])
ROWS = np.array([[1.0, -2, 0.5], [0.3, 1, 1], [-1, 0.2, 2], [0.1, -0.4, -0.3]])
SHARE = np.array([1.0, -0.5, 0.7])
POINT = np.array([-0.6, 0.5, 0.4])
EQUALITIES = {"inequality": False, "equality": True, "mixed": np.array([True, False] * 2)}
MASKS = {"all": np.ones(4, bool), "some": np.array([True, True, False, True])}


def build(name, term):
    return {
        "ascent": lambda: lagrangian.gradient_ascent(optax.sgd(1), start=START, overall_term=term),
        "augmented": lambda: lagrangian.augmented(0.7, start=START, overall_term=term),
        "penalty": lambda: lagrangian.quadratic_penalty(0.7, overall_term=term),
        "exponentiated": lambda: lagrangian.exponentiated_gradient(1.0),
    }[name]()


def own_part(params):
    return jnp.sin(ROWS @ params) + 0.3 * jnp.sum(params**2)


def overall_part(params):
    return jnp.exp(SHARE @ params)


def values_at(params, mask, equality):
    """Four curved constraints minus a shared curved part, with tolerances."""
    return constraint_values(
        jnp.full(4, jnp.nan),
        own_part(params) - overall_part(params),
        proxy_mask=mask,
        overall=overall_part(params),
        tolerance=np.array([0.1, -0.4, 0.2, -1.5]),
        equality=equality,
    )


@pytest.mark.parametrize(
    ("name", "equality", "mask"),
    every_pair(
        itertools.product(["ascent", "augmented", "penalty", "exponentiated"], EQUALITIES, MASKS)
    ),
)
def test_full_gradient_by_finite_differences(name, equality, mask):
    formulation = build(name, "full")
    with jax.enable_x64(True):
        dual = formulation.init(4)

        def value(params):
            return formulation.penalty_term(
                values_at(params, MASKS[mask], EQUALITIES[equality]), dual
            )

        assert np.abs(jax.grad(value)(POINT)).max() > 1e-2
        check_grads(value, (POINT,), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)


def weights_by_hand(name, values):
    """The weight of each proxy."""
    excess = values.proxy - values.tolerance
    shifted = {"ascent": START, "augmented": START + 0.7 * excess, "penalty": 0.7 * excess}[name]
    if name != "ascent":
        shifted = np.where(values.equality, shifted, np.maximum(shifted, 0))
    return np.where(values.proxy_mask, shifted, 0)


@pytest.mark.parametrize(
    ("name", "equality", "mask", "term"),
    every_pair(
        itertools.product(["ascent", "augmented", "penalty"], EQUALITIES, MASKS, OVERALL_TERMS)
    ),
)
def test_gradient_is_a_weighted_sum(name, equality, mask, term):
    """Σ_c W_c ∇(own part) minus the kept share of Σ W times ∇(overall part)."""
    formulation = build(name, term)
    with jax.enable_x64(True):
        dual = formulation.init(4)
        at = [MASKS[mask], EQUALITIES[equality]]
        found = jax.grad(lambda params: formulation.penalty_term(values_at(params, *at), dual))(
            POINT
        )
        weights = weights_by_hand(name, values_at(POINT, *at))
        total = weights.sum()
        kept = {"full": total, "detached": 0.0, "clipped": min(total, 1.0)}[term]
        own, overall = jax.jacobian(own_part)(POINT), jax.jacobian(overall_part)(POINT)
        np.testing.assert_allclose(found, weights @ own - kept * overall, rtol=1e-9)


@pytest.mark.parametrize("term", OVERALL_TERMS)
@pytest.mark.parametrize("name", ["ascent", "augmented", "penalty", "exponentiated"])
def test_values_that_were_not_observed_may_be_nan(name, term):
    formulation = build(name, term)
    mask = np.array([True, False, True, False])
    hole = np.where(mask, 0.0, np.nan)

    def both(params):
        values = constraint_values(
            params + hole, violation_mask=mask, proxy_mask=mask, overall=params.sum()
        )
        dual = formulation.update_multipliers(values, formulation.init(4))
        return formulation.penalty_term(values, dual), dual

    gradient, dual = jax.grad(both, has_aux=True)(jnp.array([1.0, 2.0, -3.0, 4.0]))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dual))


def test_named_sets_add_up():
    formulations = {
        "a": lagrangian.gradient_ascent(optax.sgd(0.5)),
        "b": lagrangian.augmented(2.0, growth=1.0),
    }
    both = named(formulations)
    values = {
        "b": constraint_values(jnp.array([1.0, -1.0])),
        "a": constraint_values(jnp.array([3.0, 2.0, 1.0])),
    }
    dual = both.update_multipliers(values, both.init({"a": 3, "b": 2}))
    np.testing.assert_allclose(dual["a"].multipliers, [1.5, 1.0, 0.5])
    np.testing.assert_allclose(dual["b"].multipliers, [2.0, 0.0])
    parts = [formulations[name].penalty_term(values[name], dual[name]) for name in "ab"]
    np.testing.assert_allclose(both.penalty_term(values, dual), sum(parts), rtol=1e-6)
    np.testing.assert_allclose(parts[0], 1.5 * 3 + 1 * 2 + 0.5, rtol=1e-6)


def test_optimisers_and_dicts_of_them_are_formulations():
    values = {"a": constraint_values(jnp.array([3.0])), "b": constraint_values(jnp.array([2.0]))}
    given = as_formulation({"a": optax.sgd(0.5), "b": lagrangian.augmented(1.0)})
    dual = given.update_multipliers(values, given.init({"a": 1, "b": 1}))
    assert (dual["a"].multipliers, dual["b"].multipliers) == (1.5, 2.0)
    assert as_formulation(given) is given
