"""Rules that choose the product of a run on the validation part, and what is measured of a choice.

A rule takes a `Sample` and the tolerance, and returns the row of `Sample.correct` that it chooses:

    last      the last iterate
    average   the weight average, which is not an iterate
    flips     of the iterates within .3 points of the best accuracy, the one with the fewest flips
    paired    the last iterate, unless McNemar's exact test, one-sided at .05 with Bonferroni's
              correction over the other iterates, says that an earlier one is more accurate
    best      of the iterates whose largest gap is within the tolerance the most accurate; if there
              are none, the one with the smallest largest gap
    accuracy  the most accurate iterate (a control)

A flip is a sample on which exactly one of dense and sparse network is right. Of tied iterates,
`flips`, `paired` and `accuracy` take the last one, `best` the first.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from bap_jax.audit.chance import draw
from bap_jax.audit.counts import Table
from bap_jax.audit.excess import excess_gap, standard_error
from bap_jax.audit.spread import posterior, spread
from bap_jax.reporting import Score, better

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


def last(sample: Sample, tolerance: float) -> int:
    """The last iterate."""
    del tolerance
    return len(sample.correct) - 2


def average(sample: Sample, tolerance: float) -> int:
    """The weight average."""
    del tolerance
    return len(sample.correct) - 1


def flips(sample: Sample, tolerance: float, within: float = 0.003) -> int:
    """The fewest flips among the iterates that are about as accurate as the best."""
    del tolerance
    iterates = sample.correct[:-1]
    accuracy = iterates.mean(1)
    rate = (iterates != sample.dense).mean(1)
    allowed = np.flatnonzero(accuracy >= accuracy.max() - within - 1e-12)
    return int(allowed[::-1][np.argmin(rate[allowed][::-1])])


def paired(sample: Sample, tolerance: float, alpha: float = 0.05) -> int:
    """The last iterate, unless a paired test says that an earlier one is more accurate."""
    del tolerance
    final, others = sample.correct[-2], sample.correct[:-2]
    if not len(others):
        return 0
    gained, lost = (others & ~final).sum(1), (~others & final).sum(1)
    # P(X ≥ gained), X ~ Binomial(gained + lost, 1/2), by the incomplete beta function
    p_values = np.where(gained > 0, special.betainc(np.maximum(gained, 1), lost + 1, 0.5), 1.0)
    best = len(others) - 1 - int(np.argmin(p_values[::-1]))
    return best if p_values[best] * len(others) <= alpha else len(others)


def best(sample: Sample, tolerance: float) -> int:
    """The product's former rule."""
    chosen, chosen_score = 0, None
    for i, iterate in enumerate(sample.correct[:-1]):
        score = Score(float(iterate.mean()), float(excess_gap(_table(sample, iterate)).max()))
        if better(score, chosen_score, tolerance):
            chosen, chosen_score = i, score
    return chosen


def accuracy(sample: Sample, tolerance: float) -> int:
    """The most accurate iterate."""
    del tolerance
    accuracies = sample.correct[:-1].mean(1)
    return len(accuracies) - 1 - int(np.argmax(accuracies[::-1]))


RULES = {rule.__name__: rule for rule in (last, average, flips, paired, best, accuracy)}


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
    losses = draw(np.random.default_rng(0), table.n, harmed, helped, permutations)
    return float(((losses / table.n).max(1) - (harmed - helped) / table.n.sum()).mean())
