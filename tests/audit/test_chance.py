import itertools

import numpy as np
import pytest

from bap_jax.audit import chance, counts
from bap_jax.errors import UserError

# Losses of eight samples, their groups, and another partition of the same samples.
LOSSES = np.array([1, 1, -1, 1, 0, 0, 0, 0])
GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
HALVES = np.array([0, 0, 0, 0, 0, 1, 1, 1])


def counted(*columns):
    dense, sparse = LOSSES > 0, LOSSES < 0
    groups = {f"attribute {i}": column for i, column in enumerate(columns)}
    table = counts.of_samples(dense, sparse, groups)
    return table.cells, [counts.assessed_groups(table, part, 1) for part in table.partitions]


def exact(*columns):
    """The largest excess gap of the samples, and of all orders in which they can stand."""

    def largest(losses):
        return max(
            losses[column == group].mean() - losses.mean()
            for column in columns
            for group in set(column)
        )

    orders = {*itertools.permutations(LOSSES)}  # each occurs equally often
    return largest(LOSSES), np.array([largest(np.array(order)) for order in orders])


@pytest.mark.parametrize("columns", [(GROUPS,), (GROUPS, HALVES)], ids=["one", "two"])
def test_it_is_the_distribution_over_all_permutations(columns):
    observed, all_maxima = exact(*columns)
    found = chance.chance_of_largest(*counted(*columns), permutations=40_000)
    assert found.expected == pytest.approx(all_maxima.mean(), abs=0.005)
    assert found.p_value == pytest.approx((all_maxima >= observed - 1e-12).mean(), abs=0.015)
    assert len(found.maxima) == 40_000


@pytest.mark.parametrize("method", ["count", "marginals"])
def test_draws_are_without_replacement(monkeypatch, method):
    monkeypatch.setattr(chance, "_faster_method", lambda draws, cells: method)
    n = np.array([4, 1, 20])
    losses = chance.draw(np.random.default_rng(0), n, 9, 3, 20_000)
    np.testing.assert_array_equal(losses.sum(axis=1), 6)
    assert (np.abs(losses) <= n).all()
    np.testing.assert_allclose(losses.mean(axis=0), 6 * n / 25, atol=0.03)
    # Every sample has mean 6/25 and mean square 12/25, and two of them have covariance −v/24.
    variance = 12 / 25 - (6 / 25) ** 2
    expected = n * variance * (1 - (n - 1) / 24)
    np.testing.assert_allclose(losses.var(axis=0), expected, rtol=0.04)


def test_the_same_seed_gives_the_same_and_another_one_nearly():
    first, second, other = (
        chance.chance_of_largest(*counted(GROUPS), permutations=2000, seed=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.maxima, second.maxima)
    assert (first.maxima != other.maxima).any()
    assert first.expected == pytest.approx(other.expected, abs=0.03)


def test_chunks_do_not_change_the_number_of_permutations(monkeypatch):
    monkeypatch.setattr(chance, "_CHUNK", 10)
    assert len(chance.chance_of_largest(*counted(GROUPS), permutations=100).maxima) == 100


def test_the_number_of_permutations_falls_with_the_groups():
    assert [chance.default_permutations(n) for n in (1, 250, 1000, 10_000)] == [
        20_000,
        20_000,
        5_000,
        2_000,
    ]
    with pytest.raises(UserError, match="permutations must be at least 1; got 0"):
        chance.chance_of_largest(*counted(GROUPS), permutations=0)
