"""Batches: every sample once, padding with no weight, another order each epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import data
from bap_jax.types import Dataset

gather = jax.jit(data.gather)
epoch_indices = jax.jit(data.epoch_indices, static_argnums=(1, 2))
SIZES = [(10, 5), (10, 4), (3, 8), (7, 1), (1, 1), (9, 10)]


def dataset(size):
    inputs = np.arange(size * 4, dtype=np.float32).reshape(size, 2, 2)
    return Dataset(inputs, np.arange(size), np.stack([np.arange(size), np.arange(size) + size], 1))


@pytest.mark.parametrize(
    ("size", "batch", "expected"), [(10, 5, 2), (10, 4, 3), (3, 8, 1), (7, 1, 7), (1, 1, 1)]
)
def test_number_of_batches(size, batch, expected):
    assert data.num_batches(size, batch) == expected


@pytest.mark.parametrize(("size", "batch"), SIZES)
@pytest.mark.parametrize("shuffled", [True, False])
def test_every_sample_once_and_the_padding_last(size, batch, shuffled):
    found = (
        epoch_indices(jax.random.key(0), size, batch)
        if shuffled
        else data.ordered_indices(size, batch)
    )
    assert found.shape == (data.num_batches(size, batch), batch)
    assert found.dtype == jnp.int32
    order = np.asarray(found).ravel()
    np.testing.assert_array_equal(np.sort(order[:size]), np.arange(size))
    filling = order[size:]
    assert (filling < 0).all() and ((-1 - filling) < size).all()
    if filling.size <= size:
        assert len(set(filling)) == filling.size  # other samples each, not one over and over
    if not shuffled:
        np.testing.assert_array_equal(order[:size], np.arange(size))


@pytest.mark.parametrize(("size", "batch"), SIZES)
def test_weights_of_an_epoch_sum_to_its_samples(size, batch):
    samples, seen = dataset(size), []
    for indices in np.asarray(epoch_indices(jax.random.key(1), size, batch)):
        found, weight = gather(samples, indices)
        np.testing.assert_array_equal(weight, indices >= 0)
        seen.extend(np.asarray(found.labels)[np.asarray(weight) == 1])
    assert sorted(seen) == list(range(size))


def test_filling_is_real_samples_without_weight():
    samples = dataset(6)
    batch, weight = data.gather(samples, jnp.array([2, -1, -6]))
    np.testing.assert_array_equal(batch.labels, [2, 0, 5])
    np.testing.assert_array_equal(weight, [1, 0, 0])


def test_gather_takes_rows_of_every_array():
    samples, indices = dataset(6), jnp.array([4, 0, 5, -1])
    batch, weight = data.gather(samples, indices)
    np.testing.assert_array_equal(weight, [1, 1, 1, 0])
    assert weight.dtype == jnp.float32
    for leaf, whole in zip(jax.tree.leaves(batch), jax.tree.leaves(samples), strict=True):
        np.testing.assert_array_equal(leaf[:3], whole[np.array([4, 0, 5])])
        assert leaf.shape == (4, *whole.shape[1:])


def test_jit_of_gather_is_no_jit():
    samples, indices = dataset(6), jnp.array([1, -1, 3])
    plain, jitted = data.gather(samples, indices), jax.jit(data.gather)(samples, indices)
    jax.tree.map(np.testing.assert_array_equal, plain, jitted)


def test_keys_give_the_order():
    keys = jax.random.split(jax.random.key(0), 5)
    orders = [tuple(np.asarray(data.epoch_indices(key, 40, 8)).ravel()) for key in keys]
    assert len(set(orders)) == 5
    assert orders[2] == tuple(np.asarray(data.epoch_indices(keys[2], 40, 8)).ravel())
    assert orders[0] != tuple(range(40))


def test_vmap_over_keys_is_a_loop():
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.vmap(lambda key: data.epoch_indices(key, 11, 4))(keys)
    for key, found in zip(keys, mapped, strict=True):
        np.testing.assert_array_equal(found, data.epoch_indices(key, 11, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_on_device_keeps_inputs_and_makes_ids_int32(dtype):
    samples = dataset(5)._replace(inputs=np.arange(5, dtype=dtype))
    found = data.on_device(samples)
    leaves = jax.tree.leaves(found)
    assert [leaf.dtype for leaf in leaves] == [dtype, jnp.int32, jnp.int32]
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    jax.tree.map(np.testing.assert_array_equal, found, samples)
