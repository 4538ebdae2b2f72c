"""How many samples of a group a decision needs, before they are collected.

The group is found non-inferior if the upper limit of ψ_g is at most the tolerance ε. With flip rate
d, true gap t, power 1 − β, and V₀ Tango's variance of one sample's loss under the difference ε:

    n_g = (1 − w_g) [(z_α √V₀ + z_β √(d − t²)) / (ε − t)]²,   V₀ = 2q̃ + ε(1 − ε)

where q̃ is computed from the expected shares harmed (d + t)/2 and helped (d − t)/2, and w_g is the
share of the group in all samples. For G groups to be found non-inferior together with power 1 − β,
each needs power (1 − β)^(1/G).

Source: sample size for the score test of non-inferiority with paired proportions, J.-M. Nam,
"Establishing equivalence of two treatments and sample size requirements in matched-pairs design",
Biometrics 53 (1997) 1422-1430.
"""

import numpy as np

from bap_jax.audit import tango
from bap_jax.errors import UserError

_MOST = 2.0**53  # samples that a tolerance next to 0 is said to need


def samples_needed(
    flip_rate: float,
    tolerance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    share: float = 0.0,
    true_gap: float = 0.0,
    groups: int = 1,
) -> int:
    """Samples of a group with which it is found non-inferior with the given power.

    Args:
      flip_rate: d in [0, 1], the share of samples that exactly one of the two models has right.
      tolerance: ε in (0, 1].
      alpha: one-sided level, in (0, 1/2).
      power: in (0, 1).
      share: w_g in [0, 1), the group's share of all samples.
      true_gap: the excess gap that the group is believed to have, below the tolerance.
      groups: how many such groups are to be found non-inferior together.

    Raises:
      UserError: a number is outside its range.

    Example:
      >>> samples_needed(0.08, 0.02)
      1277
    """
    _check(flip_rate, tolerance, alpha, power, share, true_gap, groups)
    return int(samples_per_group(flip_rate, share, tolerance, alpha, power, true_gap, groups))


def decidable_tolerance(
    flip_rate: float,
    n: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    share: float = 0.0,
    true_gap: float = 0.0,
    groups: int = 1,
) -> float:
    """The smallest tolerance that n samples of a group can decide: `samples_needed` inverted.

    Args:
      flip_rate: as in `samples_needed`.
      n: samples of the group, at least 1.
      alpha: as in `samples_needed`.
      power: as in `samples_needed`.
      share: as in `samples_needed`.
      true_gap: as in `samples_needed`.
      groups: as in `samples_needed`.

    Returns:
      A fraction in (0, 1]; NaN where even a tolerance of 1 is not decided.

    Raises:
      UserError: a number is outside its range.

    Example:
      >>> round(decidable_tolerance(0.08, 1277), 4)
      0.02
    """
    _check(flip_rate, 1, alpha, power, share, true_gap, groups)
    if n < 1:
        raise UserError(f"n must be at least 1; got {n}.")
    few, enough = max(true_gap, 0.0), 1.0
    if _unrounded(flip_rate, share, enough, alpha, power, true_gap, groups) > n:
        return float("nan")
    for _ in range(60):
        middle = (few + enough) / 2
        fits = _unrounded(flip_rate, share, middle, alpha, power, true_gap, groups) <= n
        few, enough = (few, middle) if fits else (middle, enough)
    return enough


def _check(flip_rate, tolerance, alpha, power, share, true_gap, groups):
    for name, value, fits, expected in (
        ("flip_rate", flip_rate, 0 <= flip_rate <= 1, "a fraction in [0, 1]"),
        ("tolerance", tolerance, 0 < tolerance <= 1, "a fraction in (0, 1]"),
        ("alpha", alpha, 0 < alpha < 0.5, "in (0, 0.5)"),
        ("power", power, 0 < power < 1, "in (0, 1)"),
        ("share", share, 0 <= share < 1, "a fraction in [0, 1)"),
        ("true_gap", true_gap, true_gap < tolerance, f"below the tolerance {tolerance}"),
        ("true_gap", true_gap, abs(true_gap) <= flip_rate, f"at most the flip rate {flip_rate}"),
        ("groups", groups, groups >= 1, "at least 1"),
    ):
        if not fits:
            raise UserError(f"{name} must be {expected}; got {value}.")


def samples_per_group(
    flip_rates: float | np.ndarray,
    shares: float | np.ndarray,
    tolerance: float,
    alpha: float,
    power: float = 0.8,
    true_gap: float = 0.0,
    groups: int = 1,
) -> np.ndarray:
    """`samples_needed` for `(group,)` flip rates and shares, unchecked."""
    needed = _unrounded(flip_rates, shares, tolerance, alpha, power, true_gap, groups)
    return np.clip(np.rint(needed), 1, _MOST).astype(np.int64)


def _unrounded(flip_rates, shares, tolerance, alpha, power, true_gap, groups):
    harmed, helped = (flip_rates + true_gap) / 2, (flip_rates - true_gap) / 2
    restricted = tango.restricted_variance(harmed, helped, 1, tolerance)
    z = tango.normal_quantile(alpha)
    z_power = tango.normal_quantile(1 - power ** (1 / groups))
    deviation = z * np.sqrt(restricted) + z_power * np.sqrt(flip_rates - true_gap**2)
    with np.errstate(over="ignore"):
        return (1 - shares) * (deviation / (tolerance - true_gap)) ** 2
