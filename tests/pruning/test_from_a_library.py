"""`from_jaxpruner` with a small library like jaxpruner, `for_jaxpruner/a_library.py`."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning import jaxpruner
from bap_jax.pruning.from_jaxpruner import from_jaxpruner
from bap_jax.training import masking
from tests.pruning.for_jaxpruner import a_library

PARAMS = {"w": jnp.array([0.1, -0.9, 0.2, 0.5])}
GRADS = {"w": jnp.array([9.0, 1.0, 8.0, 2.0])}


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """The library in jaxpruner's place; afterwards its `jax` must be as it was."""
    monkeypatch.setitem(sys.modules, "jaxpruner", a_library)
    yield a_library
    assert a_library.jax is jax


def steps(updater, number, **extra):
    tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    params = PARAMS
    for _ in range(number):
        updates, state = update(GRADS, state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, state


def test_an_updater_of_the_library_prunes_with_current_jax(library):
    updater = from_jaxpruner(library.MagnitudePruning(scheduler=library.OneShotSchedule(0)))
    params, state = steps(updater, 1)
    assert state.masks["w"].tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(params["w"] == 0, [True, False, True, False])


def test_a_wrap_optax_of_the_users_own_is_used(library):
    updater = from_jaxpruner(library.OwnWrapping(scheduler=library.OneShotSchedule(0)))
    params, state = steps(updater, 2, loss=1.0)  # an argument that it does not take
    assert int(state.count) == 2 and state.masks["w"].tolist() == [0, 1, 0, 1]
    first = PARAMS["w"] - 0.1 * GRADS["w"]
    decayed = GRADS["w"] + 0.5 * first * jnp.array([1, 0, 1, 0])
    np.testing.assert_allclose(params["w"], first - 0.1 * (0.9 * GRADS["w"] + decayed), rtol=1e-5)
    with pytest.raises(UserError, match="the weights"):
        updater.wrap_optax(optax.sgd(0.1)).update(GRADS, state)
    with pytest.raises(UserError, match="OwnWrapping has its own wrap_optax"):
        masking.check_pruner(masking.Pruner(updater))


def test_a_wrap_optax_on_the_object_is_used(library):
    original, inner = library.MagnitudePruning(), optax.sgd(0.1)
    original.wrap_optax = lambda inner: optax.chain(inner, optax.scale(2.0))
    tx = from_jaxpruner(original).wrap_optax(inner)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["w"], -0.2 * GRADS["w"])


def test_scores_of_the_library_see_the_optimisers_state(library):
    updater = from_jaxpruner(library.ByMoments(scheduler=library.OneShotSchedule(1), least=3.0))
    _, state = steps(updater, 2)
    assert state.masks["w"].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("kind", [jaxpruner.RigL, pruning.MagnitudePruning])
def test_updaters_of_this_package_are_returned_as_they_are(kind, monkeypatch):
    updater = kind()
    assert from_jaxpruner(updater) is updater
    monkeypatch.setitem(sys.modules, "jaxpruner", None)  # not installed
    assert from_jaxpruner(updater) is updater


def test_an_exchange_of_the_library_never_sees_an_optimiser_that_it_does_not_know(library):
    updater = from_jaxpruner(library.SET(scheduler=library.OneShotSchedule(0)))
    state = updater.init_state(PARAMS)._replace(inner_state=optax.adam(0.1).init(PARAMS))
    with pytest.raises(ValueError, match="unknown optimiser"):
        updater.update_state(state, PARAMS, GRADS)
    assert updater.restarts_moments_itself and not updater.changes_masks_only()
    assert updater.new_masks(state, PARAMS, GRADS)["w"].tolist() == [0, 1, 0, 1]
