"""The whole step: what is frozen when, and jit, vmap, scan and eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

from bap_jax import data, lagrangian, models, pipeline, training
from bap_jax.constraints import excess_accuracy_gap, unconstrained
from bap_jax.training import methods
from bap_jax.training.settings import DualSettings, PruningSettings, Settings
from bap_jax.types import Dataset
from tests.training.tiny import tiny

BATCH = 64


@pytest.fixture(scope="module")
def run(digits_splits, small_dense):
    """A trainer of CEAG with pruning in epochs 0 to 2, its data and its first state."""
    return make_run(digits_splits, small_dense, DualSettings())


@pytest.fixture(scope="module")
def run_by_ascent(digits_splits, small_dense):
    """The same by plain ascent, with a replay buffer."""
    return make_run(digits_splits, small_dense, DualSettings("ascent"))


def make_run(digits_splits, small_dense, dual):
    model, dense = small_dense
    train = data.on_device(digits_splits.train)
    reference = training.dense_reference(training.make_evaluator(model, 10)(dense, train))
    pruning = PruningSettings(sparsity=0.9, epochs=2)
    settings = Settings(pruning=pruning, dual=dual, finetune_epochs=4)
    pruner = pipeline.pruner_from_settings(model, dense, train, settings, 10)
    method = methods.build_method(reference, settings)
    trainer = pipeline.trainer_from_settings(model, method, pruner, settings, 3)
    return trainer, train, trainer.init(dense, jax.random.key(1))


def data_indices(size):
    return data.epoch_indices(jax.random.key(3), size, BATCH)


def play(step, state, train, steps=12, per_epoch=3):
    """Runs steps of a few epochs and returns the last state and all metrics."""
    seen = []
    for i, indices in enumerate(data_indices(train.size)[:steps]):
        state, metrics = step(state, train, indices, i // per_epoch)
        seen.append(metrics)
    return state, jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(seen))


def close(one, other, atol=1e-5):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), atol=atol)


@pytest.mark.parametrize("which", ["run", "run_by_ascent"])
def test_scan_is_a_loop(which, request):
    trainer, train, state = request.getfixturevalue(which)
    indices = data_indices(train.size)[:12]
    epochs = jnp.arange(12) // 3

    @jax.jit
    def scanned(state):
        return jax.lax.scan(lambda s, x: trainer.step(s, train, *x), state, (indices, epochs))

    close(scanned(state), play(jax.jit(trainer.step), state, train))


@pytest.mark.parametrize("which", ["run", "run_by_ascent"])
def test_vmap_over_eight_runs_is_a_loop(which, request):
    trainer, train, state = request.getfixturevalue(which)
    scales = 1 + 0.01 * jnp.arange(8)

    def scaled(scale):
        return state._replace(params=jax.tree.map(lambda leaf: leaf * scale, state.params))

    step = jax.jit(jax.vmap(trainer.step, in_axes=(0, None, None, None)))
    mapped, _ = play(step, jax.vmap(scaled)(scales), train)
    single = jax.jit(trainer.step)
    for i in range(8):
        one, _ = play(single, scaled(scales[i]), train)
        close(jax.tree.map(functools.partial(lambda i, leaf: leaf[i], i), mapped), one, 2e-5)


@pytest.mark.parametrize("which", ["run", "run_by_ascent"])
def test_eight_devices_are_one_device(which, request):
    trainer, train, state = request.getfixturevalue(which)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    step = jax.jit(trainer.step)

    def sharded(state, train, indices, epoch):
        return step(state, train, jax.device_put(indices, spread), epoch)

    one, metrics_one = play(step, state, train)
    replicated = jax.device_put((state, train), everywhere)
    eight, metrics_eight = play(sharded, *replicated)
    if which == "run_by_ascent":
        np.testing.assert_array_equal(one.constraint.seen, eight.constraint.seen)
        np.testing.assert_array_equal(one.constraint.values, eight.constraint.values)
    assert one.lagrangian.multipliers.max() > 0
    close((one, metrics_one), (eight, metrics_eight), 1e-5)


@pytest.mark.parametrize("which", ["run", "run_by_ascent"])
def test_nothing_but_weights_moves_before_the_last_pruning(which, request):
    trainer, train, state = request.getfixturevalue(which)
    after, metrics = play(jax.jit(trainer.step), state, train, steps=6)  # epochs 0 and 1
    close(after.lagrangian.multipliers, jnp.zeros(10), 0)
    close(after.constraint, state.constraint, 0)
    assert np.isnan(metrics.violation).all() and np.isnan(metrics.proxy).all()
    assert not metrics.violation_mask.any() and not metrics.proxy_mask.any()
    after, metrics = play(jax.jit(trainer.step), state, train, steps=12)  # and 2, 3
    if which == "run_by_ascent":
        full = after.constraint.seen >= 40
        assert after.constraint.seen.sum() == 6 * BATCH
    else:
        count = np.bincount(np.asarray(train.group_ids)[:, 0])
        full = after.constraint.count[0] >= 0.7 * np.minimum(20, 0.9 * count)
        assert 0 < after.constraint.count[1].sum() < 6 * BATCH  # they fade
    assert not metrics.violation_mask[6].any()
    assert full.any()
    np.testing.assert_array_equal(np.isfinite(metrics.violation[-1]), full)
    np.testing.assert_array_equal(metrics.violation_mask[-1], full)
    np.testing.assert_array_equal(np.isfinite(metrics.proxy[-1]), metrics.proxy_mask[-1])
    assert metrics.proxy_mask[-1].all()
    assert after.lagrangian.multipliers.max() > 0


def test_pruned_weights_are_zero_after_every_step(run):
    trainer, train, state = run
    after, _ = play(jax.jit(trainer.step), state, train)
    for mask, leaf in zip(
        jax.tree.leaves(after.masks, is_leaf=lambda x: x is None),
        jax.tree.leaves(after.params),
        strict=True,
    ):
        if mask is not None:
            mask, leaf = np.asarray(mask), np.asarray(leaf)
            assert int((mask == 0).sum()) == int(np.ceil(0.9 * mask.size))
            assert (leaf[mask == 0] == 0).all() and (leaf[mask == 1] != 0).any()


def test_padding_changes_nothing(run):
    trainer, train, state = run
    padded = (-1 - jnp.arange(BATCH)).at[: BATCH // 2].set(jnp.arange(BATCH // 2))
    short = jnp.arange(BATCH // 2)
    step = jax.jit(trainer.step)
    close(step(state, train, padded, 5), step(state, train, short, 5))


def test_a_ragged_batch_keeps_running_statistics_those_of_the_data():
    """A batch far larger than the data, and an outlier as the first sample."""

    class Normed(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            return linen.Dense(2)(linen.BatchNorm(use_running_average=not train, momentum=0.0)(x))

    inputs = jax.random.normal(jax.random.key(0), (40, 3)).at[0].set(100.0)
    ids = jnp.zeros((40, 1), jnp.int32)
    train = Dataset(inputs, jnp.zeros(40, jnp.int32), ids)
    model = models.from_linen(Normed())
    variables = model.init(jax.random.key(1), inputs)
    scheme = lagrangian.dual_primal(optax.sgd(0.0), optax.sgd(0.0))
    trainer = training.make_trainer(model, scheme, unconstrained(), training.no_pruning())
    state = trainer.init(variables, jax.random.key(2))
    (indices,) = data.epoch_indices(jax.random.key(3), 40, 160)
    after, _ = jax.jit(trainer.step)(state, train, indices, 0)
    found = after.model_state["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(found, inputs.mean(0), rtol=1e-4)


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("make", [lagrangian.primal_dual, lagrangian.extragradient])
def test_chained_evaluations_both_move_the_states_of_network_and_buffer(make, chained):
    problem = tiny()

    def apply(variables, inputs, **options):
        logits, _ = problem.model.apply(variables, inputs, **options)
        return logits, variables.state + 1  # how often the network was evaluated

    trainer = training.make_trainer(
        models.Model(problem.model.init, apply),
        make(optax.sgd(0.1), optax.sgd(0.1), chained=chained),
        excess_accuracy_gap(problem.reference, 0.0, buffer_size=20),
        training.no_pruning(),
        constrained_from=0,
    )
    state = trainer.init(problem.variables._replace(state=jnp.int32(0)), jax.random.key(0))
    state, _ = jax.jit(trainer.step)(state, problem.train, jnp.arange(6), 0)
    times = 2 if chained else 1
    assert state.model_state == times
    assert state.constraint.pushes == times and state.constraint.seen.sum() == 6 * times
