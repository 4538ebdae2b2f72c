"""Rules that choose the product of a run on the validation part, and what is measured of a choice.

The rules are the product's own, `reporting.selection`, and one control: `accuracy` chooses the most
accurate iterate, the later of equally accurate ones. A flip is a sample on which exactly one of
dense and sparse network is right.
"""

from typing import NamedTuple

import numpy as np

from bap_jax.audit.counts import Table
from bap_jax.audit.draws import Losses
from bap_jax.audit.excess import excess_gap, standard_error
from bap_jax.audit.spread import posterior, spread
from bap_jax.reporting import selection

MEASURES = ("accuracy", "flips", "max ψ", "chance", "spread", "Bayes max")


class Sample(NamedTuple):
    """Which samples of a part each network has right.

    Attributes:
      dense: `(sample,)` bool.
      correct: `(network, sample)` bool: the iterates in order, then their average.
      groups: `(sample,)` ids from 0.
    """

    dense: np.ndarray
    correct: np.ndarray
    groups: np.ndarray

    def part(self, chosen: np.ndarray) -> "Sample":
        """The samples where `(sample,)` `chosen` is True."""
        return Sample(self.dense[chosen], self.correct[:, chosen], self.groups[chosen])


RULES = (*selection.RULES, "accuracy")


def choices(sample: Sample, tolerance: float) -> list[int]:
    """The row of `Sample.correct` that each of `RULES` chooses.

    Args:
      sample: what the rules see.
      tolerance: ε, the largest excess gap that is allowed; fraction.
    """
    iterates = [_iterate(sample, i) for i in range(len(sample.correct) - 1)]
    average = len(iterates)
    chosen = [
        average if rule.averages else rule.choose(iterates, tolerance)
        for rule in selection.RULES.values()
    ]
    most_accurate = max(iterates, key=lambda iterate: (iterate.score.accuracy, iterate.epoch))
    return [*chosen, most_accurate.epoch]


def _iterate(sample, i):
    """What the product's rules know of an iterate."""
    correct = sample.correct[i]
    largest_gap = float(excess_gap(_table(sample, correct)).max())
    score = selection.Score(float(correct.mean()), largest_gap)
    return selection.Iterate(i, score, float((correct != sample.dense).mean()), correct)


def measure(sample: Sample, correct: np.ndarray, permutations: int = 500) -> tuple[float, ...]:
    """`MEASURES` of a network, fractions; every group counts, however small.

    Args:
      sample: whose dense network it is compared with.
      correct: `(sample,)` bool, which samples the network has right.
      permutations: for `chance`; with 0 it is NaN.
    """
    table = _table(sample, correct)
    gaps, errors = excess_gap(table), standard_error(table)
    return (
        float(correct.mean()),
        float((correct != sample.dense).mean()),
        float(gaps.max()),
        _chance(table, permutations) if permutations else np.nan,
        spread(gaps, errors),
        posterior(gaps, errors).largest.mean,
    )


def _table(sample, correct):
    """Counts of samples by group."""
    columns = (sample.dense & ~correct, ~sample.dense & correct, sample.dense & correct)
    size = sample.groups.max() + 1
    counts = (np.bincount(sample.groups[column], minlength=size) for column in columns)
    return Table(np.bincount(sample.groups), *counts)


def _chance(table, permutations):
    """The mean of the largest gap when samples are exchanged among the groups."""
    harmed, helped = int(table.harmed.sum()), int(table.helped.sum())
    losses = Losses(table.n, harmed, helped).draw(np.random.default_rng(0), permutations)
    return float(((losses / table.n).max(1) - (harmed - helped) / table.n.sum()).mean())
