"""Averages of weights: 0 where weights are removed, or found by `check_applied`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax.contrib import schedule_free, schedule_free_eval_params

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning.averaged import evaluation_params

PARAMS = {"w": jax.random.normal(jax.random.key(0), (6, 8)), "b": jnp.ones(8)}
UPDATER = pruning.MagnitudePruning(
    scheduler=pruning.OneShotSchedule(2),
    sparsity_distribution_fn=functools.partial(
        pruning.sparsity_distributions.uniform, sparsity=0.75
    ),
)
PACKED = pruning.MagnitudePruning(
    scheduler=UPDATER.scheduler,
    sparsity_distribution_fn=UPDATER.sparsity_distribution_fn,
    use_packed_masks=True,
)
DENSE = "36 removed weights of w are not 0.*params = updater.post_gradient_update"
FREE = functools.partial(schedule_free, learning_rate=0.1)


def gradient(params):
    return jax.tree.map(lambda leaf: jnp.cos(3 * leaf) / 2 - leaf, params)


def steps(tx, params=PARAMS, updater=None, count=6, average=None):
    """Weights and state after some steps; calls `average(params)` after each."""
    state = tx.init(params)
    for _ in range(count):
        grads = gradient(getattr(params, "fast", params))
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        if updater:
            params = updater.post_gradient_update(params, state)
        if average:
            average(params)
    return params, state


def zeros(params):
    return int(jnp.sum(params["w"] == 0))


@pytest.mark.parametrize("updater", [UPDATER, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize("base", [optax.sgd(0.1), optax.adam(0.1, b1=0.0)], ids=["sgd", "adam"])
def test_pruning_around_a_schedule_free_optimiser(updater, base):
    params, state = steps(updater.wrap_optax(FREE(base)))
    average = schedule_free_eval_params(state.inner_state, params)
    assert zeros(params) == zeros(average) == 36
    assert jnp.abs(average["w"] - params["w"]).max() > 1e-3
    pruning.check_applied(params, state)
    pruning.check_applied(average, state)


def test_weights_that_stay_move_as_without_pruning():
    """On gradients of each weight alone, masks change nothing else."""
    params, state = steps(UPDATER.wrap_optax(FREE(optax.sgd(0.1))))
    dense, dense_state = steps(FREE(optax.sgd(0.1)))
    found = schedule_free_eval_params(state.inner_state, params)
    expected = schedule_free_eval_params(dense_state, dense)
    kept = np.asarray(state.masks["w"]) == 1
    np.testing.assert_allclose(found["w"][kept], expected["w"][kept], rtol=1e-6)
    np.testing.assert_allclose(found["b"], expected["b"], rtol=1e-6)


def test_pruning_within_a_schedule_free_optimiser_is_found():
    """Its average is dense even where the weights themselves are masked after each step."""
    tx = FREE(UPDATER.wrap_optax(optax.sgd(0.1)))
    with pytest.raises(UserError, match=DENSE):
        pruning.check_applied(*steps(tx))
    params, state = steps(tx, updater=UPDATER)
    assert zeros(params) == 36
    assert zeros(schedule_free_eval_params(state, params)) == 0
    with pytest.raises(UserError, match=r"36 removed.*schedule-free.*wrap_optax\(optax.contrib"):
        pruning.check_applied(params, state)


def exponential(average, params):
    return optax.incremental_update(params, average, 0.1)


class Mean:
    """Of the weights of all steps (stochastic weight averaging)."""

    def __init__(self):
        self.count = 0

    def __call__(self, average, params):
        self.count += 1
        return jax.tree.map(lambda a, p: a + (p - a) / self.count, average, params)


@pytest.mark.parametrize("rule", [exponential, Mean()], ids=["ema", "swa"])
def test_averages_of_ones_own_are_dense_until_they_are_masked(rule):
    kept = {"average": PARAMS}

    def average(params):
        kept["average"] = rule(kept["average"], params)

    params, state = steps(UPDATER.wrap_optax(optax.sgd(0.1)), average=average)
    pruning.check_applied(params, state)
    assert zeros(kept["average"]) == 0
    with pytest.raises(UserError, match=DENSE):
        pruning.check_applied(kept["average"], state)
    for masked in (
        UPDATER.post_gradient_update(kept["average"], state),
        pruning.apply_masks(kept["average"], state.masks),
    ):
        assert zeros(masked) == 36
        pruning.check_applied(masked, state)


def test_an_average_of_updates_after_the_pruner_is_found():
    tx = optax.chain(UPDATER.wrap_optax(optax.sgd(0.1)), optax.ema(0.9))
    with pytest.raises(UserError, match=DENSE):
        pruning.check_applied(*steps(tx))
    pruning.check_applied(*steps(tx, updater=UPDATER))


def test_slow_weights_of_lookahead():
    tx = optax.lookahead(UPDATER.wrap_optax(optax.sgd(0.1)), sync_period=3, slow_step_size=0.5)
    pair = optax.LookaheadParams.init_synced(PARAMS)
    params, state = steps(tx, pair)
    for found in (params, params.slow):
        with pytest.raises(UserError, match=DENSE):
            pruning.check_applied(found, state)
    params, state = steps(tx, pair, UPDATER)
    assert zeros(params.fast) == zeros(params.slow) == 36
    pruning.check_applied(params, state)
    pruning.check_applied(params.slow, state)


def test_lookahead_within_the_pruner_is_refused():
    tx = UPDATER.wrap_optax(optax.lookahead(optax.sgd(0.1), 3, 0.5))
    with pytest.raises(UserError, match=r"optax.lookahead\(updater.wrap_optax"):
        tx.init(optax.LookaheadParams.init_synced(PARAMS))


SEVERAL = {"one": PARAMS, "other": {"w": 2 * PARAMS["w"], "b": PARAMS["b"]}}
LABELS = {"one": "free", "other": "plain"}


@pytest.mark.parametrize("is_outside", [True, False])
def test_schedule_free_for_a_part_of_the_weights(is_outside):
    free, plain = FREE(optax.sgd(0.1)), optax.sgd(0.1)
    if is_outside:
        tx = UPDATER.wrap_optax(optax.multi_transform({"free": free, "plain": plain}, LABELS))
    else:
        parts = {"free": UPDATER.wrap_optax(free), "plain": UPDATER.wrap_optax(plain)}
        tx = optax.multi_transform(parts, LABELS)
    params, state = steps(tx, SEVERAL)
    pruning.check_applied(params, state)
    average = evaluation_params(params, state)
    assert zeros(average["one"]) == zeros(average["other"]) == 36
    np.testing.assert_array_equal(average["other"]["w"], params["other"]["w"])
    assert jnp.abs(average["one"]["w"] - params["one"]["w"]).max() > 1e-3


@pytest.mark.parametrize("is_right", [True, False])
def test_within_an_nnx_optimizer(is_right):
    net = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
    tx = UPDATER.wrap_optax(FREE(optax.sgd(0.1)))
    if not is_right:
        tx = FREE(UPDATER.wrap_optax(optax.sgd(0.1)))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    for _ in range(4):
        optimizer.update(net, nnx.grad(lambda net: jnp.sum(net(jnp.ones((2, 6))) ** 2))(net))
    params = nnx.state(net, nnx.Param)
    if not is_right:
        with pytest.raises(UserError, match="36 removed weights of kernel"):
            pruning.check_applied(params, optimizer.opt_state)
        return
    pruning.check_applied(params, optimizer.opt_state)
    found = evaluation_params(params, optimizer.opt_state)
    assert int((nnx.to_pure_dict(found)["kernel"] == 0).sum()) == 36
