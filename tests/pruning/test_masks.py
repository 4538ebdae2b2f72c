"""Masks: exact counts, ties, no regrowth, and the reference's masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import pruning
from bap_jax.models.batch_norm import active_channels
from bap_jax.pruning import MagnitudePruning, SparseState
from bap_jax.pruning.arrays import UpdaterArrays, with_arrays
from bap_jax.pruning.counting import kept_count
from bap_jax.pruning.sparsity_distributions import uniform
from tests import golden_files
from tests.pruning.test_schedules import golden_schedule


def full(weight):
    return jnp.ones(weight.shape, bool)


def magnitude_mask(weight, mask, pruned):
    """The mask that a pruner makes of `mask` where `pruned` weights are to be removed in all."""
    kept = jnp.asarray(weight.size - pruned, jnp.int32).reshape(1, 1)
    updater = with_arrays(MagnitudePruning(), UpdaterArrays(targets={"w": 0.0}, kept=kept))
    state = SparseState({"w": mask}, None, {"w": jnp.float32(0)}, 0)
    return updater.update_masks(state, {"w": weight}, None)["w"].astype(bool)


@pytest.mark.parametrize("name", golden_files.cases("d/prune/", "weight"))
def test_golden_masks(name):
    case = golden_files.case(f"d/prune/{name}")
    weight = case["weight"]
    keys = [key for key in case if key.startswith("mask_s")]
    for key in golden_files.some(keys, "masks"):
        kept = kept_count("ceil", float(key.removeprefix("mask_s")), weight.size)
        mask = magnitude_mask(weight, full(weight), weight.size - kept)
        np.testing.assert_array_equal(mask, case[key])
        active = active_channels(jnp.moveaxis(mask, 0, -1))
        np.testing.assert_array_equal(active, case[f"io_{key}"])
        assert mask.sum() == case[f"kept_s{key.removeprefix('mask_s')}"]


@pytest.mark.parametrize("name", golden_files.cases("d/", "weight0"))
def test_golden_gradual_pruning(name):
    case = golden_files.case(f"d/{name}")
    schedule, target = golden_schedule(f"d/{name}", last_pruning_epoch=15, sparsity_final=0.95)
    weight, noise = case["weight0"], case["noise_added_after_prune"]
    updater = MagnitudePruning(
        scheduler=schedule,
        sparsity_distribution_fn=functools.partial(uniform, sparsity=target),
        counting="ceil",
    )
    params = {"w": jnp.asarray(weight)}
    state, update = updater.init_state(params), jax.jit(updater.update_state)
    for epoch, (expected, kept) in enumerate(zip(case["masks"], case["kept"], strict=True)):
        state = state._replace(count=jnp.int32(epoch))
        if updater.scheduler.is_mask_update_iter(epoch):
            state = update(state, params, None)
        np.testing.assert_array_equal(state.masks["w"], expected)
        assert state.masks["w"].sum() == kept
        # The reference's noise also moves pruned weights; they must stay pruned all the same.
        params = {"w": params["w"] + noise[epoch]}
        np.testing.assert_allclose(params["w"], case["weight_after_noise"][epoch], atol=2e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 3), (3, 3, 4, 2)])
def test_removes_the_smallest_exactly(dtype, shape):
    weight = jax.random.normal(jax.random.key(0), shape, dtype)
    compiled = jax.jit(magnitude_mask)
    for pruned in range(weight.size + 1):
        mask = compiled(weight, full(weight), pruned)
        assert int((~mask).sum()) == pruned
        gone = np.abs(np.asarray(weight, np.float32))[~np.asarray(mask)]
        kept = np.abs(np.asarray(weight, np.float32))[np.asarray(mask)]
        assert gone.size == 0 or kept.size == 0 or gone.max() <= kept.min()


def test_ties_keep_the_lower_index():
    weight = jnp.array([[1.0, -1.0, 2.0], [1.0, 0.5, -1.0]])
    mask = magnitude_mask(weight, full(weight), 3)
    np.testing.assert_array_equal(mask, [[True, True, True], [False, False, False]])


def test_all_weights_and_all_zero_weights():
    weight = jnp.zeros((4, 4))
    assert not magnitude_mask(weight, full(weight), 16).any()
    assert int(magnitude_mask(weight, full(weight), 5).sum()) == 11


def test_removed_weights_come_back_only_where_the_count_falls():
    weight = jnp.array([0.0, 3.0, 5.0, 0.0])
    mask = jnp.array([False, True, False, True])
    np.testing.assert_array_equal(magnitude_mask(weight, mask, 2), [False, True, False, True])
    np.testing.assert_array_equal(magnitude_mask(weight, mask, 3), [False, True, False, False])
    np.testing.assert_array_equal(magnitude_mask(weight, mask, 1), [True, True, False, True])


def test_masked_weights_are_zero_even_where_they_were_not_finite():
    params = {"w": jnp.array([jnp.nan, jnp.inf, 1.0]), "b": jnp.ones(2)}
    masks = {"w": jnp.array([False, False, True]), "b": None}
    masked = pruning.apply_masks(params, masks)
    np.testing.assert_array_equal(masked["w"], [0, 0, 1])
    np.testing.assert_array_equal(masked["b"], [1, 1])


def test_jit_vmap_and_sharding_give_the_same_masks():
    weights = jax.random.normal(jax.random.key(0), (8, 16, 24))
    counts = jnp.arange(8) * 40
    plain = [magnitude_mask(w, full(w), int(k)) for w, k in zip(weights, counts, strict=True)]
    mapped = jax.jit(jax.vmap(magnitude_mask))(weights, full(weights), counts)
    np.testing.assert_array_equal(mapped, jnp.stack(plain))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    shard = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = jax.jit(magnitude_mask)(
        jax.device_put(weights[3], shard), jax.device_put(full(weights[3]), shard), counts[3]
    )
    np.testing.assert_array_equal(spread, plain[3])


def test_sparsity_is_counted_from_masks():
    params = {"w": jnp.zeros((10, 10)), "b": jnp.zeros(100)}
    masks = {"w": jnp.arange(100).reshape(10, 10) >= 25, "b": None}
    assert pruning.sparsity(params, masks) == pruning.Sparsity(prunable=0.25, total=0.125)
