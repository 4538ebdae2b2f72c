"""Streamed batches are gathered batches; nothing is left behind by a reader that stops early."""

import functools
import threading
import time

import jax
import numpy as np
import optax
import pytest

from bap_jax import constraints, data, lagrangian, models, training
from bap_jax.data import Records
from bap_jax.errors import UserError
from bap_jax.types import Dataset
from tests.data.images import both, encoded, picture, records_of

gather = jax.jit(data.gather)


def orders(size, batch):
    yield data.ordered_indices(size, batch)
    yield data.epoch_indices(jax.random.key(3), size, batch)


def reading_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("grain")}


def wait_until_gone(before):
    deadline = time.monotonic() + 10
    while reading_threads() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not reading_threads() - before


@pytest.mark.parametrize(("size", "batch"), [(12, 4), (11, 4), (3, 8), (40, 33), (5, 1)])
@pytest.mark.parametrize("kind", ["records", "arrays"])
def test_streamed_batches_are_gathered_batches(size, batch, kind):
    streamed, arrays = both(size)
    for order in orders(size, batch):
        steps = 0
        for found, indices in data.stream(streamed if kind == "records" else arrays, order):
            assert indices.dtype == np.int32 and indices.shape == (batch,)
            local, whole = gather(found, indices), gather(arrays, order[steps])
            jax.tree.map(np.testing.assert_array_equal, local, whole)
            assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
            steps += 1
        assert steps == len(order)


def test_without_dense_logits():
    streamed, _ = both(4)
    order = data.ordered_indices(4, 4)
    ((batch, _),) = data.stream(streamed._replace(dense_logits=None), order)
    assert batch.dense_logits is None


def test_ids_that_lie_on_the_device():
    streamed, arrays = both(6)
    order = data.ordered_indices(6, 4)
    found = [data.gather(*pair) for pair in data.stream(data.on_device(streamed), order)]
    expected = [data.gather(arrays, indices) for indices in order]
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (1, 4), (2, 2), (8, 1), (16, 3)])
def test_order_is_kept_whoever_is_faster(threads, prefetch):
    def read(row):
        time.sleep(0.004 * (row % 3 == 0))
        return np.array(row)

    records = Records(read, np.arange(90), (), np.dtype(int))
    samples = Dataset(records, np.arange(90), np.zeros((90, 1), np.int32))
    order = np.random.default_rng(0).permutation(90).reshape(3, 30)
    batches = data.stream(samples, order, threads=threads, prefetch=prefetch)
    for (batch, _), indices in zip(batches, order, strict=True):
        np.testing.assert_array_equal(batch.inputs, indices)
        np.testing.assert_array_equal(batch.labels, indices)


def slow(count, seconds):
    """Samples that take their time, and how many were read."""
    seen = []

    def read(row):
        seen.append(row)
        time.sleep(seconds)
        return np.array(row)

    records = Records(read, np.arange(count), (), np.dtype(int))
    return Dataset(records, np.arange(count), np.zeros((count, 1), np.int32)), seen


def test_several_samples_are_read_at_once():
    samples, _ = slow(64, 0.02)
    start = time.perf_counter()
    list(data.stream(samples, np.arange(64)[None], threads=4))
    assert time.perf_counter() - start < 0.75 * 64 * 0.02


def test_reading_goes_on_meanwhile_and_is_bounded():
    samples, seen = slow(400, 0.0001)
    batches = data.stream(samples, np.arange(400).reshape(-1, 16), threads=2, prefetch=3)
    next(batches)
    time.sleep(0.3)
    ahead = len(seen)
    batches.close()
    assert 16 < ahead <= 16 * (1 + 3)


def test_waiting_is_counted():
    samples, _ = slow(8, 0.01)
    waits = []
    order = np.arange(8).reshape(4, 2)
    for _ in data.stream(samples, order, threads=1, prefetch=1, on_wait=waits.append):
        pass
    assert len(waits) == 4 and all(wait >= 0 for wait in waits) and sum(waits) > 0.05
    waits.clear()
    batches = data.stream(samples, order, threads=4, prefetch=4, on_wait=waits.append)
    next(batches)
    time.sleep(0.2)
    assert len(list(batches)) == 3
    assert sum(waits[1:]) < 0.05


