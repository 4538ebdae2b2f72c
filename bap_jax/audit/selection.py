"""Which iterate is reported: one rule for every method, fixed beforehand (recipes.md C).

Among iterates at the final sparsity: the best accuracy on the validation split of those whose
largest excess gap there is within the tolerance; where there is none, the smallest largest gap.
Earlier iterates win ties.
"""

from typing import NamedTuple

from bap_jax.audit.gaps import accuracy_gaps, exceeds
from bap_jax.training.evaluate import SplitMeans


class Score(NamedTuple):
    """An iterate on the validation split.

    Attributes:
      accuracy: fraction.
      max_excess_gap: max_g ψ_g, fraction.
    """

    accuracy: float
    max_excess_gap: float


def score(dense: SplitMeans, sparse: SplitMeans) -> Score:
    """How an iterate does on the validation split.

    Args:
      dense, sparse: means on the validation split.
    """
    return Score(sparse.accuracy, float(accuracy_gaps(dense, sparse).excess_gap.max()))


def better(candidate: Score, best: Score | None, tolerance: float) -> bool:
    """Whether `candidate` replaces `best`, the choice so far (None: no choice yet)."""
    return best is None or _rank(candidate, tolerance) > _rank(best, tolerance)


def _rank(value, tolerance):
    if exceeds(value.max_excess_gap, tolerance):
        return (0, -value.max_excess_gap, value.accuracy)
    return (1, value.accuracy, -value.max_excess_gap)
