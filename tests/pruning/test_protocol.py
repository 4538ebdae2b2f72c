"""What every algorithm of the registry must do: loops, batches, devices, narrow types, masks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import pruning
from bap_jax.pruning import wrapping
from tests.pruning import updaters
from tests.pruning.updaters import (
    MASKED,
    NAMES,
    STEPS,
    assert_same,
    layers,
    leaves,
    make,
    quick,
)

PARAMS = layers(leaves())
FIELDS = ("masks", "inner_state", "target_sparsities", "count")


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr(wrapping, "cond_per_member", updaters.plain_choice)


def build(name, **fields):
    updater = make(name, **fields)
    return updater, updater.wrap_optax(updaters.optimizer())


def kept(masks):
    return [int(jnp.count_nonzero(mask)) for mask in jax.tree.leaves(masks)]


def final_masks(updater, params, state):
    return (
        updater.present_masks(params, state) if hasattr(updater, "present_masks") else state.masks
    )


@pytest.mark.parametrize("name", quick("static_sparse", "set"))
def test_a_compiled_loop_does_what_a_plain_loop_does(name, plain, monkeypatch):
    updater, tx = build(name, skip_gradients=name in ("set", "rigl"))
    expected = updaters.loop(updater, tx, PARAMS)
    monkeypatch.undo()
    run = jax.jit(lambda params, state: updaters.scan(updater, tx, params, state))
    found = run(PARAMS, updaters.as_arrays(tx.init(PARAMS)))
    assert_same(found, expected)
    assert int(found[1].count) == STEPS


@pytest.mark.parametrize("name", quick("rigl"))
def test_members_at_different_steps_train_as_if_alone(name, plain, monkeypatch):
    updater, tx = build(name)
    members = [layers(leaves(seed)) for seed in range(3)]
    states = [
        updaters.as_arrays(tx.init(params)._replace(count=jnp.int32(count)))
        for params, count in zip(members, (0, 1, 5), strict=True)
    ]
    alone = [
        updaters.loop(updater, tx, params, state, steps=3)
        for params, state in zip(members, states, strict=True)
    ]
    monkeypatch.undo()
    run = jax.vmap(lambda params, state: updaters.scan(updater, tx, params, state, steps=3))
    found = jax.jit(run)(stack(members), stack(states))
    assert_same(found, stack(alone))


def stack(trees):
    return jax.tree.map(lambda *rows: jnp.stack(rows), *trees)


@pytest.mark.parametrize("name", quick())
def test_members_in_step_train_as_if_alone(name, plain, monkeypatch):
    updater, tx = build(name)
    members = [layers(leaves(seed)) for seed in range(3)]
    alone = [updaters.loop(updater, tx, params, steps=3) for params in members]
    monkeypatch.undo()

    def run(params):
        state = updaters.as_arrays(tx.init(params))
        return updaters.scan(updater, tx, params, state, steps=3)

    assert_same(jax.jit(jax.vmap(run))(stack(members)), stack(alone))


@pytest.mark.parametrize("name", quick("global_saliency"))
def test_eight_devices_train_as_one(name, plain, monkeypatch):
    updater, tx = build(name)
    expected = updaters.loop(updater, tx, PARAMS)
    monkeypatch.undo()
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("devices",))
    assert mesh.size == 8

    def shard(leaf):
        axes = (None,) * (leaf.ndim - 1) + ("devices",)
        return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, jax.P(*axes)))

    params = jax.tree.map(shard, PARAMS)
    run = jax.jit(lambda params, state: updaters.scan(updater, tx, params, state))
    found = run(params, updaters.as_arrays(tx.init(params)))
    assert_same(found, expected)


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_the_state_keeps_its_structure_types_and_names(name, dtype):
    _, tx = build(name)
    params = layers(leaves(dtype=dtype))
    state = jax.eval_shape(tx.init, params)
    assert isinstance(state, pruning.SparseState)
    assert state._fields == FIELDS
    updates, after = jax.eval_shape(tx.update, params, state, params)
    assert kinds(updates) == kinds(params)
    assert kinds(after) == kinds(state)


@pytest.mark.parametrize("name", NAMES)
def test_steps_compile_once(name):
    _, tx = build(name, scheduler=pruning.NoUpdateSchedule())
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(state):
        return tx.update(PARAMS, state, PARAMS)[1]

    state = tx.init(PARAMS)
    for _ in range(3):
        state = update(state)
    assert int(state.count) == 3


@pytest.mark.parametrize("name", NAMES)
def test_sparsity_is_reached_when_the_schedule_ends(name, plain):
    updater, tx = build(name, sparsity=0.75)
    params, state = updaters.loop(updater, tx, PARAMS)
    masks = final_masks(updater, params, state)
    if name.startswith("global"):
        assert sum(kept(masks)) == 24
    else:
        assert kept(masks) == ([] if name == "no_prune" else [12, 12])
    seen = updater.pre_forward_update(params, state)
    zeros = [int(jnp.sum(layer["kernel"] == 0)) for layer in seen.values()]
    assert sum(zeros) == (0 if name == "no_prune" else 72)


@pytest.mark.parametrize("name", NAMES)
def test_biases_are_never_pruned(name, plain):
    updater, tx = build(name, sparsity=0.75)
    params, state = updaters.loop(updater, tx, PARAMS, steps=2)
    for layer in ("a", "b"):
        assert state.masks[layer]["bias"] is None
        assert jnp.all(params[layer]["bias"] != 0)


@pytest.mark.parametrize("name", MASKED)
def test_packed_masks_train_as_unpacked_ones(name, plain):
    expected_params, expected = updaters.loop(*build(name), PARAMS)
    updater, tx = build(name, use_packed_masks=True)
    params, state = updaters.loop(updater, tx, PARAMS)
    assert [mask.shape for mask in jax.tree.leaves(state.masks)] == [(6,), (6,)]
    assert_same(params, expected_params)
    assert_same(updater.unpacked_masks(state, params), expected.masks)
    pruning.check_applied(params, state)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MASKED])
def test_packed_masks_change_nothing_where_the_state_holds_no_masks(name, plain):
    expected = updaters.loop(*build(name), PARAMS)
    fields = {} if name == "no_prune" else {"use_packed_masks": True}
    assert_same(updaters.loop(*build(name, **fields), PARAMS), expected)


@pytest.mark.parametrize("name", quick())
def test_half_precision_is_pruned_exactly_and_stays_so(name, plain):
    updater, tx = build(name)
    start = layers(leaves(dtype=jnp.bfloat16))
    params, state = updaters.loop(updater, tx, start)
    chex.assert_trees_all_equal_dtypes(params, start)
    masks = kept(final_masks(updater, params, state))
    assert sum(masks) == (0 if name == "no_prune" else 48)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "no_prune"])
def test_pruning_at_once_gives_what_the_target_says(name):
    params, masks = make(name, sparsity=0.75).instant_sparsify(PARAMS, grads=PARAMS)
    assert sum(kept(masks)) == 24
    assert_same(params, pruning.apply_masks(PARAMS, masks))
