"""Rules that choose the product of a run on the validation part, and what is measured of a choice.

The rules are the product's own, `reporting.selection`, and one control: `accuracy` chooses the most
accurate iterate, the later of equally accurate ones. A rule takes a `Sample` and the tolerance, and
returns the row of `Sample.correct` that it chooses. A flip is a sample on which exactly one of
dense and sparse network is right.
"""

from collections.abc import Callable
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


def accuracy(sample: Sample, tolerance: float) -> int:
    """The most accurate iterate."""
    del tolerance
    accuracies = sample.correct[:-1].mean(1)
    return len(accuracies) - 1 - int(np.argmax(accuracies[::-1]))


def _of_product(rule: selection.Rule) -> Callable[[Sample, float], int]:
    def choose(sample: Sample, tolerance: float) -> int:
        if rule.averages:
            return len(sample.correct) - 1
        return rule.choose(_iterates(sample), tolerance)

    return choose


def _iterates(sample):
    """What the product's rules know of every iterate."""
    iterates = []
    for i, correct in enumerate(sample.correct[:-1]):
        largest_gap = float(excess_gap(_table(sample, correct)).max())
        score = selection.Score(float(correct.mean()), largest_gap)
        flip_rate = float((correct != sample.dense).mean())
        iterates.append(selection.Iterate(i, score, flip_rate, correct))
    return iterates


RULES = {name: _of_product(rule) for name, rule in selection.RULES.items()}
RULES["accuracy"] = accuracy


def measure(sample: Sample, correct: np.ndarray) -> tuple[float, ...]:
    """`MEASURES` of a network, fractions; every group counts, however small.

    Args:
      sample: whose dense network it is compared with.
      correct: `(sample,)` bool, which samples the network has right.
    """
    table = _table(sample, correct)
    gaps, errors = excess_gap(table), standard_error(table)
    return (
        float(correct.mean()),
        float((correct != sample.dense).mean()),
        float(gaps.max()),
        _chance(table),
        spread(gaps, errors),
        posterior(gaps, errors).largest.mean,
    )


def _table(sample, correct):
    """Counts of samples by group."""
    columns = (sample.dense & ~correct, ~sample.dense & correct, sample.dense & correct)
    size = sample.groups.max() + 1
    counts = (np.bincount(sample.groups[column], minlength=size) for column in columns)
    return Table(np.bincount(sample.groups), *counts)


def _chance(table, permutations=500):
    """The mean of the largest gap when samples are exchanged among the groups."""
    harmed, helped = int(table.harmed.sum()), int(table.helped.sum())
    losses = Losses(table.n, harmed, helped).draw(np.random.default_rng(0), permutations)
    return float(((losses / table.n).max(1) - (harmed - helped) / table.n.sum()).mean())
