"""The rule that chooses an iterate."""

import itertools

import numpy as np
import pytest

from bap_jax import reporting
from bap_jax.reporting import Score
from tests.reporting.test_gaps import random_bits, split_means


def choose(scores, tolerance=0.02):
    """Index of the score that stays when they are seen in this order."""
    best = None
    for i, score in enumerate(scores):
        if reporting.better(score, None if best is None else scores[best], tolerance):
            best = i
    return best


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([Score(0.99, 0.03), Score(0.80, 0.02)], 1),  # feasible first; ε is feasible
        ([Score(0.80, 0.01), Score(0.99, 0.03)], 0),
        ([Score(0.90, 0.00), Score(0.91, 0.02), Score(0.89, -0.01)], 1),  # then accuracy alone
        ([Score(0.99, 0.05), Score(0.50, 0.03), Score(0.90, 0.04)], 1),  # none feasible: the gap
        ([Score(0.1, 9.0)], 0),
        ([Score(0.90, 0.01)] * 3, 0),
        ([Score(0.90, 0.05)] * 3, 0),
        ([Score(0.80, 0.01), Score(0.90, 0.01), Score(0.90, 0.01)], 1),
    ],
)
def test_by_hand(scores, expected):
    assert choose(scores) == expected


def test_the_tolerance_decides():
    scores = [Score(0.95, 0.03), Score(0.90, 0.01)]
    assert [choose(scores, tolerance) for tolerance in (0.0, 0.02, 0.03)] == [1, 1, 0]


def test_the_first_iterate_is_always_taken():
    assert reporting.better(Score(0.0, 1.0), None, 0.0)


@pytest.mark.parametrize("score", [Score(0.9, 0.01), Score(0.9, 0.05)])
def test_a_tie_keeps_the_earlier(score):
    assert not reporting.better(score, score, 0.02)


@pytest.mark.parametrize("tolerance", [0.02, 0.0, -1.0])
def test_the_choice_does_not_depend_on_the_order(tolerance):
    scores = [Score(0.9, 0.01), Score(0.8, 0.0), Score(0.95, 0.03), Score(0.99, 0.04)]
    choices = {order[choose(order, tolerance)] for order in itertools.permutations(scores)}
    assert choices == {choose_by_hand(scores, tolerance)}


def choose_by_hand(scores, tolerance):
    feasible = [score for score in scores if score.max_excess_gap <= tolerance]
    if feasible:
        return max(feasible, key=lambda score: score.accuracy)
    return min(scores, key=lambda score: score.max_excess_gap)


@pytest.mark.parametrize("seed", range(3))
def test_score_is_accuracy_and_largest_excess_gap(seed):
    dense, sparse, ids = random_bits(seed)
    score = reporting.score(split_means(dense, ids, 4), split_means(sparse, ids, 4))
    lost = dense.astype(float) - sparse
    largest = max(lost[ids == g].mean() for g in range(4)) - lost.mean()
    np.testing.assert_allclose(score.accuracy, sparse.mean(), atol=1e-12)
    np.testing.assert_allclose(score.max_excess_gap, largest, atol=1e-12)


def test_a_gap_at_the_tolerance_is_within_it():
    """0.9 − 0.89 is 0.010000000000000009 in floating point."""
    at_limit, worse = Score(0.9, 0.9 - 0.89), Score(0.8, 0.0)
    assert at_limit.max_excess_gap > 0.01
    assert reporting.better(at_limit, worse, 0.01)
