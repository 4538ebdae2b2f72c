"""The comparison of rules that choose a run's product: rules, crossing over, and the commands."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.test_benchmarks import python

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import selection_measures as measures
import selection_rules


def sample_of(accuracies, size=300, groups=3, seed=0):
    """Networks that are right at random; the dense one as well."""
    rng = np.random.default_rng(seed)
    correct = rng.random((len(accuracies), size)) < np.array(accuracies)[:, None]
    return measures.Sample(rng.random(size) < 0.5, correct, rng.integers(groups, size=size))


def chosen(sample, rule):
    return measures.choices(sample, 0.01)[measures.RULES.index(rule)]


def test_on_noise_a_choice_looks_good_where_it_was_made_and_nowhere_else():
    """A hundred networks that are all right half of the time."""
    sample = sample_of([0.5] * 101, size=2000)
    rows = measures.RULES
    accuracy = selection_rules.crossed(sample, 0.01, folds=2, repeats=20)[:, 0]
    most_accurate = chosen(sample, "accuracy")
    assert sample.correct[most_accurate].mean() > 0.52
    assert accuracy[rows.index("accuracy")] == pytest.approx(0.5, abs=0.01)
    assert accuracy[rows.index("last")] == pytest.approx(sample.correct[-2].mean())
    assert accuracy[rows.index("average")] == pytest.approx(sample.correct[-1].mean())


def test_folds_are_equally_large_in_every_group():
    groups = np.repeat([0, 1, 2], [10, 31, 4])
    fold = selection_rules.random_folds(groups, 3, np.random.default_rng(0))
    counts = np.array([np.bincount(fold[groups == group], minlength=3) for group in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all() and counts.sum() == 45


@pytest.mark.parametrize(("extra", "is_chosen"), [(8, False), (12, True)])
def test_an_earlier_iterate_must_pass_mcnemars_test(extra, is_chosen):
    """The second of four iterates has `extra` samples right that the last one has wrong."""
    correct = np.zeros((5, 100), bool)
    correct[:, :50] = True
    correct[1, 0], correct[1, 50 : 50 + extra] = False, True
    p_value = stats.binomtest(extra, extra + 1, alternative="greater").pvalue
    assert (3 * p_value <= 0.05) == is_chosen
    sample = measures.Sample(np.ones(100, bool), correct, np.zeros(100, int))
    assert chosen(sample, "paired") == (1 if is_chosen else 3)


def test_the_fewest_flips_count_among_the_most_accurate():
    correct = np.ones((5, 1000), bool)
    dense = np.ones(1000, bool)
    dense[:4] = False
    correct[0, :50] = False  # far less accurate
    correct[1, :3] = False  # within .3 points; one flip
    correct[2, :2] = False  # two flips
    sample = measures.Sample(dense, correct, np.zeros(1000, int))
    assert chosen(sample, "flips") == 1
    assert chosen(sample, "accuracy") == 3  # the later of two that are always right


@pytest.mark.slow
def test_recordings_become_tables(tmp_path):
    recordings = f"--recordings={tmp_path}"
    smoke = "--config=experiments/digits.py:smoke"
    python("benchmarks/record_iterates.py", smoke, "--splits=2", "--methods=nft", recordings)
    files = sorted(tmp_path.glob("*.npz"))
    assert [file.stem for file in files] == ["digits_0.95_nft_0", "digits_0.95_nft_1"]
    with np.load(files[0]) as arrays:
        assert arrays["validation_iterates"].shape == (3, 189)
        assert arrays["epochs"].tolist() == [2, 3, 4] and arrays["average_first_epoch"] == 4
        # The average of a single network is that network.
        assert (arrays["test_average"] == arrays["test_iterates"][-1]).all()
    out = python("benchmarks/selection_rules.py", recordings, "--repeats=2")
    assert "| digits 0.95 nft (2) | `average` |" in out and "Regret" in out
