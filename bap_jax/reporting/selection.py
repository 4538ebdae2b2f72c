"""Which iterate is reported: one rule for every method (docs/method.md, equation (34)).

Iterates at the final sparsity are compared on the validation split. Of those whose largest excess
gap is within the tolerance, the one with the best accuracy is selected; if there is none, the one
with the smallest largest gap. Earlier iterates win ties.
"""

from typing import NamedTuple

from bap_jax.reporting.gaps import accuracy_gaps, exceeds
from bap_jax.training.evaluate import SplitMeans


class Score(NamedTuple):
    """How an iterate does on the validation split; fractions.

    Attributes:
      accuracy: over all samples.
      max_excess_gap: max_g ψ_g.
    """

    accuracy: float
    max_excess_gap: float


def score(dense: SplitMeans, sparse: SplitMeans) -> Score:
    """The score of an iterate.

    Args:
      dense, sparse: means of the dense model and of the iterate on the validation split.
    """
    return Score(sparse.accuracy, float(accuracy_gaps(dense, sparse).excess_gap.max()))


def better(candidate: Score, best: Score | None, tolerance: float) -> bool:
    """Whether `candidate` replaces `best`, the best iterate so far.

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
