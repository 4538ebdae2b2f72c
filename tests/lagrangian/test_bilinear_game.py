"""min_x max_λ λx, a game on which the schemes behave differently; its saddle point is 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values

RATE, STEPS = 0.1, 3000


def game(params):
    return lagrangian.Evaluation(jnp.zeros(()), constraint_values(params, equality=True))


def distances(name, formulation):
    """`(step, start)` of (x, λ) from 0, at first 1 for eight starting points."""
    scheme = lagrangian.build_scheme(name, optax.sgd(RATE), formulation)

    @jax.jit
    @jax.vmap
    def run(angle):
        params = jnp.cos(angle)[None]
        state = scheme.init(params, 1)
        state = state._replace(dual=state.dual._replace(multipliers=jnp.sin(angle)[None]))

        def body(carry, _):
            params, state = scheme.update(game, *carry)[:2]
            return (params, state), jnp.hypot(params[0], state.multipliers[0])

        return jax.lax.scan(body, (params, state), length=STEPS)[1]

    return np.asarray(run(2 * jnp.pi * jnp.arange(8) / 8)).T


def plain(name):
    return distances(name, lagrangian.gradient_ascent(optax.sgd(RATE)))


def augmented(name):
    return distances(name, lagrangian.augmented(RATE, growth=1.0))


def test_simultaneous_steps_diverge():
    expected = (1 + RATE**2) ** (np.arange(1, STEPS + 1) / 2)
    np.testing.assert_allclose(plain("simultaneous"), np.outer(expected, np.ones(8)), rtol=1e-3)


@pytest.mark.parametrize("name", ["dual_primal", "primal_dual"])
def test_alternating_steps_cycle(name):
    found = plain(name)
    assert found.min() > 0.9 and found.max() < 1.1


def test_extragradient_converges():
    found = plain("extragradient")
    expected = ((1 - RATE**2) ** 2 + RATE**2) ** (np.arange(1, STEPS + 1) / 2)
    np.testing.assert_allclose(found, np.outer(expected, np.ones(8)), rtol=1e-2)
    assert found[-1].max() < 1e-3


def test_optimistic_converges():
    found = plain("optimistic")
    assert found[-1].max() < 1e-3 and found[:100].min() > 0.3


@pytest.mark.parametrize("name", ["dual_primal", "primal_dual"])
def test_the_augmented_lagrangian_converges_if_steps_alternate(name):
    """The product of its eigenvalues is 1 − ηκ."""
    found = augmented(name)
    assert found[-1].max() < 1e-3
    np.testing.assert_allclose(found[999] / found[499], (1 - RATE**2) ** 250, rtol=0.2)


def test_the_augmented_lagrangian_does_not_converge_if_steps_are_simultaneous():
    """Multiplier steps of size κ undo the damping of the penalty: the eigenvalues' product is 1."""
    found = augmented("simultaneous")
    assert found.min() > 0.9 and found.max() < 1.1


@pytest.mark.parametrize("name", ["dual_primal", "primal_dual"])
def test_optimistic_multipliers_alone_converge_if_steps_alternate(name):
    """νPI with ν = 0 and κ_p = κ_i."""
    found = distances(name, lagrangian.gradient_ascent(lagrangian.nu_pi(RATE)))
    assert found[-1].max() < 1e-3
