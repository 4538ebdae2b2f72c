"""The quantities of method.md, section 1, from accuracies on one split."""

from typing import NamedTuple

import numpy as np

from bap_jax.training.evaluate import SplitMeans


class AccuracyGaps(NamedTuple):
    """Fractions, not points.

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
    """Whether a gap is beyond the tolerance, and not by rounding alone."""
    return gap > tolerance + 1e-9


def accuracy_gaps(dense: SplitMeans, sparse: SplitMeans) -> AccuracyGaps:
    """AccuracyGaps of the sparse model against the dense one, both evaluated on the same split."""
    group_gap = dense.group_accuracy - sparse.group_accuracy
    overall_gap = dense.accuracy - sparse.accuracy
    excess = group_gap - overall_gap
    return AccuracyGaps(group_gap, overall_gap, excess, float(excess.max() - excess.min()))
