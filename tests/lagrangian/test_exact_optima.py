"""Every scheme, primal optimiser and multiplier update finds known saddle points (x*, λ*)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from tests.covering import every_pair
from tests.lagrangian import convex

STEPS = 5000
TOLERANCE = 1e-4


def falling(rate):
    return optax.cosine_decay_schedule(rate, STEPS)


# Much momentum makes saddle points unstable, so Adam has b1 = .5. The length of its step is its
# learning rate, which must decrease. Multipliers move more slowly than weights.
PRIMAL = {
    "sgd": optax.sgd(0.05),
    "momentum": optax.sgd(0.02, 0.5),
    "adam": optax.adam(falling(0.05), b1=0.5, b2=0.99),
}
UPDATES = {
    "ascent": lagrangian.gradient_ascent(optax.sgd(0.02)),
    "adam": lagrangian.gradient_ascent(optax.adam(falling(0.03), b1=0.5, b2=0.99)),
    "nu_pi": lagrangian.gradient_ascent(lagrangian.nu_pi(0.02, 0.5)),
    "augmented": lagrangian.augmented(0.02, largest_penalty=0.2),
}
TURNS = [name for name in lagrangian.SCHEMES if name != "switching"]


def test_the_problems_have_active_inactive_and_negative_parts():
    two, signed = convex.two_sets(), convex.equalities()
    slack = convex.LIMITS - convex.HALF_SPACES @ two.params
    np.testing.assert_allclose(two.multipliers["inequality"], [2, 1, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(two.multipliers["equality"], [-1])
    np.testing.assert_allclose(slack, [0, 0, 0, 2.5, 3], atol=1e-12)
    assert signed.multipliers.min() < -1 and signed.multipliers.max() > 1


@pytest.mark.parametrize("scheme", TURNS)
@pytest.mark.parametrize("solved", [convex.side_by_side(), convex.two_sets()], ids=["one", "two"])
def test_a_saddle_point_is_a_fixed_point(scheme, solved):
    """This checks the known answers themselves."""
    with jax.enable_x64(True):
        formulation = jax.tree.map(
            lambda start: lagrangian.gradient_ascent(optax.sgd(1.0), start=start),
            solved.multipliers,
        )
        scheme = lagrangian.build_scheme(scheme, optax.sgd(1.0), formulation)
        params = jnp.asarray(solved.params)
        update = jax.jit(scheme.update, static_argnums=0)
        moved, state, _ = update(solved.problem, params, scheme.init(params, solved.sizes))
        convex.assert_found((moved, state.multipliers), (params, solved.multipliers), 1e-12)


@pytest.mark.parametrize(
    ("scheme", "primal", "update"), every_pair(itertools.product(TURNS, PRIMAL, UPDATES))
)
def test_the_product(scheme, primal, update):
    """Ten constraints, among them equalities, from four starting points at once."""
    solved = convex.side_by_side()
    scheme = lagrangian.build_scheme(scheme, PRIMAL[primal], UPDATES[update])
    found = convex.solve(scheme, solved, convex.starts(solved), STEPS)
    convex.assert_found(found, (solved.params, solved.multipliers), TOLERANCE)


@pytest.mark.parametrize("scheme", TURNS)
def test_each_named_set_may_have_its_own_formulation(scheme):
    solved = convex.two_sets()
    formulations = {"equality": UPDATES["augmented"], "inequality": optax.sgd(0.1)}
    scheme = lagrangian.build_scheme(scheme, PRIMAL["sgd"], formulations)
    found = convex.solve(scheme, solved, convex.starts(solved, scale=3), STEPS)
    convex.assert_found(found, (solved.params, solved.multipliers), TOLERANCE)


@pytest.mark.parametrize("weight_limit", [1.0, 2.0])
@pytest.mark.parametrize("primal", PRIMAL)
def test_a_weight_limit_keeps_the_saddle_point(primal, weight_limit):
    solved = convex.toy()
    scheme = lagrangian.dual_primal(PRIMAL[primal], optax.sgd(0.02), weight_limit=weight_limit)
    found = convex.solve(scheme, solved, convex.starts(solved), STEPS)
    convex.assert_found(found, (solved.params, solved.multipliers), TOLERANCE)


@pytest.mark.parametrize(
    ("scheme", "primal"),
    [*((scheme, "sgd") for scheme in TURNS), ("dual_primal", "momentum"), ("simultaneous", "adam")],
)
def test_the_penalty_violates_the_constraints_by_a_known_amount(scheme, primal):
    coefficient = 2.0
    solved, exact = convex.two_sets(softness=1 / coefficient), convex.two_sets()
    assert np.abs(solved.params - exact.params).max() > 0.1
    penalty = lagrangian.quadratic_penalty(coefficient)
    scheme = lagrangian.build_scheme(
        scheme, PRIMAL[primal], {"inequality": penalty, "equality": penalty}
    )
    found = convex.solve(scheme, solved, convex.starts(solved), STEPS)
    convex.assert_found(found, (solved.params, solved.multipliers), TOLERANCE)


def largest_of_three():
    """min_x max of (x−1)², (x+1)² + 1 and x²/2: x* = −1/4 with q* = (3/8, 5/8, 0)."""

    def problem(params):
        x = params[0]
        losses = jnp.stack([(x - 1) ** 2, (x + 1) ** 2 + 1, x**2 / 2])
        loss = losses.mean()
        return lagrangian.Evaluation(loss, constraint_values(losses - loss))

    return convex.Solved(problem, 3, np.array([-0.25]), np.array([3 / 8, 5 / 8, 0]))


@pytest.mark.parametrize("scheme", TURNS)
def test_exponentiated_gradient_solves_a_minimax_problem(scheme):
    solved = largest_of_three()
    formulation = lagrangian.exponentiated_gradient(0.1)
    scheme = lagrangian.build_scheme(scheme, optax.sgd(0.05), formulation)
    found = convex.solve(scheme, solved, convex.starts(solved, scale=3), STEPS)
    convex.assert_found(found, (solved.params, solved.multipliers), TOLERANCE)


def one_sided(limit):
    """min (x − 1)² s.t. x ≤ limit."""

    def problem(params):
        violation = params - limit
        return lagrangian.Evaluation(jnp.sum((params - 1) ** 2), constraint_values(violation))

    return problem


def path(problem, restart, steps=1500):
    """x and λ of every step, from x = 6."""
    formulation = lagrangian.gradient_ascent(optax.sgd(0.1), restart=restart)
    scheme, params = lagrangian.dual_primal(optax.sgd(0.02), formulation), jnp.full((1,), 6.0)

    def body(carry, _):
        params, state = scheme.update(problem, *carry)[:2]
        return (params, state), (params[0], state.multipliers[0])

    return jax.lax.scan(body, (params, scheme.init(params, 1)), length=steps)[1]


def test_a_restart_resets_the_multiplier_of_a_constraint_that_holds():
    """If the constraint is inactive at the optimum, there is no overshoot."""
    x, multiplier = path(one_sided(2.0), restart=True)
    overshoot, slow = path(one_sided(2.0), restart=False)
    np.testing.assert_allclose(x[-1], 1, atol=TOLERANCE)
    assert multiplier.max() > 1 and (multiplier[1:][x[:-1] <= 2] == 0).all()
    assert x.min() > 0.999 and overshoot.min() < 0.5
    assert (multiplier > 0).sum() < (slow > 0).sum()


def test_a_restart_keeps_the_multiplier_of_an_active_constraint_from_settling():
    """λ* = 2, but each time that x reaches the limit, λ starts again from 0."""
    _, settled = path(one_sided(0.0), restart=False)
    np.testing.assert_allclose(settled[-100:], 2, atol=TOLERANCE)
    x, multiplier = path(one_sided(0.0), restart=True)
    assert multiplier[-500:].min() == 0 and multiplier[-500:].max() > 1
    assert np.abs(x[-500:]).max() < 0.6
