"""How unequal the harm is: spread of the true excess gaps, and an estimate of the largest one.

The spread subtracts what sampling adds to the mean square of the estimates (method of moments):

    τ̂ = √max(0, mean ψ̂_g² − mean σ̂_g²)

The largest true gap is estimated under ψ_g ~ N(0, τ²) and ψ̂_g | ψ_g ~ N(ψ_g, σ̂_g²), with a flat
prior on τ in [0, 3 max|ψ̂|]:

    p(τ | ψ̂) ∝ ∏_g N(ψ̂_g; 0, τ² + σ̂_g²),   ψ_g | τ ~ N(B_g ψ̂_g, B_g σ̂_g²),   B_g = τ²/(τ² + σ̂_g²)
    P(max_g ψ_g <= x) = ∫ ∏_g Φ((x − B_g ψ̂_g)/(√B_g σ̂_g)) p(τ | ψ̂) dτ

All integrals are computed by quadrature, without random numbers. The estimate misses a lone bad
group, since it takes the groups as one normal population: it serves to compare methods and is no
part of a verdict.

Groups of several attributes are pooled as if they were independent, although they share samples.

Source: the normal hierarchical model of D. Rubin, "Estimation in parallel randomized experiments",
Journal of Educational Statistics 6 (1981) 377-401; A. Gelman et al., "Bayesian data analysis",
section 5.4.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from bap_jax.audit.result import BayesMax

_NODES = 32  # values of τ
_COARSE = 33  # values of the maximum, to find where its mass lies
_FINE = (129, 1025)  # values of the maximum for integrals: for very many groups, and for few
_BLOCK = 20_000  # numbers computed at a time, so that they stay in the processor's cache
_NEGLIGIBLE = 25  # log-density below its largest that is left out
_FAR = 7.0  # standard deviations beyond which a normal density is 0


class Posterior(NamedTuple):
    """The posterior of τ as weighted nodes, and the largest and the single excess gaps under it.

    Attributes:
      tau: `(node,)` values of τ.
      weights: `(node,)` their probabilities.
      shrunken: `(group,)` posterior means of ψ_g.
      largest: posterior of max ψ_g.
    """

    tau: np.ndarray
    weights: np.ndarray
    shrunken: np.ndarray
    largest: BayesMax


def spread(excess_gap: np.ndarray, standard_error: np.ndarray) -> float:
    """τ̂ from `(group,)` estimates ψ̂_g and their standard errors σ̂_g."""
    return float(np.sqrt(max(0.0, np.mean(excess_gap**2) - np.mean(standard_error**2))))


def posterior(excess_gap: np.ndarray, standard_error: np.ndarray) -> Posterior:
    """The posterior of the true excess gaps.

    Args:
      excess_gap: `(group,)` ψ̂_g.
      standard_error: `(group,)` σ̂_g.

    Returns:
      All of it at 0 where every estimate is 0.
    """
    largest = np.abs(excess_gap).max()
    if largest == 0:
        zero = np.zeros(1)
        return Posterior(zero, np.ones(1), np.zeros_like(excess_gap), BayesMax(0.0, 0.0, 0.0))
    # A group without flips, in a sample where others do not flip either, has no error of its own.
    variance = np.maximum(standard_error, 1e-6 * largest) ** 2
    tau, weights = _nodes(excess_gap, variance, 3 * largest)
    kept = tau[:, None] ** 2 / (tau[:, None] ** 2 + variance)
    means, deviations = kept * excess_gap, np.sqrt(kept * variance)
    return Posterior(tau, weights, weights @ means, _largest(weights, means, deviations))


def _log_density(tau, excess_gap, variance):
    """log p(τ | ψ̂) up to a constant, for `(node,)` values of τ."""
    total = tau[:, None] ** 2 + variance
    return -0.5 * (np.log(total) + excess_gap**2 / total).sum(axis=1)


def _nodes(excess_gap, variance, highest):
    """Gauss-Legendre nodes of τ where its density is not negligible, and their weights."""
    low, high = 0.0, highest
    for _ in range(4):
        grid = np.linspace(low, high, 65)
        density = _log_density(grid, excess_gap, variance)
        kept = np.flatnonzero(density > density.max() - _NEGLIGIBLE)
        low, high = grid[max(kept[0] - 1, 0)], grid[min(kept[-1] + 1, 64)]
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    tau = low + (high - low) * (nodes + 1) / 2
    density = _log_density(tau, excess_gap, variance)
    weights = weights * np.exp(density - density.max())
    kept = weights > 1e-7 * weights.sum()
    return tau[kept], weights[kept] / weights[kept].sum()


def _largest(weights, means, deviations):
    """Mean, 5 % and 95 % quantile of the maximum of independent normals, mixed over the nodes."""
    low = (means - _FAR * deviations).max(axis=1).min()
    high = (means + _FAR * deviations).max()
    coarse = np.linspace(low, high, _COARSE)
    inside = np.flatnonzero(np.diff(_distribution(coarse, weights, means, deviations)) > 1e-9)
    points = int(np.clip(500_000 // means.shape[1], *_FINE))
    grid = np.linspace(coarse[inside[0]], coarse[inside[-1] + 1], points)
    below = _distribution(grid, weights, means, deviations)
    mean = grid[-1] - np.sum((below[1:] + below[:-1]) / 2 * np.diff(grid))
    lower, upper = np.interp([0.05, 0.95], below, grid)
    return BayesMax(float(mean), float(lower), float(upper))


def _distribution(grid, weights, means, deviations):
    """P(max_g ψ_g <= x) for every x of the grid."""
    result = np.zeros(len(grid))
    blocks = np.array_split(np.arange(len(grid)), -(-grid.size * means.shape[1] // _BLOCK))
    for weight, mean, deviation in zip(weights, means, deviations, strict=True):
        for rows in blocks:
            z = (grid[rows, None] - mean) / deviation
            result[rows] += weight * special.ndtr(z).prod(axis=1)
    return result
