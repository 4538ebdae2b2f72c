"""Every algorithm on every kind of parameter tree, and within optax's own wrappers."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

from bap_jax import pruning
from bap_jax.pruning import wrapping
from tests.pruning import updaters
from tests.pruning.updaters import (
    MASKED,
    NAMES,
    assert_same,
    layers,
    leaves,
    make,
    optimizer,
    quick,
)

PARAMS = layers(leaves())
AT_ONCE = pruning.OneShotSchedule(0)
NAMES_THAT_PRUNE = [name for name in NAMES if name != "no_prune"]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(wrapping, "cond_per_member", updaters.plain_choice)


class Layer(NamedTuple):
    bias: Any
    kernel: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    """As in equinox: what is absent is None."""

    bias: Any
    kernel: Any
    absent: Any = None
    activation: Any = dataclasses.field(default=jnp.tanh, metadata={"static": True})


def containers(bias1, kernel1, bias2, kernel2):
    """The same leaves, in the same order, in other trees."""
    nested = layers((bias1, kernel1, bias2, kernel2))
    return {
        "frozen dict": FrozenDict(nested),
        "lists": [[bias1, kernel1], [bias2, kernel2]],
        "tuples": ((bias1, kernel1), (bias2, kernel2)),
        "named tuples": [Layer(bias1, kernel1), Layer(bias2, kernel2)],
        "modules": {"layers": (Module(bias1, kernel1), Module(bias2, kernel2)), "none": None},
        "integer keys": {"layers": {0: nested["a"], 1: nested["b"]}},
        "deep": {"outer": {"inner": {"blocks": [nested]}}},
    }


TREES = containers(*leaves())


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("name", NAMES)
def test_the_kind_of_tree_does_not_matter(name, kind):
    updater = make(name, scheduler=AT_ONCE)
    tx = updater.wrap_optax(optimizer())
    expected = updaters.loop(updater, tx, PARAMS, steps=2)
    params, state = updaters.loop(updater, tx, TREES[kind], steps=2)
    assert jax.tree.structure(params) == jax.tree.structure(TREES[kind])
    assert_same((params, state), expected)
    assert_same(updater.instant_sparsify(TREES[kind], TREES[kind])[0], instantly(name))


def instantly(name):
    return make(name).instant_sparsify(PARAMS, PARAMS)[0]


@pytest.mark.parametrize("name", NAMES)
def test_in_a_chain(name):
    updater = make(name, scheduler=AT_ONCE)
    inner = updater.wrap_optax(optimizer())
    chained = optax.chain(optax.clip(1e3), inner, optax.identity())
    params, state = updaters.loop(updater, chained, PARAMS, steps=3)
    expected_params, expected = updaters.loop(updater, inner, PARAMS, steps=3)
    assert_same((params, state[1]), (expected_params, expected))


# `random_ste` draws for all leaves at once, so that its numbers depend on what else there is.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "random_ste"])
def test_two_pruners_side_by_side_do_what_each_does_alone(name):
    sparsities = {"a": 0.75, "b": 0.5}
    each = {key: make(name, sparsities[key], scheduler=AT_ONCE) for key in sparsities}
    wrapped = {key: updater.wrap_optax(optimizer()) for key, updater in each.items()}
    tx = optax.multi_transform(wrapped, {"a": "a", "b": "b"})
    found, state = updaters.loop(each["a"], tx, PARAMS, steps=3)
    assert len(wrapping.sparse_states(state)) == 2
    for key, updater in each.items():
        alone = {key: PARAMS[key]}
        expected, expected_state = updaters.loop(updater, wrapped[key], alone, steps=3)
        assert_same(found[key], expected[key])
        assert_same(state.inner_states[key].inner_state, expected_state)


@pytest.mark.parametrize("name", NAMES_THAT_PRUNE)
def test_a_pruner_beside_an_optimiser_that_does_not_prune(name):
    updater = make(name, scheduler=AT_ONCE)
    wrapped = updater.wrap_optax(optimizer())
    tx = optax.multi_transform({"prune": wrapped, "keep": optimizer()}, {"a": "prune", "b": "keep"})
    found, state = updaters.loop(updater, tx, PARAMS, steps=3)
    expected, _ = updaters.loop(updater, wrapped, {"a": PARAMS["a"]}, steps=3)
    dense, _ = updaters.loop(
        pruning.NoPruning(), make("no_prune").wrap_optax(optimizer()), PARAMS, steps=3
    )
    assert_same(found, {"a": expected["a"], "b": dense["b"]})
    pruning.check_applied(found, state)


@pytest.mark.parametrize("name", NAMES)
def test_with_injected_hyper_parameters(name):
    updater = make(name, scheduler=AT_ONCE)

    def build(learning_rate):
        return updater.wrap_optax(optax.sgd(learning_rate, momentum=0.9))

    tx = optax.inject_hyperparams(build)(learning_rate=0.1)
    params, state = updaters.loop(updater, tx, PARAMS, steps=3)
    expected_params, expected = updaters.loop(updater, build(0.1), PARAMS, steps=3)
    assert_same(params, expected_params)
    assert_same(state.inner_state.masks, expected.masks)


def test_an_injected_sparsity_may_change_between_runs_of_one_program():
    def build(sparsity):
        return make("magnitude", sparsity, scheduler=AT_ONCE).wrap_optax(optimizer())

    tx = optax.inject_hyperparams(build)(sparsity=0.5)
    state = tx.init(PARAMS)
    for sparsity, kept in ((0.25, 36), (0.75, 12)):
        state.hyperparams["sparsity"] = jnp.float32(sparsity)
        fresh = state._replace(
            inner_state=state.inner_state._replace(
                target_sparsities={
                    layer: {"bias": None, "kernel": jnp.float32(sparsity)} for layer in PARAMS
                }
            )
        )
        _, after = tx.update(PARAMS, fresh, PARAMS)
        assert int(after.inner_state.masks["a"]["kernel"].sum()) == kept


@pytest.mark.parametrize("name", quick("static_sparse"))
def test_multi_steps_prune_with_the_mean_gradient(name):
    updater = make(name, scheduler=AT_ONCE)
    inner = updater.wrap_optax(optimizer())
    tx = optax.MultiSteps(inner, every_k_schedule=2)
    params, state = PARAMS, tx.init(PARAMS)
    expected, expected_state = PARAMS, inner.init(PARAMS)
    for scale in (0.5, 1.5):  # their mean is 1
        grads = jax.tree.map(lambda leaf, scale=scale: scale * leaf, updaters.gradient(PARAMS))
        assert_same(params, PARAMS)
        updates, state = jax.jit(tx.update)(grads, state, params)
        params = optax.apply_updates(params, updates)
    updates, expected_state = inner.update(updaters.gradient(PARAMS), expected_state, expected)
    expected = optax.apply_updates(expected, updates)
    assert_same((params, state.inner_opt_state), (expected, expected_state))


def recorder():
    """An optimiser that keeps the extra argument `value`."""

    def update(updates, state, params=None, *, value, **extra):
        del params, extra
        return updates, {"value": state["value"] + value}

    return optax.GradientTransformationExtraArgs(lambda params: {"value": jnp.zeros(())}, update)


@pytest.mark.parametrize("name", NAMES)
def test_extra_arguments_reach_the_inner_optimiser(name):
    updater = make(name, scheduler=AT_ONCE)
    tx = optax.chain(updater.wrap_optax(optax.chain(recorder(), optax.sgd(0.1))))
    params, state = PARAMS, tx.init(PARAMS)
    for value in (2.0, 5.0):
        params, state = updaters.train_step(updater, tx, params, state, value=value)
    assert float(state[0].inner_state[0]["value"]) == 7


@pytest.mark.parametrize("name", MASKED)
def test_check_applied_is_quiet_after_every_wrapper(name):
    updater = make(name, scheduler=AT_ONCE)
    tx = optax.chain(optax.clip(1.0), updater.wrap_optax(optax.adam(0.1)))
    state = tx.init(PARAMS)
    updates, state = tx.update(PARAMS, state, PARAMS)
    params = optax.apply_updates(PARAMS, updates)  # nothing else is called
    pruning.check_applied(params, state)
    zeros = sum(int(jnp.sum(layer["kernel"] == 0)) for layer in params.values())
    assert zeros >= 48
    np.testing.assert_array_equal(params["a"]["bias"] != 0, True)
