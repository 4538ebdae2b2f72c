"""Settings of formulations and schemes may be arrays: vmap over them is a loop over numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from tests.lagrangian.problems import toy_2d

SGD = optax.sgd(0.1)


def ascent(**options):
    return lagrangian.dual_primal(SGD, lagrangian.gradient_ascent(SGD, **options))


SETTINGS = {
    "start": ([0.0, 1.0, 2.0], lambda value: ascent(start=value)),
    "bound": ([0.1, 0.5, 9.0], lambda value: ascent(bound=value)),
    "restart_confidence": (
        [0.0, 1.0, 2.0],
        lambda value: ascent(start=2.0, restart=True, restart_confidence=value),
    ),
    "weight_limit": (
        [1.0, 2.0, 9.0],
        lambda value: lagrangian.dual_primal(SGD, SGD, weight_limit=value),
    ),
    "penalty": ([0.1, 0.5, 2.0], lambda value: augmented(value)),
    "growth": ([1.0, 1.5, 2.0], lambda value: augmented(0.1, growth=value)),
    "largest_penalty": ([0.2, 1.0, 2.0], lambda v: augmented(0.1, growth=2, largest_penalty=v)),
    "coefficient": (
        [0.1, 1.0, 3.0],
        lambda value: lagrangian.simultaneous(SGD, lagrangian.quadratic_penalty(value)),
    ),
    "exponentiated": (
        [0.1, 1.0, 3.0],
        lambda value: lagrangian.simultaneous(SGD, lagrangian.exponentiated_gradient(value)),
    ),
    "nu": ([0.0, 0.5, 0.9], lambda v: ascending(lagrangian.nu_pi(0.1, v))),
    "proportional": ([0.0, 0.5, 2.0], lambda v: ascending(lagrangian.nu_pi(0.1, 0.5, v))),
    "dual_rate": ([0.1, 0.2, 0.4], lambda v: ascending(optax.sgd(v))),
    "tolerance": ([0.0, 0.1, 0.5], lambda v: lagrangian.switching(SGD, tolerance=v)),
}


def augmented(*arguments, **options):
    return lagrangian.extragradient(SGD, lagrangian.augmented(*arguments, **options))


def ascending(optimizer):
    return lagrangian.primal_dual(SGD, lagrangian.gradient_ascent(optimizer))


def run(scheme):
    params = jnp.array([-0.4, 0.9])

    def problem(params, after=None):
        evaluation = toy_2d()(params)
        deviation = jnp.array([0.1, 0.2])
        return evaluation._replace(constraints=evaluation.constraints._replace(deviation=deviation))

    def body(carry, _):
        return scheme.update(problem, *carry)[:2], None

    (params, state), _ = jax.lax.scan(body, (params, scheme.init(params, 2)), length=8)
    return params, state.multipliers


@pytest.mark.parametrize("name", SETTINGS)
def test_vmap_over_a_setting_is_a_loop(name):
    settings, make = SETTINGS[name]
    trained = jax.jit(lambda value: run(make(value)))
    found = jax.vmap(trained)(jnp.array(settings))
    expected = [trained(value) for value in settings]
    for one, other in zip(found, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(one, np.stack(other), rtol=1e-5, atol=1e-6)
    assert max(np.abs(np.diff(leaf, axis=0)).max() for leaf in found) > 1e-3
