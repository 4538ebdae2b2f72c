"""Constraints that are off for a while, or always: `activate_when` and `restrict`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import Constraint, activate_when, constraint_values, restrict
from bap_jax.lagrangian import SCHEMES
from tests.lagrangian.problems import toy_2d

FORMULATIONS = {
    "ascent": lagrangian.gradient_ascent(optax.sgd(0.1), start=0.5),
    "adam": lagrangian.gradient_ascent(optax.adam(0.1), start=0.5),
    "nu_pi": lagrangian.gradient_ascent(lagrangian.nu_pi(0.1, 0.5), start=0.5),
    "restart": lagrangian.gradient_ascent(optax.sgd(0.1), start=0.5, restart=True),
    "augmented": lagrangian.augmented(0.1, start=0.5),
    "penalty": lagrangian.quadratic_penalty(1.0),
    "exponentiated": lagrangian.exponentiated_gradient(0.1),
}


def test_switch_by_hand():
    values = constraint_values(
        jnp.ones(3),
        violation_mask=jnp.array([True, False, True]),
        proxy_mask=jnp.array([False, True, True]),
    )
    for active, seen, entering in (
        (True, [True, False, True], [False, True, True]),
        (False, [False] * 3, [False] * 3),
        (np.array([True, True, False]), [True, False, False], [False, True, False]),
    ):
        found = activate_when(values, active)
        assert found.violation_mask.tolist() == seen and found.proxy_mask.tolist() == entering


def path(name, first, steps=12):
    """Params and dual states, initial ones first, with constraints from step `first` on."""
    formulations = {"none": optax.sgd(0.1)} if first is None else FORMULATIONS
    size = 0 if first is None else 2
    scheme = lagrangian.build_scheme(name, optax.sgd(0.1, 0.5), formulations)

    def problem(params, step):
        loss, constraints, _ = toy_2d()(params)
        if first is None:
            constraints = constraint_values(jnp.zeros((0,)))
        else:
            constraints = activate_when(constraints, step >= first)
        return lagrangian.Evaluation(loss, dict.fromkeys(formulations, constraints))

    def body(carry, step):
        params, state = carry
        return scheme.update(problem, *carry, step)[:2], (params, state.dual)

    params = jnp.array([0.2, 0.1])
    state = scheme.init(params, dict.fromkeys(formulations, size))
    return jax.lax.scan(body, (params, state), jnp.arange(steps + 1))[1]


@pytest.mark.parametrize("name", SCHEMES)
def test_only_the_objective_counts_before_constraints_are_active(name):
    """Six steps as if there were no constraints; then they act."""
    params, dual = path(name, first=6)
    without, _ = path(name, first=None)
    np.testing.assert_allclose(params[:7], without[:7], rtol=1e-6, atol=1e-7)
    assert np.abs(params[-1] - without[-1]).max() > 1e-3
    for formulation, one in dual.items():
        remembered = one if formulation in ("nu_pi", "augmented") else one.multipliers
        for leaf in jax.tree.leaves(remembered):
            before = leaf[1:7].astype(float)
            np.testing.assert_allclose(before, np.broadcast_to(leaf[0], before.shape), rtol=1e-6)
        moved = np.ptp(one.multipliers, axis=0).max()
        # Of sets with the same values `switching` chooses the first by name.
        assert moved > 1e-3 or (name == "switching" and formulation != "adam")


def test_each_constraint_has_its_own_switch():
    formulation = lagrangian.gradient_ascent(optax.sgd(1.0))
    values = constraint_values(jnp.array([1.0, 2.0, 3.0]))
    dual = formulation.init(3)
    for step in range(3):
        dual = formulation.update_multipliers(
            activate_when(values, step >= jnp.array([0, 1, 2])), dual
        )
    np.testing.assert_array_equal(dual.multipliers, [3, 4, 3])


def test_only_leaves_the_others_at_their_start():
    def evaluate(state, observations):
        return constraint_values(observations - 1.0), state + 1

    watched = restrict(
        Constraint(3, lambda: jnp.int32(0), evaluate), jnp.array([True, False, True])
    )
    formulation = lagrangian.gradient_ascent(optax.sgd(1.0), start=0.5)
    dual, state = formulation.init(watched.size), watched.init()
    gradient = jax.grad(lambda x: formulation.penalty_term(watched.evaluate(state, x)[0], dual))
    np.testing.assert_array_equal(gradient(jnp.ones(3)), [0.5, 0.0, 0.5])
    for _ in range(2):
        values, state = watched.evaluate(state, jnp.array([2.0, 9.0, 3.0]))
        dual = formulation.update_multipliers(values, dual)
    np.testing.assert_array_equal(dual.multipliers, [2.5, 0.5, 4.5])
    assert state == 2
