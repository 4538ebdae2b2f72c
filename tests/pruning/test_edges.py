"""Where updaters meet transformations of jax, bad numbers and masks that do not fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning.sparsity_distributions import uniform

HALF = functools.partial(uniform, sparsity=0.5)
PARAMS = {
    "a": {"kernel": jax.random.normal(jax.random.key(0), (8, 8)), "bias": jnp.ones(8)},
    "b": {"kernel": jax.random.normal(jax.random.key(1), (8, 4))},
}


def test_a_sweep_over_the_seed_of_random_masks():
    def mask(seed):
        updater = pruning.RandomPruning(
            scheduler=pruning.OneShotSchedule(0),
            sparsity_distribution_fn=HALF,
            rng_seed=jax.random.key(seed),
        )
        tx = updater.wrap_optax(optax.sgd(0.1))
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[1].masks["a"]["kernel"]

    found = jax.jit(jax.vmap(mask))(jnp.arange(2))
    alone = jax.jit(mask)
    np.testing.assert_array_equal(found, [alone(0), alone(1)])
    assert (found[0] != found[1]).any()


def test_updates_have_derivatives():
    updater = pruning.MagnitudePruning(
        scheduler=pruning.OneShotSchedule(0), sparsity_distribution_fn=HALF
    )
    tx = updater.wrap_optax(optax.sgd(0.1))
    state = tx.init(PARAMS)

    def total(scale):
        grads = jax.tree.map(lambda p: p * scale, PARAMS)
        updates, after = tx.update(grads, state, PARAMS)
        return updates["a"]["kernel"].sum(), after.masks["a"]["kernel"]

    slope, mask = jax.grad(total, has_aux=True)(1.0)
    np.testing.assert_allclose(slope, -0.1 * (PARAMS["a"]["kernel"] * mask).sum(), rtol=1e-5)


def test_scores_of_ones_own_may_bring_weights_back_and_moments_restart():
    class Gradients(pruning.BaseUpdater):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            return jax.tree.map(jnp.abs, grads)

    options = {"scheduler": pruning.PeriodicSchedule(1, 0, None), "sparsity_distribution_fn": HALF}
    assert Gradients(**options).may_regrow()
    assert not pruning.MagnitudePruning(**options).may_regrow()
    falling = pruning.GradualSchedule(4, initial=0.9)
    assert pruning.MagnitudePruning(scheduler=falling).may_regrow()


def test_rigl_keeps_its_weights_where_gradients_are_nan():
    updater = pruning.RigL(sparsity_distribution_fn=HALF, drop_fraction_fn=lambda step: 0.25)
    state = updater.init_state(PARAMS)
    spoilt = jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)
    after = updater.update_state(state, PARAMS, spoilt).masks["a"]["kernel"]
    before = state.masks["a"]["kernel"]
    assert int((after * before).sum()) >= 24 and int(after.sum()) == int(before.sum()) == 32
    with pytest.raises(UserError, match="RigL grows by gradients"):
        updater.update_state(state, PARAMS, None)


def test_masks_that_do_not_fit():
    packed = pruning.MagnitudePruning(use_packed_masks=True, sparsity_distribution_fn=HALF)
    state = packed.init_state(PARAMS)
    with pytest.raises(UserError, match="is_packed=True"):
        pruning.apply_masks(PARAMS, state.masks)
    with pytest.raises(UserError, match="unpacked_masks"):
        pruning.sparsity(PARAMS, state.masks)
    wrong = {"a": {"kernel": jnp.ones((8, 1)), "bias": None}, "b": {"kernel": None}}
    with pytest.raises(UserError, match=r"shape \(8, 1\) does not fit weights of shape \(8, 8\)"):
        pruning.FixedMasks(masks=wrong).init_state(PARAMS)


def test_constants_of_a_traced_function_are_searched_for_nan_as_well():
    updater = pruning.MagnitudePruning(scheduler=pruning.OneShotSchedule(0))
    state = updater.init_state(PARAMS)
    jax.jit(lambda: updater.update_masks(state, PARAMS, None))()
    wrong = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), PARAMS)
    with pytest.raises(UserError, match="the scores of a/kernel hold NaN"):
        jax.jit(lambda: updater.update_masks(state, wrong, None))()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"algorithm": None}, "the config has no algorithm; known: no_prune"),
        ({"sparsity": None}, "the config has no sparsity"),
        ({"sparsity": 50}, "got 50. For 95 % write 0.95"),
        ({"update_freq": None}, "also needs update_freq"),
    ],
)
def test_mistakes_in_a_config(changes, text):
    config = {
        "algorithm": "magnitude",
        "sparsity": 0.5,
        "dist_type": "uniform",
        "update_freq": 2,
        "update_start_step": 0,
        "update_end_step": 10,
        "drop_fraction": 0.1,
    }
    assert pruning.create_updater_from_config(config).scheduler.update_end_step == 10
    with pytest.raises(UserError, match=text):
        pruning.create_updater_from_config({**config, **changes})
