"""Multipliers that need no tuning find known saddle points, however a problem is scaled."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.lagrangian import Evaluation
from bap_jax.lagrangian.steps import each_set
from tests.lagrangian import convex

TURNS = [
    name if name == "dual_primal" else pytest.param(name, marks=pytest.mark.smoke)
    for name, spec in lagrangian.SCHEMES.items()
    if spec.has_multipliers
]
PROBLEMS = {
    "inequalities": convex.inequalities,
    "two_sets": convex.two_sets,
    "equalities": convex.equalities,
    "toy": convex.toy,
}
REST = ("inequalities", "two_sets", "toy")
FACTORS = (1e-3, 1.0, 1e3)
GRID = np.array(list(itertools.product(FACTORS, FACTORS)), np.float32)  # of objective, constraint
STEPS, TOLERANCE = 5000, 3e-3
smoke = pytest.mark.smoke


def scaled(problem, objective, constraint):
    """The problem with its objective and its constraints multiplied by these."""

    def one_set(values):
        return values._replace(
            violation=constraint * values.violation, proxy=constraint * values.proxy
        )

    def evaluate(*args):
        found = problem(*args)
        return Evaluation(objective * found.loss, each_set(one_set, found.constraints))

    return evaluate


def formulation_of(solved):
    sets = solved.sizes if isinstance(solved.sizes, dict) else None
    return dict.fromkeys(sets, lagrangian.auto()) if sets else lagrangian.auto()


def paths(name, solved, optimizer, points, grid=GRID, steps=STEPS, key=None):
    """Last weights and multipliers `(factors, start, ...)`, in units of the unscaled problem.

    With a key, the problem gets one a step, and the means of the last quarter are returned.
    """
    keys = None if key is None else jax.random.split(key, steps)

    def run(factors, params):
        objective, constraint = factors
        problem = scaled(solved.problem, objective, constraint)
        scheme = lagrangian.build_scheme(name, optimizer(objective), formulation_of(solved))
        state = scheme.init(params, solved.sizes)

        def body(carry, key):
            inputs = () if key is None else (key,)
            params, state, _ = scheme.update(problem, *carry, *inputs)
            return (params, state), None if key is None else (params, state.multipliers)

        (params, state), seen = jax.lax.scan(body, (params, state), keys, length=steps)
        found = params, state.multipliers
        if key is not None:
            found = jax.tree.map(lambda leaf: leaf[-steps // 4 :].mean(0), seen)
        return found[0], jax.tree.map(lambda leaf: leaf * constraint / objective, found[1])

    over_starts = jax.vmap(run, in_axes=(None, 0))
    return jax.jit(jax.vmap(over_starts, in_axes=(0, None)))(jnp.asarray(grid), points)


def assert_found(found, solved, tolerance):
    """To within the tolerance of the largest entry."""
    expected = (solved.params, solved.multipliers)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        error = np.abs(np.asarray(one) - other).max() / np.abs(other).max()
        assert error < tolerance, error


def gradient_descent(rate):
    """Rate in units of the objective, for paths that do not depend on them."""
    return lambda objective: optax.sgd(rate / objective)


@pytest.mark.parametrize(
    "make",
    [
        convex.two_sets,
        convex.toy,
        pytest.param(convex.inequalities, marks=smoke),
        pytest.param(convex.equalities, marks=smoke),
    ],
)
def test_gradient_descent(make):
    solved = make()
    found = paths("dual_primal", solved, gradient_descent(0.05), convex.starts(solved))
    assert_found(found, solved, TOLERANCE)


@smoke
@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_adam_with_one_rate_for_all(make):
    solved = make()
    rate = optax.cosine_decay_schedule(0.05, STEPS)
    found = paths("dual_primal", solved, lambda _: optax.adam(rate), convex.starts(solved))
    assert_found(found, solved, TOLERANCE)


@smoke
@pytest.mark.parametrize("make", [convex.equalities, *(PROBLEMS[name] for name in REST)])
def test_adam_with_a_rate_that_does_not_fall(make):
    """Adam then circles around x* itself, by steps of its rate."""
    solved = make()
    points = convex.starts(solved, 2)
    found = paths("dual_primal", solved, lambda _: optax.adam(0.003), points, steps=20_000)
    assert_found(found, solved, 0.05)


@smoke
@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_every_scheme(name, make):
    solved = make()
    found = paths(name, solved, gradient_descent(0.01), convex.starts(solved, 2), GRID[::4])
    assert_found(found, solved, 1e-4)


@smoke
@pytest.mark.parametrize("scale", [10.0, 100.0])
@pytest.mark.parametrize("make", [convex.inequalities, convex.equalities])
def test_far_starts(make, scale):
    solved = make()
    points = convex.starts(solved, scale=scale)
    found = paths("dual_primal", solved, gradient_descent(0.05), points, GRID[4:5], 20_000)
    assert_found(found, solved, 2e-3)


@smoke
def test_far_from_a_curved_constraint():
    """Whose violation is a hundred times as large there as its change near the solution."""
    solved = convex.toy()
    points = convex.starts(solved, scale=10)
    found = paths("dual_primal", solved, gradient_descent(0.05), points, GRID[4:5], 100_000)
    assert_found(found, solved, 5e-5)


def noisy(solved, spread):
    """Violations with normal noise, as estimates have it; weights see what is exact."""

    def problem(x, key):
        found = solved.problem(x)
        values = found.constraints
        noise = spread * jax.random.normal(key, values.violation.shape)
        return found._replace(constraints=values._replace(violation=values.violation + noise))

    return solved._replace(problem=problem)


@pytest.mark.parametrize(
    ("epsilon", "tolerance"),
    [
        pytest.param(0.001, 0.005, marks=smoke),
        (0.01, 0.005),
        pytest.param(0.02, 0.1, marks=smoke),
    ],
)
@pytest.mark.parametrize("make", [convex.inequalities, convex.equalities, convex.toy])
def test_noise_of_ten_times_the_tolerance(make, epsilon, tolerance):
    """Means of the last quarter; constraints are of size 1."""
    solved = make()
    found = paths(
        "dual_primal",
        noisy(solved, 10 * epsilon),
        gradient_descent(0.01),
        convex.starts(solved),
        GRID[[2, 4, 6]],
        20_000,
        jax.random.key(0),
    )
    assert_found(found, solved, tolerance)


def linear_programme():
    """min −x s.t. x ≤ 1, on which gradient descent-ascent cycles."""
    problem = lambda x: Evaluation(-x[0], constraint_values(x - 1))  # noqa: E731
    return convex.Solved(problem, 1, np.array([1.0]), np.array([1.0]))


@pytest.mark.parametrize("name", TURNS)
def test_a_linear_programme(name):
    points = jnp.array([[0.0], [0.9], [3.0], [-2.0]])
    solved = linear_programme()
    found = paths(name, solved, gradient_descent(0.01), points, GRID[[0, 2, 4, 6, 8]], 10_000)
    assert_found(found, solved, 2e-3)


def circles(name, steps=6000):
    """`(factor, start, step)` |x| of min_x max_λ λ b x, in units of the start."""

    def run(factor, start):
        problem = scaled(
            lambda x: Evaluation(jnp.zeros(()), constraint_values(x, equality=True)), 1.0, factor
        )
        scheme = lagrangian.build_scheme(name, optax.sgd(0.1), lagrangian.auto())
        params = start[None]

        def body(carry, _):
            params, state, _ = scheme.update(problem, *carry)
            return (params, state), (jnp.abs(params[0] / start), state.multipliers[0] * factor)

        return jax.lax.scan(body, (params, scheme.init(params, 1)), length=steps)[1]

    over_starts = jax.vmap(run, in_axes=(None, 0))
    starts, factors = jnp.array([1.0, -1.0, 0.05, 30.0]), jnp.array(FACTORS)
    return jax.jit(jax.vmap(over_starts, in_axes=(0, None)))(factors, starts)


@pytest.mark.parametrize("name", TURNS)
def test_a_bilinear_game_ends(name):
    """Gradient ascent cycles on it for ever, see `test_bilinear_game`."""
    x, multipliers = map(np.asarray, circles(name))
    assert x[..., 2500:].max() < 1e-3 and np.abs(multipliers[..., 2500:]).max() < 1e-3
    assert x[..., :20].max() > 0.5


SHARES, REACH, LIMIT = np.array([0.8, 0.2], np.float32), 0.1, 1 / 8


def two_groups(factors):
    """Losses (x − t_g)²/2 of groups with t = 0, 1 and shares .8, .2, the second to be at most 1/8:
    x* = 1/2 and λ* = .6, so that the group's weight is four times its share."""
    loss_factor, violation_factor = factors

    def problem(x):
        losses = loss_factor * (x[0] - jnp.array([0.0, 1.0])) ** 2 / 2
        violation = violation_factor * ((x[0] - 1) ** 2 / 2 - LIMIT)
        values = constraint_values(
            violation, losses[1:], unit=SHARES[1], reach=violation_factor * REACH
        )
        return Evaluation(losses @ SHARES, values)

    return problem


@pytest.mark.parametrize("name", TURNS)
def test_groups_that_name_their_units(name):
    """Losses, or violations with their reach, multiplied by any number leave λ as it is."""

    def run(factors, start):
        scheme = lagrangian.build_scheme(name, optax.sgd(0.02 / factors[0]), lagrangian.auto())
        carry = (start[None], scheme.init(start[None], 1))
        body = lambda carry, _: (scheme.update(two_groups(factors), *carry)[:2], None)  # noqa: E731
        (x, state), _ = jax.lax.scan(body, carry, length=4000)
        return x[0], state.multipliers[0]

    over_starts = jax.vmap(run, in_axes=(None, 0))
    both = jax.jit(jax.vmap(over_starts, in_axes=(0, None)))
    x, multiplier = both(jnp.asarray(GRID), jnp.array([-2.0, 0.0, 0.45, 3.0]))
    np.testing.assert_allclose(x, 0.5, atol=1e-4)
    np.testing.assert_allclose(multiplier, 0.6, atol=1e-3)
