"""Steps on the objective or on the worst constraint: by hand, and to known optima."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from tests.lagrangian import convex

LENGTH = 200_000


def moves(values, **options):
    """The step along each proxy, and the state; the last entry is the objective."""

    def problem(params):
        own = {name: one._replace(proxy=params[name]) for name, one in values.items()}
        return lagrangian.Evaluation(params["objective"], own)

    sizes = {name: one.violation.size for name, one in values.items()}
    params = {name: jnp.zeros(size) for name, size in sizes.items()}
    params["objective"] = jnp.zeros(())
    scheme = lagrangian.switching(optax.sgd(1.0), **options)
    after, state, _ = scheme.update(problem, params, scheme.init(params, sizes))
    return {name: (-leaf).tolist() for name, leaf in after.items()}, state


def two(first, second, **fields):
    """Sets "a", of inequalities, and "b", of equalities."""
    return {
        "a": constraint_values(jnp.array(first), **fields),
        "b": constraint_values(jnp.array(second), equality=True),
    }


def test_steps_on_the_objective_while_all_constraints_hold():
    found, state = moves(two([-1.0, 0.0], [0.0]))
    assert found == {"a": [0, 0], "b": [0], "objective": 1}
    assert state.memory == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (two([1.0, 3.0], [2.0]), ([0, 1], [0])),
        (two([1.0, 3.0], [4.0]), ([0, 0], [1])),
        (two([1.0, 3.0], [-4.0]), ([0, 0], [-1])),
        (two([2.0, 2.0], [2.0]), ([1, 0], [0])),
        (two([1.0, 3.0], [2.0], violation_mask=jnp.array([True, False])), ([0, 0], [1])),
        (two([1.0, 3.0], [0.5], proxy_mask=jnp.array([True, False])), ([1, 0], [0])),
        (two([jnp.nan, 3.0], [0], violation_mask=jnp.array([False, True])), ([0, 1], [0])),
    ],
)
def test_steps_on_the_constraint_violated_most(values, expected):
    """The first of equally violated ones; for an equality the sign is that of the violation."""
    found, state = moves(values)
    assert (found["a"], found["b"], found["objective"]) == (*expected, 0)
    assert state.memory == 0
    np.testing.assert_array_equal(state.dual["a"].memory, expected[0])
    np.testing.assert_array_equal(state.multipliers["b"], expected[1])


def test_violations_up_to_the_tolerance_do_not_count():
    assert moves(two([0.5, 0.4], [0.5]), tolerance=0.5)[0]["objective"] == 1
    assert moves(two([0.5, 0.6], [0.5]), tolerance=0.5)[0]["a"] == [0, 1]


@pytest.mark.parametrize("values", [{"a": constraint_values(jnp.zeros((0,)))}, {}])
def test_without_constraints_it_equals_the_optimizer(values):
    assert moves(values)[0]["objective"] == 1


@pytest.mark.parametrize(("term", "expected"), [("full", -1), ("clipped", -1), ("detached", 0)])
def test_the_overall_part_of_the_chosen_constraint(term, expected):
    """Its weight is 1, which `clipped` lets through."""

    def problem(params):
        group, overall = params
        values = constraint_values(
            jnp.array([2.0, 1.0]), jnp.stack([group - overall, -overall]), overall=overall
        )
        return lagrangian.Evaluation(overall, values)

    scheme = lagrangian.switching(optax.sgd(1.0), overall_term=term)
    moved, _, info = scheme.update(problem, jnp.zeros(2), scheme.init(jnp.zeros(2), 2))
    np.testing.assert_array_equal(-moved, [1, expected])
    assert info.lagrangian == 0


def test_options_by_name():
    scheme = lagrangian.build_scheme("switching", optax.sgd(1.0), optax.sgd(1.0), tolerance=2.0)

    def problem(x):
        return lagrangian.Evaluation(x, constraint_values(1 - x))

    x, state, info = scheme.update(problem, jnp.zeros(()), scheme.init(jnp.zeros(()), 1))
    assert x == -1 and info.lagrangian == 0 and state.memory == 1


def test_the_state_shows_counts_over_steps_on_the_objective():
    """x from 0 by steps of 1, min x s.t. x ≥ 2: two up, then down and up by turns."""
    scheme = lagrangian.switching(optax.sgd(1.0))

    def problem(x):
        return lagrangian.Evaluation(x, constraint_values(2 - x))

    x, state, shown = jnp.zeros(()), scheme.init(jnp.zeros(()), 1), []
    for _ in range(6):
        x, state, info = scheme.update(problem, x, state)
        shown.append((float(x), float(state.multipliers[0]), float(info.lagrangian)))
    expected = [(1, 1, 2), (2, 2, 1), (1, 2, 2), (2, 3, 1), (1, 1.5, 2), (2, 2, 1)]
    np.testing.assert_allclose(shown, expected)


def falling(step):
    return 6.0 / (step + 100)


# Adam's scaling of steps must hardly change, otherwise counts of steps do not give multipliers.
PRIMAL = {
    "sgd": optax.sgd(falling),
    "momentum": optax.sgd(falling, 0.5),
    "adam": optax.adam(falling, b1=0.5, b2=0.9999),
}


def second_half(scheme, solved, points):
    """Last params; mean iterate with a step on the objective, and λ, over the second half."""

    def run(params):
        def body(carry, _):
            params, state, mean = carry
            moved, after, _ = scheme.update(solved.problem, params, state)
            met, count = mean
            on = after.memory - state.memory
            count = count + on
            met = met + on * (params - met) / jnp.maximum(count, 1)
            return (moved, after, (met, count)), None

        def half(params, state):
            start = (params, state, (jnp.zeros_like(params), jnp.zeros(())))
            return jax.lax.scan(body, start, length=LENGTH // 2)[0]

        params, middle, _ = half(params, scheme.init(params, solved.sizes))
        params, state, (mean, steps) = half(params, middle)
        chosen = jax.tree.map(lambda one, other: one - other, state.dual, middle.dual)
        multipliers = jax.tree.map(
            lambda dual: dual.memory / steps,
            chosen,
            is_leaf=lambda node: isinstance(node, lagrangian.DualState),
        )
        return params, mean, multipliers, state.multipliers

    return jax.jit(jax.vmap(run))(points)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("momentum", "adam")]


@pytest.mark.parametrize("primal", ["sgd", *SLOW])
@pytest.mark.parametrize("solved", [convex.toy(), convex.inequalities()], ids=["toy", "linear"])
def test_known_optima_of_inequalities(solved, primal):
    """The ratio over the whole run would include its first steps, which are longer."""
    scheme = lagrangian.switching(PRIMAL[primal])
    params, mean, multipliers, shown = second_half(scheme, solved, convex.starts(solved))
    convex.assert_found((params, mean), (solved.params, solved.params), 1e-3)
    convex.assert_found(multipliers, solved.multipliers, 1e-3)
    convex.assert_found(shown, solved.multipliers, 5e-3)


@pytest.mark.parametrize("primal", ["sgd", *SLOW])
def test_known_optimum_with_an_equality(primal):
    """The equality is met up to a tolerance, and so is the optimum."""
    solved = convex.two_sets()
    scheme = lagrangian.switching(PRIMAL[primal], tolerance=3e-4)
    params, mean, multipliers, _ = second_half(scheme, solved, convex.starts(solved))
    convex.assert_found((params, mean), (solved.params, solved.params), 1e-3)
    convex.assert_found(multipliers, solved.multipliers, 1e-3)
