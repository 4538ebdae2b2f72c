"""Sums and means for each group: closed form, golden numbers, vmap and eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from bap_jax import groups, metrics
from tests import golden_files


def golden_ids(case):
    """Group ids of a golden case and how many groups there are."""
    sizes, attr = case["num_groups"], case["attr"]
    groupings = [
        groups.Grouping(attr[:, i : i + 1].astype(np.int32), tuple(map(str, range(size))))
        for i, size in enumerate(sizes)
    ]
    join = groups.intersections if case["intersectional"] else groups.margins
    grouping = join(groupings)
    return grouping.ids, len(grouping.names)


@pytest.mark.parametrize("name", golden_files.cases("a/", "means"))
def test_golden_group_means_and_gradient(name):
    case = golden_files.case(f"a/{name}")
    ids, num_groups = golden_ids(case)
    weight = jnp.ones(len(ids))

    def means(values):
        sums = metrics.group_sums(values, ids, weight, num_groups)
        return metrics.group_means(sums), sums.count

    @jax.jit
    def value_and_gradient(values, cotangent):
        value, pull, counts = jax.vjp(means, values, has_aux=True)
        return value, pull(cotangent)[0], counts

    value, gradient, counts = value_and_gradient(case["input"], case["cotangent"])
    np.testing.assert_array_equal(counts, case["counts"])
    np.testing.assert_allclose(value, case["means"], atol=2e-6)
    np.testing.assert_allclose(gradient, case["input_grad"], atol=2e-6)


@pytest.mark.parametrize("name", golden_files.cases("a/", "sample_acc"))
def test_golden_losses_and_correctness(name):
    case = golden_files.case(f"a/{name}")
    logits, target = case["logits"], case["target"]
    np.testing.assert_array_equal(metrics.correctness(logits, target), case["sample_acc"])
    losses = {key: value for key, value in case.items() if key.endswith("/sample_loss")}
    for key, expected in golden_files.some(losses, "losses of samples").items():
        smoothing = float(key.split("/")[0].removeprefix("ls"))
        loss = metrics.cross_entropy(logits, target, smoothing)
        np.testing.assert_allclose(loss, expected, atol=2e-6)


def test_padding_and_foreign_ids_do_not_count():
    ids = jnp.array([[0], [1], [1], [5], [-1]])
    sums = metrics.group_sums(jnp.arange(5.0), ids, jnp.array([1.0, 1, 0, 1, 1]), 3)
    np.testing.assert_array_equal(sums.total, [0, 1, 0])
    np.testing.assert_array_equal(sums.count, [1, 1, 0])
    np.testing.assert_array_equal(metrics.group_means(sums), [0, 1, 0])


def test_gradient_of_the_loss_agrees_with_finite_differences():
    logits = jax.random.normal(jax.random.key(0), (6, 4))
    labels = jnp.array([0, 1, 2, 3, 0, 1])
    ids = jnp.array([[0], [0], [1], [1], [1], [2]])

    def value(logits):
        loss = metrics.cross_entropy(logits, labels, 0.1)
        sums = metrics.group_sums(loss, ids, jnp.ones(6), 4)
        return metrics.group_means(sums) @ jnp.array([1.0, -2.0, 3.0, 4.0])

    check_grads(value, (logits,), order=1, modes="rev", atol=1e-2, rtol=1e-2)


HALVES, QUARTERS = (0.0, 0.0), (0.0, np.log(3))


@pytest.mark.parametrize(
    ("target", "other", "expected"),
    [
        (HALVES, HALVES, 0),
        (HALVES, QUARTERS, 0.5 * np.log(4 / 3)),  # ½ ln ½/¼ + ½ ln ½/¾
        (QUARTERS, HALVES, 0.75 * np.log(3) - np.log(2)),  # ¼ ln ½ + ¾ ln 3/2
        (QUARTERS, (5.0, 5 + np.log(3)), 0),  # a constant changes no probability
        ((1000.0, 0.0), (0.0, 0.0), np.log(2)),
        ((0.0, 0.0), (1000.0, 0.0), 500 - np.log(2)),
    ],
)
def test_kl_divergence_by_hand(target, other, expected):
    found = metrics.kl_divergence(jnp.array([target]), jnp.array([other]))
    assert found.shape == (1,)
    np.testing.assert_allclose(found[0], expected, atol=1e-6, rtol=1e-5)


def test_kl_divergence_is_never_negative():
    target, other = 3 * jax.random.normal(jax.random.key(0), (2, 500, 7))
    found = metrics.kl_divergence(target, other)
    assert found.min() > 0
    near = metrics.kl_divergence(target, target + 1e-4 * other)
    assert near.min() > -1e-6 and near.max() < 1e-6


def test_gradient_of_the_divergence_agrees_with_finite_differences():
    """And with its closed form, q − p."""
    target, other = jax.random.normal(jax.random.key(0), (2, 6, 4))

    @jax.jit
    def value(logits):
        return metrics.kl_divergence(target, logits) @ jnp.arange(1.0, 7.0)

    check_grads(value, (other,), order=1, modes="rev", atol=1e-2, rtol=1e-2)
    expected = (jax.nn.softmax(other) - jax.nn.softmax(target)) * jnp.arange(1.0, 7.0)[:, None]
    np.testing.assert_allclose(jax.grad(value)(other), expected, atol=1e-5)


def test_vmap_over_problems_is_a_loop():
    values = jax.random.normal(jax.random.key(0), (8, 20))
    ids = jax.random.randint(jax.random.key(1), (8, 20, 2), 0, 5)
    mapped = jax.vmap(lambda v, i: metrics.group_sums(v, i, jnp.ones(20), 5))(values, ids)
    for i in range(8):
        one = metrics.group_sums(values[i], ids[i], jnp.ones(20), 5)
        np.testing.assert_allclose(mapped.total[i], one.total, atol=1e-6)
        np.testing.assert_array_equal(mapped.count[i], one.count)


def test_eight_devices_are_one_device():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    shard = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    values = jax.random.normal(jax.random.key(0), (64,))
    ids = jax.random.randint(jax.random.key(1), (64, 2), 0, 7)
    one = metrics.group_sums(values, ids, jnp.ones(64), 7)
    eight = jax.jit(metrics.group_sums, static_argnums=3)(
        jax.device_put(values, shard), jax.device_put(ids, shard), jnp.ones(64), 7
    )
    np.testing.assert_array_equal(one.count, eight.count)
    np.testing.assert_allclose(one.total, eight.total, atol=1e-5)


def test_nothing_grows_with_batch_times_groups():
    def sums(values, ids):
        return metrics.group_sums(values, ids, jnp.ones(128), 10_007)

    jaxpr = jax.make_jaxpr(sums)(jnp.zeros(128), jnp.zeros((128, 1), jnp.int32))
    sizes = [v.aval.size for eqn in jaxpr.jaxpr.eqns for v in eqn.outvars]
    assert max(sizes) == 10_007
