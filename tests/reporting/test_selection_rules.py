"""The rules that choose a run's product: by hand, and the same when they see one iterate a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bap_jax.reporting import Score
from bap_jax.reporting.selection import (
    RULES,
    Iterate,
    choose_best,
    choose_by_paired_test,
    choose_fewest_flips,
    choose_last,
    mcnemar_p_value,
)
from bap_jax.training.settings import DEFAULT_SELECTION, SELECTIONS


def iterates(accuracies, flips=None, bits=None, gaps=None):
    """Iterates with these numbers."""
    count = len(accuracies)
    return [
        Iterate(
            epoch,
            Score(accuracies[epoch], 0.0 if gaps is None else gaps[epoch]),
            float("nan") if flips is None else flips[epoch],
            None if bits is None else bits[epoch],
        )
        for epoch in range(count)
    ]


def bits_of(count, right):
    """`count` samples of which the first `right` are right."""
    return np.arange(count) < right


def test_the_settings_know_the_rules():
    assert tuple(RULES) == SELECTIONS
    assert DEFAULT_SELECTION in RULES


def test_last():
    assert choose_last(iterates([0.9, 0.8, 0.7]), 0.0) == 2


@pytest.mark.parametrize(
    ("accuracies", "flips", "expected"),
    [
        ([0.900, 0.898, 0.896], [0.10, 0.09, 0.01], 1),  # .4 points below the best are too many
        ([0.900, 0.897, 0.890], [0.10, 0.09, 0.01], 1),  # .3 points are not
        ([0.900, 0.899, 0.898], [0.05, 0.05, 0.05], 2),  # the later of equal ones
        ([0.900, 0.899, 0.898], [0.05, 0.05, 0.06], 1),
        ([0.1], [0.9], 0),
    ],
)
def test_fewest_flips_by_hand(accuracies, flips, expected):
    assert choose_fewest_flips(iterates(accuracies, flips), 0.0) == expected


def test_three_tenths_of_a_point_are_within_in_floating_point():
    assert 0.950 - 0.947 > 0.003
    assert choose_fewest_flips(iterates([0.950, 0.947], [0.2, 0.1]), 0.0) == 1


def test_best_is_the_former_rule():
    assert choose_best(iterates([0.99, 0.80, 0.85], gaps=[0.03, 0.01, 0.02]), 0.02) == 2
    assert choose_best(iterates([0.99, 0.80, 0.80], gaps=[0.03, 0.01, 0.01]), 0.02) == 1
    assert choose_best(iterates([0.99, 0.80], gaps=[0.03, 0.04]), 0.02) == 0


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (0, 5), (1, 0), (5, 0), (5, 1), (12, 4), (9, 9)]
)
def test_p_value_of_the_paired_test(gained, lost):
    first = np.r_[np.ones(gained), np.zeros(lost), np.ones(3), np.zeros(2)].astype(bool)
    second = np.r_[np.zeros(gained), np.ones(lost), np.ones(3), np.zeros(2)].astype(bool)
    expected = 1.0
    if gained + lost:
        expected = stats.binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue
    assert mcnemar_p_value(first, second) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("gained", "others", "expected"),
    [
        (5, 0, 0),  # p = 1/32 ≤ .05
        (4, 0, 1),  # p = 1/16
        (5, 1, 2),  # with two candidates the level is .025
        (6, 1, 0),  # p = 1/64
    ],
)
def test_a_significantly_better_iterate_replaces_the_last(gained, others, expected):
    bits = [bits_of(50, 40 + gained), *[bits_of(50, 40)] * others, bits_of(50, 40)]
    known = iterates([part.mean() for part in bits], bits=bits)
    assert choose_by_paired_test(known, 0.0) == expected


def test_the_paired_test_takes_the_latest_of_equally_accurate_ones():
    bits = [bits_of(50, 50), bits_of(50, 50), bits_of(50, 30)]
    assert choose_by_paired_test(iterates([1.0, 1.0, 0.6], bits=bits), 0.0) == 1


def test_an_iterate_alone_is_the_product():
    alone = iterates([0.5], flips=[0.1], bits=[bits_of(4, 2)])
    assert {rule.choose(alone, 0.0) for rule in RULES.values()} == {0}


def test_the_paired_test_seldom_leaves_the_last_by_chance():
    """All iterates are equally good; the most accurate of five is tested at level 1 %."""
    rng, left = np.random.default_rng(0), 0
    for _ in range(400):
        bits = list(rng.random((6, 200)) < 0.8)
        known = iterates([part.mean() for part in bits], bits=bits)
        left += choose_by_paired_test(known, 0.0) != 5
    assert left <= stats.binom.ppf(0.999, 400, 0.05)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=12
    ),
    name=st.sampled_from(SELECTIONS),
)
def test_what_is_kept_is_enough(rows, name):
    """The chosen iterate is among those kept after every epoch since its own, or is the last."""
    known = [
        Iterate(i, Score(0.95 + 0.001 * a, 0.01 * gap), 0.01 * flips, bits_of(1000, 950 + a))
        for i, (a, flips, gap) in enumerate(rows)
    ]
    rule = RULES[name]
    chosen = rule.choose(known, 0.01)
    kept = [rule.candidates(known[: i + 1], 0.01) for i in range(len(known))]
    if chosen < len(known) - 1:
        assert all(chosen in kept[i] for i in range(chosen, len(known)))
    assert all(max(part, default=0) <= i for i, part in enumerate(kept))


def test_few_networks_are_kept():
    accuracies = 0.9 + 0.01 * np.sin(np.arange(40))
    flips = 0.1 + 0.01 * np.cos(7 * np.arange(40))
    known = iterates(accuracies, flips, gaps=list(np.linspace(0.05, 0, 40)))
    counts = {
        name: max(len(rule.candidates(known[: i + 1], 0.02)) for i in range(40))
        for name, rule in RULES.items()
    }
    assert counts["last"] == counts["average"] == 0
    assert counts["best"] == counts["paired"] == 1
    assert counts["flips"] <= 4
