"""Which iterate of a run is its product: rules on the validation split.

docs/method.md, section 14:

    last      the iterate after the last epoch
    average   the mean of the weights of the last epochs, see `pipeline.averaging`
    flips     of those within .3 points of the best accuracy, the one with the fewest flips
    paired    the last, unless a paired test says that an earlier one is more accurate
    best      the best accuracy within the tolerance

A rule reads what is known of every iterate at the final sparsity. `candidates` says after each
epoch which of them can still be chosen, so that only their weights need to be kept.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from bap_jax.reporting.gaps import accuracy_gaps, exceeds
from bap_jax.training.split_sums import SplitMeans

WITHIN = 0.003  # of the best accuracy, for `flips`; a fraction
LEVEL = 0.05  # of the test of `paired`
_ROUNDING = 1e-9


class Score(NamedTuple):
    """How an iterate does on the validation split; fractions.

    Attributes:
      accuracy: over all samples.
      max_excess_gap: max_g ψ_g.
    """

    accuracy: float
    max_excess_gap: float


class Iterate(NamedTuple):
    """What a rule knows of an iterate.

    Attributes:
      epoch: its number.
      score: on the validation split.
      flip_rate: share of the validation samples that it and not the dense network has right, or the
        other way round; NaN if the rule does not need it.
      correct: `(sample,)` bool, which validation samples it has right; None if the rule does not
        need it.
    """

    epoch: int
    score: Score
    flip_rate: float = float("nan")
    correct: np.ndarray | None = None


Iterates = Sequence[Iterate]


class Rule(NamedTuple):
    """How the product is chosen.

    Attributes:
      choose: from all iterates at the final sparsity, in the order of their epochs, and the
        tolerance to the index of the one that is chosen.
      candidates: from the iterates so far and the tolerance to the indices of those that may still
        be chosen; the iterate of the last epoch may be chosen in any case.
      needs_correct: whether it needs the bits of every iterate.
      averages: whether the product is a mean of iterates, which takes the place of the last one.
    """

    choose: Callable[[Iterates, float], int]
    candidates: Callable[[Iterates, float], set[int]]
    needs_correct: bool = False
    averages: bool = False


def score(dense: SplitMeans, sparse: SplitMeans) -> Score:
    """The score of an iterate.

    Args:
      dense, sparse: means of the dense model and of the iterate on the validation split.
    """
    return Score(sparse.accuracy, float(accuracy_gaps(dense, sparse).excess_gap.max()))


def better(candidate: Score, best: Score | None, tolerance: float) -> bool:
    """Whether `candidate` replaces `best`, the best iterate so far by the rule `best`.

    Args:
      candidate: the score of a later iterate.
      best: the score of the best iterate so far; None if there is none yet.
      tolerance: ε, the largest excess gap that is allowed; fraction.

    Example:
      Within the tolerance counts first, then accuracy:

      >>> better(Score(0.80, 0.01), Score(0.99, 0.03), tolerance=0.02)
      True
      >>> better(Score(0.85, 0.02), Score(0.80, 0.01), tolerance=0.02)
      True
    """
    return best is None or _rank(candidate, tolerance) > _rank(best, tolerance)


def _rank(score, tolerance):
    if exceeds(score.max_excess_gap, tolerance):
        return (0, -score.max_excess_gap, score.accuracy)
    return (1, score.accuracy, -score.max_excess_gap)


def choose_last(iterates: Iterates, tolerance: float) -> int:
    """The last one."""
    del tolerance
    return len(iterates) - 1


def choose_best(iterates: Iterates, tolerance: float) -> int:
    """Of those within the tolerance the most accurate, else the one with the smallest largest gap.

    Ties go to the other number, and then to the earlier iterate.
    """
    chosen = 0
    for i, iterate in enumerate(iterates):
        if better(iterate.score, iterates[chosen].score, tolerance):
            chosen = i
    return chosen


def choose_fewest_flips(iterates: Iterates, tolerance: float) -> int:
    """Within `WITHIN` of the best accuracy the lowest flip rate; the later one of equal ones."""
    del tolerance
    accurate = _near_the_best(iterates)
    return min(accurate, key=lambda i: (iterates[i].flip_rate, -i))


def choose_by_paired_test(iterates: Iterates, tolerance: float) -> int:
    """The last, unless the most accurate earlier one is significantly more accurate.

    With K earlier iterates the level of the test is `LEVEL`/K (Bonferroni), as the most accurate of
    them is tested. Of equally accurate ones it is the latest.
    """
    del tolerance
    *earlier, last = iterates
    if not earlier:
        return 0
    candidate = _most_accurate(earlier)
    bits = earlier[candidate].correct, last.correct
    assert bits[0] is not None and bits[1] is not None
    p = mcnemar_p_value(bits[0], bits[1])
    return candidate if p <= LEVEL / len(earlier) else len(earlier)


def mcnemar_p_value(candidate: np.ndarray, other: np.ndarray) -> float:
    """Exact one-sided p-value of McNemar's test that `candidate` is not the more accurate one.

    Of the m samples that exactly one of the two has right, the candidate has k; the p-value is
    P(X ≥ k) for a binomial X of m trials with probability ½.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12 (1947) 153-157.

    Args:
      candidate, other: `(sample,)` bool, which samples each has right.

    Example:
      >>> mcnemar_p_value(np.array([1, 1, 1, 0], bool), np.array([0, 0, 0, 0], bool))
      0.125
    """
    gained, lost = int(np.sum(candidate & ~other)), int(np.sum(other & ~candidate))
    return float(special.bdtrc(gained - 1, gained + lost, 0.5)) if gained else 1.0


def _none(iterates, tolerance):
    del iterates, tolerance
    return set()


def _least_flips_so_far(iterates, tolerance):
    """Those that no other beats in flips and accuracy, as the best accuracy may still rise."""
    del tolerance
    near = _near_the_best(iterates)

    def beats(j, i):
        fewer = (iterates[j].flip_rate, -j) < (iterates[i].flip_rate, -i)
        return fewer and iterates[j].score.accuracy >= iterates[i].score.accuracy

    return {i for i in near if not any(beats(j, i) for j in near)}


def _near_the_best(iterates):
    best = max(iterate.score.accuracy for iterate in iterates)
    least = best - WITHIN - _ROUNDING
    return [i for i, iterate in enumerate(iterates) if iterate.score.accuracy >= least]


def _most_accurate(iterates):
    return max(range(len(iterates)), key=lambda i: (iterates[i].score.accuracy, i))


RULES = {
    "last": Rule(choose_last, _none),
    "average": Rule(choose_last, _none, averages=True),
    "flips": Rule(choose_fewest_flips, _least_flips_so_far, needs_correct=True),
    "paired": Rule(
        choose_by_paired_test,
        lambda iterates, tolerance: {_most_accurate(iterates)},
        needs_correct=True,
    ),
    "best": Rule(choose_best, lambda iterates, tolerance: {choose_best(iterates, tolerance)}),
}
