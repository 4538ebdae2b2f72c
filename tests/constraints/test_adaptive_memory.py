"""Group accuracies from two averages: by hand, and their errors and delays by simulation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.constraints import Observations, adaptive_memory
from bap_jax.constraints.estimators import accuracy_estimator
from tests.constraints.samples import floats, observe, reference

K = 40
SHORT = K / 2


def one_by_one(bits, size, k=K):
    """`Estimate` after every sample of one group, fields `(sample,)`, and the last sums."""
    dense = reference((0.5,), (0.0,), (1,))._replace(count=floats([size]))

    def body(memory, bit):
        seen = Observations(bit[None], bit[None], jnp.zeros((1, 1), jnp.int32), jnp.ones(1))
        found, memory = adaptive_memory.update(memory, seen, dense, k)
        return memory, jax.tree.map(lambda leaf: leaf[0], found)

    return jax.lax.scan(body, adaptive_memory.init(1), jnp.asarray(bits, jnp.float32))[::-1]


follow = functools.partial(jax.jit, static_argnames="k")(one_by_one)


def by_hand(bits, size, k=K):
    """Mean and variance after the last sample, one at a time: weights (m / (m + 1))^age."""
    age, means, parts = np.arange(len(bits))[::-1], [], []
    size = min(size or 5 * k, 100 * k)
    for memory in (min(k / 2, size), size):
        weights = (memory / (memory + 1)) ** age
        count = weights.sum()
        means.append(np.average(bits, weights=weights))
        parts.append(max(1 / count - 1 / (2 * memory), 1 / (memory + count)))
    fast, slow = means
    likely = (slow * count + 1) / (count + 2)
    of_fast, of_slow = likely * (1 - likely) * np.array(parts)
    belief = (fast - slow) ** 2 / ((fast - slow) ** 2 + 4 * of_fast)
    return slow + belief * (fast - slow), belief * of_fast + (1 - belief) * of_slow


@pytest.mark.parametrize("size", [0, 12, 107, 5000])
@pytest.mark.parametrize("k", [K, 10])
def test_by_hand(size, k):
    """Mixed, then all wrong, then all right."""
    bits = np.concatenate([np.random.default_rng(0).integers(0, 2, 60), np.zeros(20), np.ones(30)])
    found, _ = follow(bits, size, k=k)
    for length in (60, 80, 85, 110):
        mean, variance = by_hand(bits[:length], size, k)
        np.testing.assert_allclose(found.mean[length - 1], mean, atol=1e-5)
        np.testing.assert_allclose(found.variance[length - 1], variance, rtol=1e-3)
        assert found.observed[length - 1]


def test_a_large_group_is_not_remembered_for_longer_than_is_of_use():
    """A hundred times the buffer: its estimate follows as that of a group of 4,000 does."""
    rng, size = np.random.default_rng(0), 20_000
    bits = rng.random(size) < np.linspace(0.5, 0.9, size)
    large, small = (follow(bits, n_g)[0] for n_g in (1_000_000, 100 * K))
    np.testing.assert_array_equal(large.mean, small.mean)
    late = np.asarray(large.mean)[size // 2 :]
    assert np.abs(late - np.linspace(0.7, 0.9, size // 2)).mean() < 0.05


@pytest.mark.parametrize("samples", [30, 60, 300])
def test_the_variance_of_the_slow_mean_is_that_of_the_samples_so_far(samples):
    """Of weights that fade with 1 / 500: Σ w² / (Σ w)²; the short mean adds to it."""
    size, bits = 500, np.arange(samples) % 2
    found, _ = follow(bits, size)
    weights = (size / (size + 1)) ** np.arange(samples)
    exact = 0.25 * (weights**2).sum() / weights.sum() ** 2
    assert exact / 1.3 < found.variance[-1] < 2.5 * exact


@pytest.mark.parametrize(("size", "bit"), [(107, 0.0), (107, 1.0), (8, 1.0)])
def test_a_constant_stream(size, bit):
    """All samples alike: that is the accuracy, and its variance is that of one doubtful sample."""
    found, _ = follow(np.full(2000, bit), size)
    np.testing.assert_allclose(found.mean[-1], bit, atol=1e-6)
    count = size + 1  # of the slow mean in the long run
    doubt = (count + 1) / (count + 2) ** 2
    np.testing.assert_allclose(found.variance[-1], doubt / (size + count), rtol=1e-4)


def test_batches_of_constant_accuracy():
    """The two averages agree from the first batch on."""
    dense, memory, count = reference((0.5,), (0.0,), (200,)), adaptive_memory.init(1), 0
    for _ in range(30):
        count = 200 / 240 * count + 40
        seen = observe((0,) * 40, loss=np.zeros(40), correct=[1, 0, 1, 1] * 10, weight=np.ones(40))
        found, memory = adaptive_memory.update(memory, seen, dense, K)
        np.testing.assert_allclose(found.mean, 0.75, atol=1e-6)
        likely = (0.75 * count + 1) / (count + 2)
        of_slow = likely * (1 - likely) * max(1 / count - 1 / 400, 1 / (200 + count))
        np.testing.assert_allclose(found.variance, of_slow, rtol=1e-4)


@pytest.mark.parametrize("size", [200, 20_000])
@pytest.mark.parametrize("batch", [5, 25, 100])
def test_the_variance_of_the_estimate_whatever_a_batch_brings(batch, size):
    """In the first steps and in the long run; many samples at once fill the short memory."""
    dense = reference((0.5,), (0.0,), (size,))

    def body(memory, correct):
        seen = Observations(correct, correct, jnp.zeros((batch, 1), jnp.int32), jnp.ones(batch))
        found, memory = adaptive_memory.update(memory, seen, dense, K)
        return memory, (found.mean[0], found.variance[0])

    steps = max(60, 600 // batch)
    correct = jax.random.bernoulli(jax.random.key(0), 0.8, (500, steps, batch)).astype(float)
    follow = jax.jit(jax.vmap(lambda run: jax.lax.scan(body, adaptive_memory.init(1), run)[1]))
    means, variances = map(np.asarray, follow(correct))
    early, late = slice(40 // batch, 40 // batch + 3), slice(-max(6, 60 // batch), None)
    for part in (early, late):
        error = np.mean((means[:, part] - 0.8) ** 2)
        np.testing.assert_allclose(variances[:, part].mean(), error, rtol=0.35)


def test_no_estimate_before_enough_samples():
    """Enough are .7 m in the fast sum, of which one that is j samples old counts e^(−j/m)."""
    counts = ((SHORT / (SHORT + 1)) ** np.arange(60)).cumsum()
    found, _ = follow(np.ones(60), 500)
    np.testing.assert_array_equal(found.observed, counts >= 0.7 * SHORT)
    np.testing.assert_allclose(found.mean, found.observed, atol=1e-6)
    first = int(np.argmax(found.observed)) + 1
    assert K / 3 < first < K
    seen = observe((0,) * 14, loss=np.zeros(14), correct=np.ones(14), weight=np.ones(14))
    dense = reference((0.5,), (0.0,), (500,))
    assert adaptive_memory.update(adaptive_memory.init(1), seen, dense, K)[0].observed[0]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 12, 15, 19, 20, 21, 25, 39, 40])
def test_a_group_of_few_samples_is_observed_within_an_epoch(size):
    """Where a buffer of k samples would take several epochs to fill."""
    found, _ = follow(np.ones(size), size)
    assert found.observed[-1]


@functools.cache
def simulated(accuracy, size, jump=None, after=200, runs=600):
    """Means, variances and bits `(run, sample)` once the averages are settled."""
    before = 4 * size
    chance = jnp.concatenate([jnp.full(before, accuracy), jnp.full(after, jump or accuracy)])

    def run(key):
        bits = jax.random.bernoulli(key, chance).astype(float)
        found, _ = one_by_one(bits, size)
        return found.mean[before:], found.variance[before:], bits

    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), runs))
    return tuple(np.asarray(leaf) for leaf in found)


@pytest.mark.parametrize("accuracy", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("size", [30, 107, 400])
def test_the_variance_of_the_estimate(accuracy, size):
    """What is stated, on average over time, is what estimates scatter."""
    means, variances, _ = simulated(accuracy, size)
    np.testing.assert_allclose(variances.mean(), np.mean((means - accuracy) ** 2), rtol=0.25)
    np.testing.assert_allclose(means.mean(), accuracy, atol=0.01)


@pytest.mark.parametrize("accuracy", [0.5, 0.7, 0.9])
@pytest.mark.parametrize(("size", "share"), [(30, 0.8), (107, 0.4), (400, 0.3)])
def test_while_nothing_changes_errors_are_below_those_of_a_buffer(accuracy, size, share):
    """Squared errors: a buffer of k has A (1 − A) / k."""
    means, _, bits = simulated(accuracy, size)
    buffered = np.mean((bits[:, -K:].mean(1) - accuracy) ** 2)
    np.testing.assert_allclose(buffered, accuracy * (1 - accuracy) / K, rtol=0.2)
    assert np.mean((means - accuracy) ** 2) < share * accuracy * (1 - accuracy) / K


@pytest.mark.parametrize(("before", "jump"), [(0.5, 0.8), (0.8, 0.5), (0.9, 0.6), (0.5, 0.95)])
@pytest.mark.parametrize("size", [107, 400])
def test_the_delay_after_a_jump(before, jump, size):
    """Half of a jump is seen after about k/2 samples, as by a buffer of k."""
    means, _, _ = simulated(before, size, jump)
    seen = (means.mean(0) - before) / (jump - before)
    assert int(np.argmax(seen > 0.5)) + 1 <= 0.75 * K
    assert seen[K - 1] > 0.6 and seen[2 * K - 1] > 0.7


def seeded(size=64, groups=6, attributes=2):
    """A batch of several attributes, whose groups follow one another."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, groups // attributes, (size, attributes))
    ids = ids + np.arange(attributes) * (groups // attributes)
    return observe(
        list(map(tuple, ids)),
        loss=np.zeros(size),
        correct=rng.integers(0, 2, size),
        weight=rng.integers(0, 2, size),
    )


SIX = reference((0.5,) * 6, (0.0,) * 6, (50, 60, 7, 80, 30, 7))


def test_samples_of_weight_0_leave_the_state_alone():
    dense = SIX
    _, memory = adaptive_memory.update(adaptive_memory.init(6), seeded(), dense, K)
    before, _ = adaptive_memory.update(memory, seeded()._replace(weight=jnp.zeros(64)), dense, K)
    nothing = seeded()._replace(weight=jnp.zeros(64), correct=jnp.ones(64))
    for _ in range(3):
        found, after = adaptive_memory.update(memory, nothing, dense, K)
        for one, other in zip((*memory, *before), (*after, *found), strict=True):
            np.testing.assert_array_equal(one, other)


def test_several_attributes_are_as_one_at_a_time():
    both = seeded()
    found, _ = adaptive_memory.update(adaptive_memory.init(6), both, SIX, K)
    for attribute in (0, 1):
        groups = slice(3 * attribute, 3 * attribute + 3)
        alone = both._replace(group_ids=both.group_ids[:, attribute, None])
        one, _ = adaptive_memory.update(adaptive_memory.init(6), alone, SIX, K)
        for a, b in zip(found, one, strict=True):
            np.testing.assert_array_equal(a[groups], b[groups])
        assert found.observed[groups].any()


def test_jit_and_vmap_change_nothing():
    accuracy = accuracy_estimator(SIX, K, "adaptive")
    batches = [seeded()._replace(correct=floats(np.arange(64) % n == 0)) for n in (1, 2, 5)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[b[:4] for b in batches])
    mapped = jax.jit(jax.vmap(lambda b: accuracy.update(accuracy.init(), Observations(*b))))(
        stacked
    )
    for member, batch in enumerate(batches):
        plain = accuracy.update(accuracy.init(), batch)
        for one, other in zip(jax.tree.leaves(mapped), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(one[member], other, rtol=1e-6, atol=1e-9)


def test_sixteen_bytes_a_group():
    state = accuracy_estimator(SIX, K, "adaptive").init()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 16 * 6
