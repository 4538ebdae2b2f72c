"""Means whose old samples fade: by hand, observed groups, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.constraints import Observations, fading_mean
from bap_jax.constraints.estimators import mean_estimator

M, GROUPS = 20, 3


def batch(rng, size=8):
    """Losses of groups 0 and 1; every fourth sample has weight 0."""
    loss = jnp.array(rng.exponential(size=size), jnp.float32)
    ids = jnp.array(rng.integers(0, 2, (size, 1)))
    return Observations(loss, loss, ids, jnp.array(np.arange(size) % 4 > 0, jnp.float32))


def test_by_hand():
    """n new samples leave the old ones with m / (m + n) of their weight."""
    estimator, rng = mean_estimator(GROUPS, M, fading=True), np.random.default_rng(0)
    state, total, count = estimator.init(), np.zeros(GROUPS), np.zeros(GROUPS)
    for _ in range(6):
        seen = batch(rng)
        found, state = estimator.update(state, seen)
        for group in range(GROUPS):
            own = np.asarray((seen.group_ids[:, 0] == group) & (seen.weight > 0))
            keep = M / (M + own.sum())
            total[group] = keep * total[group] + np.asarray(seen.loss)[own].sum()
            count[group] = keep * count[group] + own.sum()
    np.testing.assert_allclose(found.mean[:2], total[:2] / count[:2], rtol=1e-5)
    np.testing.assert_array_equal(found.observed, [True, True, False])
    assert found.mean[2] == 0


def test_one_by_one_it_scatters_as_a_buffer_of_twice_as_many():
    loss = jax.random.exponential(jax.random.key(0), (2000, 200))

    def last_mean(losses):
        def body(sums, one):
            seen = Observations(one[None], one[None], jnp.zeros((1, 1), jnp.int32), jnp.ones(1))
            found, sums = fading_mean.update(sums, seen.loss, seen, M)
            return sums, found.mean[0]

        return jax.lax.scan(body, fading_mean.init(1), losses)[1][-1]

    np.testing.assert_allclose(jnp.var(jax.jit(jax.vmap(last_mean))(loss)), 1 / (2 * M), rtol=0.1)


@pytest.mark.parametrize("buffer_size", [1, 40, 1000])
def test_eight_bytes_a_group(buffer_size):
    state = mean_estimator(GROUPS, buffer_size, fading=True).init()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 8 * GROUPS


def test_without_a_buffer_it_is_the_mean_of_the_batch():
    seen = batch(np.random.default_rng(1))
    for fading in (False, True):
        estimator = mean_estimator(GROUPS, 0, fading=fading)
        found, _ = estimator.update(estimator.init(), seen)
        own = np.asarray((seen.group_ids[:, 0] == 0) & (seen.weight > 0))
        np.testing.assert_allclose(found.mean[0], np.asarray(seen.loss)[own].mean(), rtol=1e-6)
