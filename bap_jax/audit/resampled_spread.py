"""Spread τ̂ and largest true excess gap of many resamples, so that methods can be compared.

*Spread.* A plain bootstrap of τ̂² = mean ψ̂² − mean σ̂² would be biased: resampled gaps scatter around
the ψ̂, which scatter around the true ψ already. `recentred` therefore moves each group's resampled
gaps from ψ̂_g to √B_g ψ̂_g, B_g = τ̂²/(τ̂² + σ̂_g²): values whose mean square is about τ̂², that of the
true gaps.

*Largest gap.* Its posterior is that of `bap_jax.audit.spread`; `draws_of_largest` draws from it so
that the draws of methods that were resampled together are paired:

    max_g [B_g(τ) ψ̂_g + √B_g(τ) (ψ*_g − ψ̂_g)]

where ψ* is a resample, whose scatter is σ_g, and τ the posterior's quantile at the rank that
another resample has among all by its τ̂². Equal data give equal draws.

Source of √B: T. Louis, "Estimating a population of parameter values using Bayes and empirical Bayes
methods", Journal of the American Statistical Association 79 (1984) 393-398.
"""

import numpy as np

from bap_jax.audit.spread import Posterior

_CHUNK = 2**20


def spread_square(excess_gap: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """mean ψ² − mean σ² over the last axis: τ̂², or below 0."""
    return (excess_gap**2).mean(axis=-1) - variance.mean(axis=-1)


def recentred(resampled: np.ndarray, excess_gap: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Resampled gaps, scattered around values as unequal as the true gaps.

    Args:
      resampled: `(resample, group)` ψ* of the resamples.
      excess_gap: `(group,)` ψ̂ of the data.
      variance: `(group,)` σ̂² of the data.
    """
    square = np.maximum(0, spread_square(excess_gap, variance))
    kept = square / np.maximum(square + variance, np.finfo(float).tiny)
    return resampled + (np.sqrt(kept) - 1) * excess_gap


def draws_of_largest(
    posterior: Posterior,
    resampled: np.ndarray,
    squares: np.ndarray,
    excess_gap: np.ndarray,
    variance: np.ndarray,
) -> np.ndarray:
    """Draws from the posterior of max ψ_g, one for each resample.

    Args:
      posterior: of the data.
      resampled: `(resample, group)` ψ* of the resamples.
      squares: `(resample,)` `spread_square` of the recentred resamples.
      excess_gap: `(group,)` ψ̂ of the data.
      variance: `(group,)` σ̂² of the data.

    Returns:
      `(resample,)`.
    """
    resamples, groups = resampled.shape
    ranks = np.argsort(np.argsort(squares, kind="stable"), kind="stable")
    below = np.cumsum(posterior.weights) - posterior.weights / 2
    square = np.interp((ranks + 0.5) / resamples, below, posterior.tau)[:, None] ** 2
    # Half a turn apart: a resample that scatters much would have a large τ as well.
    partner = np.roll(np.arange(resamples), resamples // 2)
    largest = []
    for rows in np.array_split(partner, max(1, resamples * groups // _CHUNK)):
        size = len(rows)
        start = sum(map(len, largest))
        total = square[start : start + size] + variance
        kept = square[start : start + size] / np.maximum(total, np.finfo(float).tiny)
        noise = np.sqrt(kept) * (resampled[rows] - excess_gap)
        largest.append((kept * excess_gap + noise).max(axis=1))
    return np.concatenate(largest)
