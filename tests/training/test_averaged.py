"""A schedule-free optimiser: a run evaluates and hands out its averaged weights."""

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from optax.contrib import schedule_free_eval_params

import bap_jax
from bap_jax.pipeline import monitor
from bap_jax.pruning import apply_masks
from bap_jax.training import PruningSettings, Settings
from tests.training.optimizer_runs import run_settings, train

FREE = optax.contrib.schedule_free_adamw(0.02)
CHAINED = optax.chain(optax.clip_by_global_norm(1.0), optax.contrib.schedule_free_sgd(0.1))
X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
SIDE = np.where(X[:, 1] > 0, "north", "south")


def average_of(state):
    """As optax has it."""
    inner = state.lagrangian.primal_state
    inner = inner if hasattr(inner, "z") else inner[1]
    return schedule_free_eval_params(inner, state.params)


@pytest.mark.parametrize("optimizer", [FREE, CHAINED], ids=["alone", "in a chain"])
def test_a_state_shows_the_average(optimizer):
    state = train(run_settings(name=optimizer))[-1]
    expected = apply_masks(average_of(state), state.masks)
    chex.assert_trees_all_close(state.variables.params, expected, rtol=1e-6)
    for name, mask in state.masks.items():
        found = np.asarray(state.variables.params[name])
        np.testing.assert_array_equal(found[np.asarray(mask) == 0], 0)
        assert np.abs(found - state.params[name]).max() > 1e-3


def test_other_optimisers_show_the_weights():
    state = train(run_settings(name="adamw"), epochs=1)[-1]
    chex.assert_trees_all_equal(state.variables.params, state.params)


@pytest.mark.parametrize("selection", ["last", "average"])
def test_a_run_hands_the_average_out(selection, monkeypatch):
    ends, seen = [], monitor._network
    monkeypatch.setattr(
        monitor, "_network", lambda states, i: ends.append(states) or seen(states, i)
    )
    settings = Settings(
        pruning=PruningSettings(0.5, epochs=1, prunable="kernels"),
        finetune_epochs=1,
        batch_size=20,
        selection=selection,
    )
    net = nnx.Linear(6, 2, rngs=nnx.Rngs(0))
    result = bap_jax.prune_and_tune(
        net, X, Y, SIDE, test_indices=range(0, 60, 4), settings=settings, optimizer=FREE
    )
    kernel = np.asarray(result.pruned.kernel[...])
    states = ends[-1]
    inner = states.lagrangian.primal_state
    expected = schedule_free_eval_params(
        jax.tree.map(lambda leaf: leaf[0], inner), jax.tree.map(lambda x: x[0], states.params)
    )
    mask = np.asarray(states.masks["kernel"][0])
    np.testing.assert_allclose(kernel, expected["kernel"] * mask, rtol=1e-5, atol=1e-7)
    assert np.sum(kernel == 0) == 6
    assert np.abs(kernel - states.params["kernel"][0]).max() > 1e-4
