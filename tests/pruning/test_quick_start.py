"""What jaxpruner's README and quick start call runs with the import changed, and nothing else."""

import functools

import flax.jax_utils
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bap_jax import pruning as jaxpruner

SIZE = 5
MATRIX = jax.random.uniform(jax.random.PRNGKey(8), (SIZE, SIZE))
PAIR = {"pos": MATRIX, "inv": 1 - MATRIX}
uniform = functools.partial(jaxpruner.sparsity_distributions.uniform, sparsity=0.8)


def ones(mask):
    return int(mask.sum())


def test_prune_a_matrix_at_once():
    pruner = jaxpruner.MagnitudePruning(sparsity_distribution_fn=uniform)
    pruned, mask = pruner.instant_sparsify(MATRIX)
    assert mask.dtype == jnp.uint8
    assert ones(mask) == 5
    np.testing.assert_array_equal(pruned, MATRIX * mask)
    assert MATRIX[mask == 1].min() >= MATRIX[mask == 0].max()


def test_n_by_m_of_a_matrix_and_of_a_dict():
    pruner = jaxpruner.MagnitudePruning(
        sparsity_distribution_fn=uniform, sparsity_type=jaxpruner.sparsity_types.NByM(1, 5)
    )
    _, mask = pruner.instant_sparsify(MATRIX)
    np.testing.assert_array_equal(np.sum(mask, axis=-2), 1)
    pruned, masks = pruner.instant_sparsify(PAIR)
    assert [ones(mask) for mask in masks.values()] == [5, 5]
    np.testing.assert_array_equal(pruned["inv"], PAIR["inv"] * masks["inv"])


def test_a_distribution_of_ones_own_and_the_summary():
    def distribution(params, sparsity=0.8):
        return {key: 0.4 if "pos" in key else sparsity for key in params}

    pruner = jaxpruner.MagnitudePruning(sparsity_distribution_fn=distribution)
    pruned, _ = pruner.instant_sparsify(PAIR)
    summary = {key: float(value) for key, value in jaxpruner.summarize_sparsity(pruned).items()}
    assert summary == pytest.approx(
        {"pos": 0.4, "inv": 0.8, "_total_sparsity": 0.6, "_nparams": 50, "_nparams_nnz": 20}
    )
    short = jaxpruner.summarize_sparsity(pruned, only_total_sparsity=True)
    assert set(short) == {"_total_sparsity", "_nparams", "_nparams_nnz"}


def test_none_stands_for_leaves_that_stay_dense():
    def distribution(params, sparsity=0.8):
        return {key: None if "pos" in key else sparsity for key in params}

    pruner = jaxpruner.MagnitudePruning(sparsity_distribution_fn=distribution)
    pruned, masks = pruner.instant_sparsify(PAIR)
    assert masks["pos"] is None
    assert ones(masks["inv"]) == 5
    np.testing.assert_array_equal(pruned["pos"], MATRIX)


def test_every_registered_algorithm_can_be_made_by_its_class():
    assert tuple(jaxpruner.ALGORITHM_REGISTRY) == jaxpruner.all_algorithm_names()
    for name, algorithm in jaxpruner.ALGORITHM_REGISTRY.items():
        own = {"sparsity": 0.8} if name.startswith("global") else {}
        pruner = algorithm(**own) if own else algorithm(sparsity_distribution_fn=uniform)
        assert isinstance(pruner, jaxpruner.BaseUpdater)


def test_saliency_pruning_takes_gradients():
    pruner = jaxpruner.SaliencyPruning(sparsity_distribution_fn=uniform)
    pruned, mask = pruner.instant_sparsify(MATRIX, grads=1 - MATRIX)
    scores = np.abs(MATRIX * (1 - MATRIX))
    assert scores[mask == 1].min() >= scores[mask == 0].max()
    assert int(jnp.count_nonzero(pruned)) == ones(mask) == 5
    with pytest.raises(ValueError, match="saliency pruning needs gradients"):
        pruner.instant_sparsify(MATRIX)


def loss_fn(params):
    matrix = params["w"]
    return jnp.sum((matrix @ matrix.T - jnp.eye(len(matrix))) ** 2)


@functools.partial(jax.jit, static_argnames="optimizer")
def update_fn(params, opt_state, optimizer):
    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def sparsity_by_step(pruner, steps=20):
    optimizer = pruner.wrap_optax(optax.sgd(0.05))
    params = {"w": MATRIX}
    opt_state = optimizer.init(params)
    found = []
    for _ in range(steps):
        params, opt_state, _ = update_fn(params, opt_state, optimizer)
        params = pruner.post_gradient_update(params, opt_state)
        summary = jaxpruner.summarize_sparsity(params, only_total_sparsity=True)
        found.append(float(summary["_total_sparsity"]))
    assert int(opt_state.count) == steps
    return np.round(25 * (1 - np.array(found))).tolist()  # weights left