def test_stopping_early_leaves_no_thread():
    samples, seen = slow(4000, 0.001)
    before = reading_threads()
    for _ in data.stream(samples, np.arange(4000).reshape(-1, 20), threads=4):
        break
    wait_until_gone(before)
    count = len(seen)
    time.sleep(0.05)
    assert len(seen) == count < 400
    for _ in data.feed(samples, np.arange(4000).reshape(-1, 20)):
        break
    wait_until_gone(before)


def test_reading_to_the_end_leaves_no_thread():
    before = reading_threads()
    list(data.feed(both(9)[0], data.ordered_indices(9, 4)))
    wait_until_gone(before)


def test_a_sample_that_cannot_be_read_stops_the_stream():
    images = [encoded(picture(i)) for i in range(40)]
    images[27] = images[27][:50]
    samples = Dataset(records_of(images), np.zeros(40, np.int32), np.zeros((40, 1), np.int32))
    before, seen = reading_threads(), 0
    with pytest.raises(UserError, match="image 27 cannot be read"):
        for _ in data.stream(samples, data.ordered_indices(40, 8), threads=2):
            seen += 1
    assert seen == 3  # the batches before it are whole
    wait_until_gone(before)


def test_no_steps():
    streamed, _ = both(3)
    assert list(data.stream(streamed, np.zeros((0, 4), np.int32))) == []
    assert list(data.feed(streamed, np.zeros((0, 4), np.int32))) == []


def test_what_is_fed():
    streamed, arrays = both(11)
    arrays = data.on_device(arrays)
    order = data.epoch_indices(jax.random.key(0), 11, 4)
    fed = list(data.feed(arrays, order))
    assert all(whole is arrays for whole, _ in fed)
    np.testing.assert_array_equal(np.stack([indices for _, indices in fed]), order)
    one_by_one = list(data.feed(streamed, order))
    assert len(one_by_one) == len(order)
    for (batch, local), (whole, indices) in zip(one_by_one, fed, strict=True):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((batch, local)))
        found, expected = gather(batch, local), gather(whole, indices)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("batch_size", [5, 8, 512])
def test_the_evaluator_reads_either(batch_size):
    streamed, arrays = both(23)
    preprocess = data.image_preprocess(0.5, 0.25, "crop_flip")
    model = models.with_preprocessing(models.build("mlp", 3, hidden=(8,)), preprocess)
    variables = model.init(jax.random.key(0), data.example(streamed))
    evaluate = training.make_evaluator(model, 4, batch_size)
    found, expected = (evaluate(variables, data.on_device(split)) for split in (streamed, arrays))
    # Two programs; XLA may sum in another order.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected)
    logits = [training.predict(model, variables, split, batch_size) for split in (streamed, arrays)]
    np.testing.assert_array_equal(*logits)
    assert logits[0].shape == (23, 3)


def test_a_training_step_takes_either():
    """Three steps, the last one ragged, with augmentation and batch statistics of real samples."""
    streamed, arrays = both(22)
    preprocess = data.image_preprocess(0.5, 0.25, "crop_flip")
    model = models.with_preprocessing(models.build("mlp", 3, hidden=(8,)), preprocess)
    scheme = lagrangian.build_scheme(
        "dual_primal", optax.sgd(0.1), lagrangian.gradient_ascent(optax.sgd(0.1))
    )
    trainer = training.make_trainer(
        model, scheme, constraints.unconstrained(), training.no_pruning(), constrained_from=0
    )
    variables = model.init(jax.random.key(0), data.example(streamed))
    step, ends = jax.jit(trainer.step), []
    for samples in (streamed, arrays):
        state = trainer.init(variables, jax.random.key(1))
        order = data.epoch_indices(jax.random.key(2), 22, 8)
        for batch, indices in data.feed(data.on_device(samples), order):
            state, metrics = step(state, batch, indices, 0)
        ends.append((state.params, metrics))
    jax.tree.map(np.testing.assert_array_equal, *ends)
    assert not np.array_equal(
        ends[0][0]["dense_0"]["kernel"], variables.params["dense_0"]["kernel"]
    )
