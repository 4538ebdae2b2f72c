"""Score limits of one paired difference of proportions (Tango).

Of n samples the dense model alone is right on b (*harmed*), the sparse one alone on c (*helped*).
The mean loss D̄ = (b − c)/n estimates δ = P(dense right) − P(sparse right). The score statistic is

    T(δ) = (b − c − nδ) / √(n V(δ)),    V(δ) = 2q̃ + δ(1 − δ),
    q̃ = (√(B² − 4AC) − B) / 2A,  A = 2n,  B = −b − c + (2n − b + c)δ,  C = −cδ(1 − δ)

where q̃ is the maximum-likelihood estimate of P(sparse alone right) if the difference is δ. T falls
from +∞ to −∞; the one-sided limits at level α are its roots T(δ) = ± z, z = Φ⁻¹(1 − α).

Where no sample flips, the limits are ∓z²/(n + z²): never 0, so "no flips seen" proves little where
n is small.

Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions for
the paired-sample design", Statistics in Medicine 17 (1998) 891-908. Worked example in M. Fagerland,
S. Lydersen, P. Laake, "Recommended tests and confidence intervals for paired binomial proportions",
Statistics in Medicine 33 (2014) 2850-2875: b = 1, c = 7, n = 21 gives 95 % limits −.517 and −.026.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

# A bracket of width 2 shrinks to the spacing of doubles.
_HALVINGS = 54


def normal_quantile(alpha: float) -> float:
    """z with P(Z > z) = alpha for a standard normal Z."""
    return float(-special.ndtri(alpha))


def restricted_variance(
    harmed: ArrayLike, helped: ArrayLike, n: ArrayLike, difference: ArrayLike
) -> np.ndarray:
    """V(δ), the variance of one sample's loss, estimated under P(harmed) − P(helped) = δ.

    Args:
      harmed: `(...)` b; counts, or shares with n = 1.
      helped: `(...)` c.
      n: `(...)` samples.
      difference: `(...)` δ in [−1, 1].

    Returns:
      `(...)` 2q̃ + δ(1 − δ), at least 0.
    """
    harmed, helped, n, difference = _floats(harmed, helped, n, difference)
    product = difference * (1 - difference)
    linear = (2 * n - harmed + helped) * difference - harmed - helped
    root = np.sqrt(np.maximum(linear**2 + 8 * n * helped * product, 0))
    # Of the two equal forms of q̃, the one in which no close numbers are subtracted.
    larger = np.maximum(np.abs(linear) + root, np.finfo(float).tiny)
    restricted = np.where(linear > 0, 2 * helped * product / larger, larger / (4 * n))
    return np.maximum(2 * restricted + product, 0)


def score(harmed: ArrayLike, helped: ArrayLike, n: ArrayLike, difference: ArrayLike) -> np.ndarray:
    """T(δ): how many standard errors the mean loss lies above δ, with the variance under δ.

    Args:
      harmed: `(...)` b.
      helped: `(...)` c.
      n: `(...)` samples, at least 1.
      difference: `(...)` δ in [−1, 1].

    Returns:
      `(...)`; 0 where the mean loss is δ, ±∞ where the variance under δ is 0 but the mean is not δ.
    """
    harmed, helped, n, difference = _floats(harmed, helped, n, difference)
    excess = harmed - helped - n * difference
    deviation = np.sqrt(n * restricted_variance(harmed, helped, n, difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(excess == 0, 0.0, excess / deviation)


def upper_limit(harmed: ArrayLike, helped: ArrayLike, n: ArrayLike, alpha: float) -> np.ndarray:
    """The one-sided upper limit of δ at level alpha: the root of T(δ) = −z above the mean loss.

    Args:
      harmed: `(...)` b.
      helped: `(...)` c.
      n: `(...)` samples, at least 1.
      alpha: in (0, 1/2).

    Returns:
      `(...)` limits in [−1, 1].
    """
    harmed, helped, n = _floats(harmed, helped, n)
    z = normal_quantile(alpha)
    inside = (harmed - helped) / n
    outside = np.ones_like(inside)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        variance = restricted_variance(harmed, helped, n, middle)
        accepted = n * middle - (harmed - helped) < z * np.sqrt(n * variance)
        inside = np.where(accepted, middle, inside)
        outside = np.where(accepted, outside, middle)
    return outside


def lower_limit(harmed: ArrayLike, helped: ArrayLike, n: ArrayLike, alpha: float) -> np.ndarray:
    """The one-sided lower limit: minus the upper limit with the two models swapped.

    Args:
      harmed: `(...)` b.
      helped: `(...)` c.
      n: `(...)` samples, at least 1.
      alpha: in (0, 1/2).

    Returns:
      `(...)` limits in [−1, 1].
    """
    return -upper_limit(helped, harmed, n, alpha)


def _floats(*arrays: ArrayLike) -> list[np.ndarray]:
    return [np.asarray(array, float) for array in arrays]