@pytest.mark.slow
def test_prune_in_one_step_while_training():
    pruner = jaxpruner.MagnitudePruning(
        sparsity_distribution_fn=uniform,
        scheduler=jaxpruner.sparsity_schedules.OneShotSchedule(target_step=10),
    )
    assert sparsity_by_step(pruner) == [25] * 10 + [5] * 10


def test_prune_step_by_step_while_training():
    pruner = jaxpruner.MagnitudePruning(
        sparsity_distribution_fn=uniform,
        scheduler=jaxpruner.sparsity_schedules.PolynomialSchedule(
            update_freq=4, update_start_step=2, update_end_step=14
        ),
    )
    # Updates at 2, 6, 10 and 14 with sparsities .8 (1 − (1 − p)³) of p = 1/12, 5/12, 9/12, 1.
    assert sparsity_by_step(pruner) == [25] * 2 + [20] * 4 + [9] * 4 + [5] * 10


def test_an_updater_from_a_config():
    config = ml_collections.ConfigDict()
    config.algorithm = "magnitude"
    config.update_freq = 2
    config.update_end_step = 15
    config.update_start_step = 5
    config.sparsity = 0.6
    config.dist_type = "uniform"
    left = sparsity_by_step(jaxpruner.create_updater_from_config(config))
    assert left[:5] == [25] * 5
    assert left[15:] == [10] * 5
    assert left == sorted(left, reverse=True)


def test_masks_as_bits():
    pruner = jaxpruner.MagnitudePruning(is_packed=True, sparsity_distribution_fn=uniform)
    params = {"w": jnp.ones((8, 8))}
    state = pruner.wrap_optax(optax.sgd(0.1)).init(params)
    assert state.masks["w"].shape == (8,)
    np.testing.assert_array_equal(pruner.post_gradient_update(params, state)["w"], 1)


def one_shot():
    return jaxpruner.MagnitudePruning(
        sparsity_distribution_fn=uniform,
        scheduler=jaxpruner.sparsity_schedules.OneShotSchedule(target_step=0),
    )


def start():
    return {"w": jax.random.normal(jax.random.PRNGKey(0), (8, 8))}


@functools.cache
def expected_weights(steps=3):
    pruner, params = one_shot(), start()
    optimizer = pruner.wrap_optax(optax.sgd(0.001))
    opt_state = optimizer.init(params)
    for _ in range(steps):
        params, opt_state, _ = update_fn(params, opt_state, optimizer)
    assert int(jnp.count_nonzero(params["w"])) == 13
    return params["w"]


@pytest.mark.slow
def test_a_replicated_state_trains_under_pmap():
    @functools.partial(
        jax.pmap, out_axes=(0, 0, None), axis_name="batch", static_broadcasted_argnums=(2,)
    )
    def update_fn(params, opt_state, optimizer):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        grads = jax.lax.pmean(grads, "batch")
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, jax.lax.pmean(loss, "batch")

    pruner, params = one_shot(), start()
    optimizer = pruner.wrap_optax(optax.sgd(0.001))
    opt_state = flax.jax_utils.replicate(optimizer.init(params))
    params = flax.jax_utils.replicate(params)
    for _ in range(3):
        params, opt_state, _ = update_fn(params, opt_state, optimizer)
        params = pruner.post_gradient_update(params, opt_state)
    assert params["w"].shape == (8, 8, 8)
    found = flax.jax_utils.unreplicate(params)["w"]
    np.testing.assert_allclose(found, expected_weights(), rtol=1e-5, atol=1e-7)


def test_a_sharded_state_trains_under_jit():
    pruner, params = one_shot(), start()
    optimizer = pruner.wrap_optax(optax.sgd(0.001))
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("X", "Y"))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("X", "Y")))
    state_sharding = jaxpruner.base_updater.SparseState(
        masks={"w": split}, inner_state=whole, target_sparsities=whole, count=whole
    )
    shardings = ({"w": split}, state_sharding)

    @functools.partial(jax.jit, in_shardings=shardings, out_shardings=(*shardings, whole))
    def update_fn(params, opt_state):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    opt_state = optimizer.init(params)
    for _ in range(3):
        params, opt_state, _ = update_fn(params, opt_state)
        params = pruner.post_gradient_update(params, opt_state)
    assert opt_state.masks["w"].sharding.spec == PartitionSpec("X", "Y")
    np.testing.assert_allclose(params["w"], expected_weights(), rtol=1e-5, atol=1e-7)
