"""Runs with multipliers that need no tuning: members, devices, and the size of what they keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian, training
from bap_jax.constraints import DenseReference
from bap_jax.lagrangian.ceiling import HIGHEST
from bap_jax.training import methods
from bap_jax.training.settings import (
    ConstraintSettings,
    DualSettings,
    PruningSettings,
    Settings,
)
from tests.training.tiny import tiny, trainer_of

BATCH, STEPS, MEMBERS = 8, 40, 4
DEVICES = 8


def settings():
    watched = ConstraintSettings(buffer_size=4, min_group_size=1)
    return Settings("ceag", tolerance=0.0, dual=DualSettings("auto"), constraint=watched)


@pytest.fixture(scope="module")
def run():
    """Trainer, data, indices `(step, batch)` and first state of `(member,)` runs."""
    problem = tiny((40, 24, 16))
    trainer = trainer_of(problem, settings(), learning_rate=0.02)
    order = np.random.default_rng(0).permutation(problem.train.size)
    indices = jnp.asarray(np.resize(order, (STEPS, BATCH)))
    keys = jax.random.split(jax.random.key(0), MEMBERS)

    def first(key):
        noise = jax.tree.map(
            lambda leaf: leaf + jax.random.normal(key, leaf.shape), problem.variables.params
        )
        return trainer.init(problem.variables._replace(params=noise), key)

    return trainer, problem.train, indices, [first(key) for key in keys]


def scanned(trainer, state, train, indices):
    def body(state, rows):
        state, seen = trainer.step(state, train, rows, 0)
        return state, (seen.loss, state.lagrangian.multipliers)

    return jax.lax.scan(body, state, indices)


def close(one, other, atol=2e-5):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = (np.asarray(jax.device_get(leaf), float) for leaf in (a, b))
        np.testing.assert_allclose(a, b, atol=atol, rtol=2e-5)


def test_the_rule_is_at_work(run):
    """Weights are changed and none runs away; the state is that of the rule and its estimator."""
    trainer, train, indices, states = run
    last, (loss, multipliers) = jax.jit(functools.partial(scanned, trainer))(
        states[0], train, indices
    )
    assert multipliers.max() > 0.05 and (np.asarray(multipliers) >= 0).all()
    assert np.isfinite(loss).all()
    memory = last.lagrangian.dual.memory
    assert memory.known and memory.length.steps > 0 and last.constraint.count.min() > 0


def test_accuracy_lost_to_pruning_lowers_no_multiplier():
    """Constraints may act before the last weights go; estimates remember those for an epoch, and
    the best accuracy counts from then on."""
    problem = tiny((40, 24, 16))
    pruner = training.build_pruner(PruningSettings(0.5, epochs=3), {"first": True, "last": True})
    trainer = trainer_of(problem, settings(), learning_rate=0.02)._replace(pruner=pruner)
    state, step = trainer.init(problem.variables, jax.random.key(0)), jax.jit(trainer.step)
    for epoch in range(pruner.last_epoch + 3):
        for rows in np.arange(80).reshape(-1, BATCH):
            state, _ = step(state, problem.train, rows, epoch)
        memory = state.lagrangian.dual.memory
        assert memory.known and (memory.ceiling.best > 0) == (epoch > pruner.last_epoch)
        assert memory.ceiling.exponent == HIGHEST or epoch > pruner.last_epoch
    assert pruner.last_epoch > 0


def test_members_are_single_runs(run):
    """The controller's state is an array of the member."""
    trainer, train, indices, states = run
    play = functools.partial(scanned, trainer)
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    found = jax.jit(jax.vmap(play, in_axes=(0, None, None)))(members, train, indices)
    assert found[0].lagrangian.dual.memory.integral.shape == (MEMBERS, 3)
    assert found[0].lagrangian.dual.memory.length.log_weight.shape == (MEMBERS,)
    single = jax.jit(play)
    multipliers = found[1][1]
    assert np.ptp(np.asarray(multipliers), axis=0).max() > 0.01  # members differ
    for member, state in enumerate(states):
        alone = jax.tree.map(lambda leaf, m=member: leaf[m], found)
        close(alone, single(state, train, indices))


def test_eight_devices_are_one(run):
    trainer, train, indices, states = run
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:DEVICES]), ("data",))
    place = functools.partial(jax.sharding.NamedSharding, mesh)
    parts = jax.sharding.PartitionSpec
    play = jax.jit(functools.partial(scanned, trainer))
    everywhere = jax.device_put((states[0], train), place(parts()))
    eight = play(*everywhere, jax.device_put(indices, place(parts(None, "data"))))
    close(play(states[0], train, indices), eight)


def test_scan_is_a_loop(run):
    trainer, train, indices, states = run
    state, step = states[0], jax.jit(trainer.step)
    for rows in indices[:12]:
        state, _ = step(state, train, rows, 0)
    close(state, jax.jit(functools.partial(scanned, trainer))(states[0], train, indices[:12])[0])


def state_bytes(groups, scheme):
    """What the constraint, the multipliers and the scheme remember at the default settings."""
    ones = jnp.ones(groups)
    dense = DenseReference(ones * 0.5, jnp.array(0.5), ones, jnp.array(1.0), ones / groups)
    method = methods.build_method(dense._replace(count=20 * ones), Settings("ceag", scheme))

    def init():
        built = lagrangian.build_scheme(scheme, optax.sgd(0.1), method.formulation)
        state = built.init({"w": jnp.zeros(3)}, method.constraint.size)
        return method.constraint.init(), state.dual, state.memory

    shapes = jax.tree.leaves(jax.eval_shape(init))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in shapes)


@pytest.mark.parametrize("scheme", [n for n, s in lagrangian.SCHEMES.items() if s.has_multipliers])
def test_at_most_100_bytes_a_group(scheme):
    few, many = (state_bytes(groups, scheme) for groups in (10, 10_000))
    assert 16 < (many - few) / 9990 <= 100 and few < 10 * 100
