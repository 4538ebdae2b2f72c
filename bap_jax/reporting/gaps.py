"""How much accuracy each group loses by pruning (docs/method.md, equations (1) to (4))."""

from typing import NamedTuple

import numpy as np

from bap_jax.training.split_sums import SplitMeans


class AccuracyGaps(NamedTuple):
    """Accuracy that the sparse model lost against the dense one; fractions, not points.

    Attributes:
      group_gap: `(group,)` Δ_g = A_g(θ_d) − A_g(θ_s).
      overall_gap: Δ = A(θ_d) − A(θ_s).
      excess_gap: `(group,)` ψ_g = Δ_g − Δ.
      pairwise_disparity: Ψ_PW = max_g ψ_g − min_g ψ_g.
    """

    group_gap: np.ndarray
    overall_gap: float
    excess_gap: np.ndarray
    pairwise_disparity: float


def exceeds(gap: float, tolerance: float) -> bool:
    """Whether a gap is larger than the tolerance by more than rounding errors.

    Example:
      >>> exceeds(0.9 - 0.89, 0.01), exceeds(0.011, 0.01)
      (False, True)
    """
    return gap > tolerance + 1e-9


def accuracy_gaps(dense: SplitMeans, sparse: SplitMeans) -> AccuracyGaps:
    """Gaps of the sparse model against the dense one.

    Args:
      dense, sparse: means of the two models on the same split.

    Example:
      Group 0 loses 10 points, group 1 loses 30, and each holds half of the samples:

      >>> loss, counts = np.zeros(2), np.array([50, 50])
      >>> dense = SplitMeans(np.array([0.9, 0.9]), loss, 0.9, 0.0, counts, 100)
      >>> sparse = SplitMeans(np.array([0.8, 0.6]), loss, 0.7, 0.0, counts, 100)
      >>> gaps = accuracy_gaps(dense, sparse)
      >>> round(gaps.overall_gap, 3), gaps.excess_gap.round(3).tolist()
      (0.2, [-0.1, 0.1])
    """
    group_gap = dense.group_accuracy - sparse.group_accuracy
    overall_gap = dense.accuracy - sparse.accuracy
    excess = group_gap - overall_gap
    return AccuracyGaps(group_gap, overall_gap, excess, float(excess.max() - excess.min()))
