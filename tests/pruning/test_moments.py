"""Moments of weights that are removed or come back: each rule by an example worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning import wrapping
from tests.pruning import updaters

# Step 0 keeps the first two of four weights, step 1 the first and the last.
KEPT = jnp.array([[[1, 1, 0, 0]], [[1, 0, 0, 1]]], jnp.float32)
PARAMS = {"w": jnp.array([[1.0, 2.0, 3.0, 4.0]]), "b": jnp.array([1.0])}
GRADS = {"w": jnp.array([[1.0, 2.0, 3.0, 4.0]]), "b": jnp.array([5.0])}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(wrapping, "cond_per_member", updaters.plain_choice)


class Chosen(pruning.BaseUpdater):
    """Keeps what `KEPT` says, so that one weight goes and one comes back at step 1."""

    def calculate_scores(self, params, sparse_state=None, grads=None):
        return params | {"w": KEPT[jnp.minimum(sparse_state.count, 1)]}

    def may_regrow(self):
        return True


def train(inner, rule, steps=2):
    """State of the inner optimiser after each step, with the same gradients in all."""
    updater = Chosen(
        scheduler=pruning.PeriodicSchedule(1, 0, None),
        sparsity_distribution_fn=lambda params: {"w": 0.5, "b": None},
        pruned_moments=rule,
    )
    tx = updater.wrap_optax(inner)
    params, state, states = PARAMS, tx.init(PARAMS), []
    for step in range(steps):
        updates, state = tx.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_array_equal(params["w"] != 0, KEPT[step] == 1)
        states.append(state.inner_state)
    return states


TRACES = {
    # momentum .5: after one step g, after two g + g / 2
    "keep": ([1, 2, 3, 4], [1.5, 3, 4.5, 6]),
    # the last weight comes back at step 1 with trace 0, then g
    "restart": ([1, 2, 3, 4], [1.5, 3, 4.5, 4]),
    # what is removed has trace 0 after every step
    "zero": ([1, 2, 0, 0], [1.5, 0, 0, 4]),
}


@pytest.mark.parametrize("rule", TRACES)
def test_momentum(rule):
    states = train(optax.sgd(0.1, momentum=0.5), rule)
    for state, expected in zip(states, TRACES[rule], strict=True):
        np.testing.assert_allclose(state[0].trace["w"][0], expected, rtol=1e-6)
    np.testing.assert_allclose(states[1][0].trace["b"], [7.5])


@pytest.mark.parametrize("rule", TRACES)
def test_adam(rule):
    states = train(optax.adam(0.1, b1=0.5, b2=0.5), rule)
    # Both averages are (1 − ½)(…): ½ x after one step, ¾ x after two, where x is g or g².
    shares = {
        "keep": ([0.5] * 4, [0.75] * 4),
        "restart": ([0.5] * 4, [0.75, 0.75, 0.75, 0.5]),
        "zero": ([0.5, 0.5, 0, 0], [0.75, 0, 0, 0.5]),
    }[rule]
    for step, (state, share) in enumerate(zip(states, shares, strict=True)):
        np.testing.assert_allclose(state[0].mu["w"], GRADS["w"] * jnp.array([share]), rtol=1e-6)
        np.testing.assert_allclose(
            state[0].nu["w"], GRADS["w"] ** 2 * jnp.array([share]), rtol=1e-6
        )
        assert int(state[0].count) == step + 1  # one for all weights: never reset


@pytest.mark.parametrize("rule", TRACES)
def test_moments_within_another_multi_transform(rule):
    inner = optax.multi_transform(
        {"momentum": optax.sgd(0.1, momentum=0.5), "plain": optax.sgd(0.1)},
        {"w": "momentum", "b": "plain"},
    )
    states = train(inner, rule)
    for state, expected in zip(states, TRACES[rule], strict=True):
        trace = state.inner_states["momentum"].inner_state[0].trace
        np.testing.assert_allclose(trace["w"][0], expected, rtol=1e-6)


def test_weights_that_go_for_good_need_no_restart():
    polynomial = pruning.PolynomialSchedule(1, 0, 4)
    assert not pruning.MagnitudePruning(scheduler=polynomial).may_regrow()
    assert not pruning.MagnitudePruning(
        scheduler=pruning.InEpochs(pruning.GradualSchedule(3), 2)
    ).may_regrow()
    assert pruning.SET(scheduler=polynomial).may_regrow()

    class Renamed(pruning.PolynomialSchedule):
        pass

    class Falling(pruning.PolynomialSchedule):
        def get_sparsity_at_step(self, target_sparsities, step):
            return jax.tree.map(lambda target: target / (1 + step), target_sparsities)

    assert not pruning.MagnitudePruning(scheduler=Renamed(1, 0, 4)).may_regrow()
    assert pruning.MagnitudePruning(scheduler=Falling(1, 0, 4)).may_regrow()


def test_an_unknown_rule_names_the_known_ones():
    with pytest.raises(UserError, match="unknown pruned_moments 'reset'; known: restart, zero, ke"):
        pruning.MagnitudePruning(pruned_moments="reset")
