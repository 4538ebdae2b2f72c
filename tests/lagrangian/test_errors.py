"""Mistakes are found before anything runs, and the message says what to write instead."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.errors import UserError
from bap_jax.lagrangian import SCHEMES

SGD = optax.sgd(0.1)
PARAMS = jnp.ones(3)


def unnamed(params):
    return lagrangian.Evaluation(params.sum(), constraint_values(params))


def sets(**sizes):
    """A problem with named sets of constraints of these sizes."""

    def problem(params):
        values = {name: constraint_values(params[:size]) for name, size in sizes.items()}
        return lagrangian.Evaluation(params.sum(), values)

    return problem


def update(scheme, problem, sizes, formulation=SGD):
    scheme = lagrangian.build_scheme(scheme, SGD, formulation)
    return scheme.update(problem, PARAMS, scheme.init(PARAMS, sizes))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_wrong_number_of_constraints(scheme):
    expected = r"initialised for constraints of shape \(2,\).*violations of shape \(3,\)"
    with pytest.raises(UserError, match=expected):
        update(scheme, unnamed, 2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_wrong_number_of_named_constraints(scheme):
    expected = r"constraints of 'b' of shape \(2,\).*violations of shape \(1,\)"
    with pytest.raises(UserError, match=expected):
        update(scheme, sets(a=1, b=1), {"a": 1, "b": 2}, {"a": SGD, "b": SGD})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_named_values_for_an_unnamed_scheme(scheme):
    with pytest.raises(UserError, match="several named sets.*dict of formulations.*dict of sizes"):
        update(scheme, sets(a=3), 3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_unnamed_values_for_a_named_scheme(scheme):
    with pytest.raises(UserError, match="dict of named constraint values; got one unnamed set"):
        update(scheme, unnamed, {"a": 3}, {"a": SGD})


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("found", [{"a": 1, "c": 1}, {"a": 1}, {"a": 1, "b": 1, "c": 1}])
def test_values_with_wrong_names(scheme, found):
    with pytest.raises(UserError, match="a, b.*got"):
        update(scheme, sets(**found), {"a": 1, "b": 1}, {"a": SGD, "b": SGD})


@pytest.mark.parametrize(
    ("sizes", "got"), [({"a": 1}, "got a"), ({"a": 1, "c": 1}, "got a, c"), (3, "got int")]
)
def test_sizes_with_wrong_names(sizes, got):
    scheme = lagrangian.dual_primal(SGD, {"a": SGD, "b": SGD})
    with pytest.raises(UserError, match=f"numbers of constraints by the names a, b; {got}"):
        scheme.init(PARAMS, sizes)


def test_unknown_scheme_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown scheme 'primal'; known schemes: simultaneous, "):
        lagrangian.build_scheme("primal", SGD, SGD)


@pytest.mark.parametrize("given", [0.1, "sgd", None, [SGD], {"a": 0.1}])
def test_an_argument_that_is_not_a_formulation(given):
    kind = "float" if isinstance(given, dict) else type(given).__name__
    with pytest.raises(UserError, match=f"expected a Formulation.*got {kind}.*optax.sgd"):
        lagrangian.dual_primal(SGD, given)


@pytest.mark.parametrize(
    "make",
    [
        lambda term: lagrangian.gradient_ascent(SGD, overall_term=term),
        lambda term: lagrangian.augmented(overall_term=term),
        lambda term: lagrangian.quadratic_penalty(1.0, overall_term=term),
        lambda term: lagrangian.switching(SGD, overall_term=term),
    ],
)
def test_unknown_overall_term_lists_the_known_ones(make):
    with pytest.raises(UserError, match="unknown overall_term 'half'.*full, detached, clipped"):
        make("half")


@pytest.mark.parametrize("penalty", [0, -1.0, float("nan"), np.float64(-2)])
def test_penalty_must_be_positive(penalty):
    with pytest.raises(UserError, match=f"penalty must be > 0; got {penalty}"):
        lagrangian.augmented(penalty)


@pytest.mark.parametrize("growth", [0.99, -1, float("nan")])
def test_growth_must_not_shrink(growth):
    with pytest.raises(UserError, match=f"growth must be a factor ≥ 1; got {growth}"):
        lagrangian.augmented(1.0, growth=growth)


@pytest.mark.parametrize("name", ["proxy", "violation_mask", "proxy_mask"])
def test_shapes_of_constraint_values(name):
    expected = rf"violation and {name}.*shape \(constraint,\); got \(3,\) and \(2,\)"
    with pytest.raises(UserError, match=expected):
        constraint_values(jnp.zeros(3), **{name: jnp.ones(2, bool)})


def test_violations_must_be_one_dimensional():
    with pytest.raises(UserError, match=r"got \(3, 1\) and \(3, 1\)"):
        constraint_values(jnp.zeros((3, 1)))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sizes", [1.0, -1, "one", {"a": 0.5}])
def test_an_argument_that_is_not_a_number_of_constraints(scheme, sizes):
    built = lagrangian.build_scheme(scheme, SGD, {"a": SGD} if isinstance(sizes, dict) else SGD)
    with pytest.raises(UserError, match="num_constraints must be a whole number"):
        built.init(PARAMS, sizes)
