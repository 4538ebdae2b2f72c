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
        score = Score(float(iterate.mean()), _excess_gaps(sample, iterate).max())
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
    """`MEASURES` of a network, fractions.

    Args:
      sample: whose dense network it is compared with.
      correct: `(sample,)` bool, which samples the network has right.
    """
    gaps, errors = _excess_gaps(sample, correct), _errors(sample, correct)
    spread = np.sqrt(max(0.0, np.mean(gaps**2 - errors**2)))
    return (
        float(correct.mean()),
        float((correct != sample.dense).mean()),
        float(gaps.max()),
        chance(sample, correct),
        float(spread),
        bayes_max(gaps, errors),
    )


def _by_group(sample: Sample, correct: np.ndarray):
    """Samples, sum and sum of squares of D = dense − correct in each group."""
    difference = sample.dense.astype(float) - correct
    count = np.bincount(sample.groups)
    return count, *(np.bincount(sample.groups, d) for d in (difference, difference**2))


def _excess_gaps(sample, correct):
    count, total, _ = _by_group(sample, correct)
    return total / count - total.sum() / count.sum()


def _errors(sample, correct):
    """Standard errors of the excess gaps: two independent means, the group's and the others'."""
    count, total, flipped = _by_group(sample, correct)
    variances = []
    for n, sum_, squares in (
        (count, total, flipped),
        (count.sum() - count, total.sum() - total, flipped.sum() - flipped),
    ):
        variances.append((squares / n - (sum_ / n) ** 2) / n)
    return (1 - count / count.sum()) * np.sqrt(sum(variances))


def chance(sample: Sample, correct: np.ndarray, draws: int = 200) -> float:
    """The mean of the largest gap when all groups are harmed alike: groups are permuted."""
    rng, count = np.random.default_rng(0), np.bincount(sample.groups)
    harmed, helped = (sample.dense & ~correct).sum(), (~sample.dense & correct).sum()
    b = rng.multivariate_hypergeometric(count, harmed, size=draws, method="marginals")
    c = np.stack([rng.multivariate_hypergeometric(count - row, helped) for row in b])
    return float(((b - c) / count - (harmed - helped) / count.sum()).max(1).mean())


def bayes_max(gaps: np.ndarray, errors: np.ndarray, draws: int = 1000) -> float:
    """Posterior mean of the largest true gap under ψ ~ N(0, τ²), τ uniform in [0, 3 max|ψ̂|]."""
    if not gaps.any():
        return 0.0
    grid = np.linspace(0, 3 * np.abs(gaps).max(), 101)[:, None]
    variance = grid**2 + np.maximum(errors, 1e-9) ** 2
    log_likelihood = -0.5 * (np.log(variance) + gaps**2 / variance).sum(1)
    weight = np.exp(log_likelihood - log_likelihood.max())
    rng = np.random.default_rng(0)
    tau = grid[rng.choice(len(grid), draws, p=weight / weight.sum())]
    shrinkage = tau**2 / (tau**2 + np.maximum(errors, 1e-9) ** 2)
    noise = rng.standard_normal((draws, len(gaps)))
    return float((shrinkage * gaps + np.sqrt(shrinkage) * errors * noise).max(1).mean())
