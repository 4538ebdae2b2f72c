"""The replay buffer against a list in Python and against the reference."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import replay_buffer
from bap_jax.errors import UserError
from tests import golden_files
from tests.test_metrics import golden_ids


def oldest_first(buffer, group):
    """The values of one group, NaN where there are none yet."""
    memory = buffer.values.shape[1]
    seen = int(buffer.seen[group])
    held = min(seen, memory)
    slots = [(seen - held + i) % memory for i in range(held)]
    values = np.asarray(buffer.values[group], np.float32)
    return np.concatenate([values[slots], np.full(memory - held, np.nan)])


@pytest.mark.parametrize("name", golden_files.cases("b/", "query_values"))
def test_golden_sequences(name):
    case = golden_files.case(f"b/{name}")
    num_groups = case["lengths"].shape[1]
    memory = int(case["memory"])
    buffer = replay_buffer.init(num_groups, memory, case["metric"].dtype)
    empty = replay_buffer.query(buffer)
    np.testing.assert_array_equal(empty.mean, case["query_empty_values"])
    np.testing.assert_array_equal(empty.observed * memory, case["query_empty_counts"])
    push, query = jax.jit(replay_buffer.push), jax.jit(replay_buffer.query)
    for step, (attr, metric) in enumerate(zip(case["attr"], case["metric"], strict=True)):
        ids, _ = golden_ids(case | {"attr": attr})
        buffer = push(buffer, metric, ids)
        found = query(buffer)
        lengths = np.minimum(buffer.seen, memory)
        np.testing.assert_array_equal(lengths, case["lengths"][step])
        np.testing.assert_array_equal(found.observed * memory, case["query_counts"][step])
        np.testing.assert_allclose(found.mean, case["query_values"][step], atol=2e-6)
        contents = [oldest_first(buffer, group) for group in range(num_groups)]
        np.testing.assert_array_equal(contents, case["contents_oldest_first"][step])
        average = found.mean.sum() / max(found.observed.sum(), 1)
        np.testing.assert_allclose(average, case["query_avg"][step], atol=2e-6)


@pytest.mark.parametrize("memory", [1, 3, 7])
def test_against_lists(memory):
    rng = np.random.default_rng(memory)
    buffer, lists = replay_buffer.init(4, memory), [[] for _ in range(5)]
    push = jax.jit(replay_buffer.push)
    for size in (1, 5, 30, 2, 17):
        ids = rng.integers(0, 5, (size, 2))  # 4 is no group
        values = rng.normal(size=30).astype(np.float32)
        ids = np.concatenate([ids, np.full((30 - size, 2), 4)])
        for i in range(30):
            for group in ids[i]:
                lists[group].append(values[i])
        buffer = push(buffer, values, ids)
        for group in range(4):
            held = lists[group][-memory:]
            np.testing.assert_array_equal(oldest_first(buffer, group)[: len(held)], held)
            np.testing.assert_allclose(buffer.total[group], np.sum(held), atol=1e-5)


@pytest.mark.parametrize("name", golden_files.cases("b/", "group0"))
def test_golden_overflow_of_one_batch(name):
    """The file holds only what is left of 1, 2, … pushed at once to a buffer of this length."""
    expected = golden_files.ARRAYS[f"b/{name}/group0"]
    values = jnp.arange(1.0, expected[-1] + 1)
    empty = replay_buffer.init(1, len(expected))
    buffer = replay_buffer.push(empty, values, jnp.zeros((len(values), 1), jnp.int32))
    np.testing.assert_array_equal(oldest_first(buffer, 0), expected)


def test_the_newest_values_stay_if_one_batch_overflows():
    values = jnp.arange(1.0, 7.0)
    buffer = replay_buffer.push(replay_buffer.init(1, 3), values, jnp.zeros((6, 1), jnp.int32))
    np.testing.assert_array_equal(oldest_first(buffer, 0), [4, 5, 6])


def test_vmap_is_a_loop_and_sharding_changes_nothing():
    values = jax.random.uniform(jax.random.key(0), (8, 64))
    ids = jax.random.randint(jax.random.key(1), (8, 64, 1), 0, 6)
    empty = replay_buffer.init(6, 5)
    mapped = jax.jit(jax.vmap(replay_buffer.push, in_axes=(None, 0, 0)))(empty, values, ids)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    shard = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    push = jax.jit(replay_buffer.push)
    for i in range(8):
        one = push(empty, values[i], ids[i])
        spread = push(empty, jax.device_put(values[i], shard), jax.device_put(ids[i], shard))
        for other in (jax.tree.map(lambda leaf, i=i: leaf[i], mapped), spread):
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.seen, other.seen)
            np.testing.assert_allclose(one.total, other.total, atol=1e-6)


def test_memory_must_be_positive():
    with pytest.raises(UserError, match="at least 1 sample, got 0"):
        replay_buffer.init(2, 0)


def test_bytes_of_a_group():
    """k bytes, a sum and two counters; the multiplier adds four bytes."""
    buffer = replay_buffer.init(1000, 40, bool)
    sizes = [leaf.nbytes for leaf in buffer]
    assert sizes == [40_000, 4000, 4000, 4000, 4]
    assert sum(sizes) == 1000 * (40 + 12) + 4
    dual = lagrangian.gradient_ascent(optax.sgd(0.1)).init(1000)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(dual)) == 1000 * 4


def test_pairs_of_bits_take_one_byte_and_two_more_sums():
    buffer = replay_buffer.init(1000, 40, jnp.uint8, (3,))
    assert sum(leaf.nbytes for leaf in buffer) == 1000 * (40 + 12 + 8) + 4


def test_staleness_counts_pushes_since_the_newest_value():
    buffer, push = replay_buffer.init(3, 2, bool), jax.jit(replay_buffer.push)
    values = jnp.ones(2)
    for ids, pushes, expected in (
        ([0, 1], 1, [0, 0, 0]),
        ([1, 1], 2, [1, 0, 1]),
        ([3, -1], 2, [1, 0, 1]),  # values of no group: this is not counted as a push
        ([2, 9], 3, [2, 1, 0]),
        ([0, 2], 4, [0, 2, 0]),
    ):
        buffer = push(buffer, values, jnp.array(ids)[:, None])
        assert buffer.pushes == pushes
        np.testing.assert_array_equal(replay_buffer.staleness(buffer), expected)


def test_statistics_of_each_value_are_summed():
    """Two bits in one number: means of either, and of both together."""
    buffer = replay_buffer.init(2, 4, jnp.uint8, (3,))
    for pairs, ids in (([3, 1, 2], [0, 0, 1]), ([0, 3, 3], [0, 0, 0])):
        buffer = replay_buffer.push(
            buffer,
            jnp.array(pairs),
            jnp.array(ids)[:, None],
            lambda rows: jnp.stack([rows & 1, rows >> 1, rows & (rows >> 1)], axis=-1),
        )
    found = replay_buffer.query(buffer)
    np.testing.assert_array_equal(found.observed, [True, False])
    np.testing.assert_allclose(found.mean, [[3 / 4, 2 / 4, 2 / 4], [0, 0, 0]])


@pytest.mark.parametrize("memory", [1, 3, 40])
def test_comparing_a_batch_and_sorting_it_give_the_same_buffer(memory, monkeypatch):
    """Two attributes, ids outside the groups, and groups with more samples than fit."""
    rng = np.random.default_rng(memory)
    batches = [(rng.integers(0, 2, 30), rng.integers(-2, 9, (30, 2))) for _ in range(4)]

    def push_all():
        buffer = replay_buffer.init(7, memory, dtype=bool)
        for values, ids in batches:
            buffer = replay_buffer.push(buffer, jnp.asarray(values), jnp.asarray(ids))
        return buffer

    compared = push_all()
    monkeypatch.setattr(replay_buffer, "_LARGEST_COMPARED", 0)
    chex.assert_trees_all_equal(push_all(), compared)
