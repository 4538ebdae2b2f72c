"""AccuracyGaps worked by hand, and their identities on random bits."""

import numpy as np
import pytest

from bap_jax import reporting
from bap_jax.training.split_sums import SplitMeans


def split_means(correct, ids, num_groups):
    """The means of a split from one correctness bit a sample and disjoint groups."""
    accuracy = np.array([correct[ids == g].mean() for g in range(num_groups)])
    counts = np.bincount(ids, minlength=num_groups)
    loss = np.zeros(num_groups)
    return SplitMeans(accuracy, loss, float(correct.mean()), 0.0, counts, len(ids))


def random_bits(seed, num_groups=4, size=60):
    """Bits of a dense and a sparse model, and ids in which every group occurs."""
    rng = np.random.default_rng(seed)
    ids = np.concatenate([np.arange(num_groups), rng.integers(0, num_groups, size - num_groups)])
    return rng.random(size) < 0.9, rng.random(size) < 0.6, ids


def gaps_of(dense, sparse, ids, num_groups=4):
    return reporting.accuracy_gaps(
        split_means(dense, ids, num_groups), split_means(sparse, ids, num_groups)
    )


def test_by_hand():
    """Four samples of group 0 lose one, one of group 1 loses its all, five of group 2 gain one."""
    ids = np.repeat([0, 1, 2], [4, 1, 5])
    dense = np.array([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    sparse = np.array([0, 1, 1, 1, 0, 1, 1, 1, 1, 1], bool)
    gaps = gaps_of(dense, sparse, ids, 3)
    np.testing.assert_allclose(gaps.group_gap, [0.25, 1.0, -0.2], atol=1e-12)
    np.testing.assert_allclose(gaps.overall_gap, 0.1, atol=1e-12)
    np.testing.assert_allclose(gaps.excess_gap, [0.15, 0.9, -0.3], atol=1e-12)
    np.testing.assert_allclose(gaps.pairwise_disparity, 1.2, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_excess_is_the_gap_to_everybody_else(seed):
    """ψ_g = (1 − w_g)(D_g − D_¬g), D the accuracy lost inside and outside of the group."""
    dense, sparse, ids = random_bits(seed)
    lost = dense.astype(float) - sparse
    gaps = gaps_of(dense, sparse, ids).excess_gap
    for group in range(4):
        inside = ids == group
        expected = (1 - inside.mean()) * (lost[inside].mean() - lost[~inside].mean())
        np.testing.assert_allclose(gaps[group], expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_excess_gaps_balance_out(seed):
    dense, sparse, ids = random_bits(seed)
    gaps = gaps_of(dense, sparse, ids)
    frequency = np.bincount(ids) / len(ids)
    np.testing.assert_allclose(frequency @ gaps.excess_gap, 0, atol=1e-12)
    np.testing.assert_allclose(frequency @ gaps.group_gap, gaps.overall_gap, atol=1e-12)
    assert gaps.excess_gap.max() >= 0 >= gaps.excess_gap.min()
    np.testing.assert_allclose(gaps.pairwise_disparity, np.ptp(gaps.group_gap), atol=1e-12)


def test_exchanging_the_models_changes_the_sign():
    dense, sparse, ids = random_bits(0)
    one, other = gaps_of(dense, sparse, ids), gaps_of(sparse, dense, ids)
    np.testing.assert_allclose(one.excess_gap, -other.excess_gap, atol=1e-12)
    np.testing.assert_allclose(one.overall_gap, -other.overall_gap, atol=1e-12)
    np.testing.assert_allclose(one.pairwise_disparity, other.pairwise_disparity, atol=1e-12)


def test_one_group_has_no_excess():
    dense, sparse, ids = random_bits(1, num_groups=1)
    gaps = gaps_of(dense, sparse, ids, 1)
    assert gaps.overall_gap > 0
    np.testing.assert_array_equal(gaps.excess_gap, [0])
    assert gaps.pairwise_disparity == 0
