"""Streamed batches on eight devices are those of one."""

import jax
import numpy as np
import pytest

from bap_jax import data, models, pipeline, sharding, training
from bap_jax.data import Records
from bap_jax.training.settings import OptimizerSettings, PruningSettings, Settings
from tests.data.images import both
from tests.tuning import prune_and_tune

gather = jax.jit(data.gather)


def read_from(split):
    """The same split, its inputs read when needed."""
    inputs = np.asarray(split.inputs)
    records = Records(inputs.__getitem__, np.arange(len(inputs)), inputs.shape[1:], inputs.dtype)
    return split._replace(inputs=records)


@pytest.mark.parametrize(
    ("size", "batch"),
    [
        (40, 16),
        (30, 12),
        (9, 3),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((37, 16), (5, 5))),
    ],
)
def test_what_is_fed_to_a_mesh(size, batch):
    mesh = sharding.data_mesh(8)
    streamed, arrays = both(size)
    order = data.epoch_indices(jax.random.key(0), size, batch)
    fed = list(data.feed(streamed, order, mesh=mesh))
    assert len(fed) == len(order)
    for (found, indices), wanted in zip(fed, order, strict=True):
        rows = {len(shard.data) for shard in found.inputs.addressable_shards}
        assert rows == {-(-batch // 8)}  # each device holds its share
        assert (indices.dtype == bool) == (batch % 8 == 0)
        local, whole = gather(found, indices), gather(arrays, wanted)
        jax.tree.map(np.testing.assert_array_equal, local, whole)


def test_rows_of_a_batch_that_the_devices_do_not_divide():
    rows = sharding.own_rows(12, sharding.data_mesh(8))
    np.testing.assert_array_equal(rows, np.arange(16) % 12)


@pytest.mark.parametrize("batch_size", [5, 8, 512])
def test_the_evaluator_on_a_mesh(batch_size):
    streamed, arrays = both(23)
    model = models.with_preprocessing(
        models.build("mlp", 3, hidden=(8,)), data.image_preprocess(0.5, 0.25)
    )
    variables = model.init(jax.random.key(0), data.example(streamed))
    mesh = sharding.data_mesh(8)
    one, eight = (training.make_evaluator(model, 4, batch_size, mesh=m) for m in (None, mesh))
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6)  # noqa: E731
    jax.tree.map(close, eight(variables, streamed), one(variables, arrays))
    placed = sharding.replicate(variables, mesh)
    logits = training.predict(model, placed, streamed, batch_size, mesh=mesh)
    expected = training.predict(model, variables, arrays, batch_size)
    np.testing.assert_allclose(logits, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "method", "algorithm"),
    [
        pytest.param(100, "ceag", "magnitude", marks=pytest.mark.smoke),
        pytest.param(128, "distillation", "snip", marks=pytest.mark.slow),
    ],
)
def test_streamed_runs(digits_splits, batch_size, method, algorithm):
    """Dense model, masks from data, logits of the dense model, and an epoch."""
    model = models.build("mlp", 10, hidden=(16,))
    first = model.init(jax.random.key(0), digits_splits.train.inputs[:1])
    names = {name: read_from(getattr(digits_splits, name)) for name in data.SPLITS}
    splits = digits_splits._replace(**names)
    settings = Settings(
        method=method,
        batch_size=batch_size,
        pruning=PruningSettings(epochs=1, algorithm=algorithm),
        finetune_epochs=1,
    )
    found = []
    for devices in (1, 8):
        execution = training.Execution(devices=devices)
        options = {"epochs": 1, "batch_size": batch_size, "seed": 0, "execution": execution}
        dense = pipeline.train_dense(model, first, splits.train, OptimizerSettings(0.1), **options)
        found.append(prune_and_tune(model, dense, splits, settings, execution=execution))
    one, eight = found
    assert one.pruned.score == pytest.approx(eight.pruned.score, abs=1e-6)
    jax.tree.map(np.testing.assert_array_equal, one.last.masks, eight.last.masks)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)  # noqa: E731
    jax.tree.map(close, one.last.variables, eight.last.variables)
