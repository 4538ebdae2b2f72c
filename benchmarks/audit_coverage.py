"""How often the audit's limits and verdicts are wrong, and how often they decide: no training.

    python benchmarks/audit_coverage.py

Prints four tables.

    misses ÷ α   of the one-sided limits of ψ_g: 1.00 is exact, less is cautious. Ten groups of
                 n_g samples. All tables of counts of the group are enumerated, each with its
                 probability; those of the other nine groups are drawn (`--draws`)
    satisfied    how often the verdict is "satisfied" where a group's ψ_g is exactly the tolerance
    violated     how often the verdict is "violated" where no group's ψ_g exceeds the tolerance
    power        how often U_g <= ε with the samples that `samples_needed` asks for, true gap 0

The last three draw `--tables` audits. Cost: under two minutes of one core.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import app, flags
from scipy import special

from bap_jax.audit import tango
from bap_jax.audit.planning import samples_needed

_DRAWS = flags.DEFINE_integer("draws", 1000, "tables of the other groups for every miss rate")
_TABLES = flags.DEFINE_integer("tables", 10_000, "audits drawn for every rate of verdicts")

SIZES = (50, 100, 300, 1500)
FLIP_RATES = (0.02, 0.08, 0.16, 0.25)
ALPHAS = (0.05, 0.0005)
# The group's mean loss, as a part of its flip rate: as many helped as harmed, three quarters of the
# flips harm, all of them do.
LOSSES = (0, 0.5, 1)
GROUPS = 10
ALPHA = 0.05


class Arms(NamedTuple):
    """Means and Tango's limits, as distances from the mean; `(...)` each."""

    mean: np.ndarray
    below: np.ndarray
    above: np.ndarray


def arms(harmed: np.ndarray, helped: np.ndarray, n: int, alpha: float) -> Arms:
    """Limits depend on the counts alone: every pair of counts is computed once."""
    pairs, index = np.unique(harmed * (n + 1) + helped, return_inverse=True)
    b, c = pairs // (n + 1), pairs % (n + 1)
    mean = (b - c) / n
    below = mean - tango.lower_limit(b, c, n, alpha)
    above = tango.upper_limit(b, c, n, alpha) - mean
    return Arms(*(array[index].reshape(harmed.shape) for array in (mean, below, above)))


def differences(group: Arms, others: Arms) -> tuple[np.ndarray, np.ndarray]:
    """MOVER's lower and upper limits of D̄_g − D̄_¬g; times 1 − w they are those of ψ_g."""
    estimate = group.mean - others.mean
    lower = estimate - np.hypot(group.below, others.above)
    return lower, estimate + np.hypot(group.above, others.below)


def all_tables(n: int, shares: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(table,)` harmed and helped of n samples, and the probability of such counts.

    Args:
      n: samples.
      shares: probabilities of harmed and helped.

    Returns:
      Counts whose probability is above 1e-13, and the probabilities.
    """
    most = [int(n * share + 12 * np.sqrt(n * share) + 12) for share in shares]
    b, c = (axis.ravel() for axis in np.mgrid[: most[0] + 1, : most[1] + 1])
    b, c = b[b + c <= n], c[b + c <= n]
    counts, probabilities = np.stack([b, c, n - b - c]), np.array([*shares, 1 - sum(shares)])
    log = special.gammaln(n + 1) - special.gammaln(counts + 1).sum(axis=0)
    density = np.exp(log + special.xlogy(counts, probabilities[:, None]).sum(axis=0))
    kept = density > 1e-13
    return b[kept], c[kept], density[kept]


def miss_rates(
    n: int, flip_rate: float, alpha: float, loss: float, draws: int, seed: int = 0
) -> np.ndarray:
    """How often the lower and the upper limit of ψ_g miss.

    Args:
      n: samples of the group; nine others have as many.
      flip_rate: of all groups; the others' mean loss is 0.
      alpha: one-sided level.
      loss: the group's mean loss D_g in units of the flip rate.
      draws: tables of the other groups.
      seed: of the draws.

    Returns:
      `(2, 2)` rates (lower, upper), then their standard errors.
    """
    gap = loss * flip_rate
    b, c, probability = all_tables(n, ((flip_rate + gap) / 2, (flip_rate - gap) / 2))
    own = arms(b, c, n, alpha)
    size = n * (GROUPS - 1)
    shares = (flip_rate / 2, flip_rate / 2, 1 - flip_rate)
    drawn = np.random.default_rng(seed).multinomial(size, shares, draws)
    rest = arms(drawn[:, 0], drawn[:, 1], size, alpha)
    missed = np.empty((draws, 2))
    for i, others in enumerate(zip(*rest, strict=True)):
        lower, upper = differences(own, Arms(*others))
        missed[i] = probability @ (lower > gap + 1e-12), probability @ (upper < gap - 1e-12)
    return np.stack([missed.mean(axis=0), missed.std(axis=0) / np.sqrt(draws)])


def verdict_limits(
    n: int, flip_rate: float, gaps: np.ndarray, tables: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The simultaneous lower limit of the largest ψ_g, and all upper limits, of drawn audits.

    Args:
      n: samples of every group.
      flip_rate: of every group.
      gaps: `(group,)` true mean losses D_g.
      tables: how many audits.
      seed: of the draws.

    Returns:
      `(table,)` L, and `(table, group)` U_g, at level .05.
    """
    shares = np.stack([(flip_rate + gaps) / 2, (flip_rate - gaps) / 2, 1 - flip_rate + 0 * gaps], 1)
    drawn = np.random.default_rng(seed).multinomial(n, shares, (tables, len(gaps)))
    harmed, helped = drawn[..., 0], drawn[..., 1]
    rest = [counts.sum(axis=1, keepdims=True) - counts for counts in (harmed, helped)]
    size = n * (len(gaps) - 1)
    weight = 1 - 1 / len(gaps)

    def limits(alpha):
        return differences(arms(harmed, helped, n, alpha), arms(*rest, size, alpha))

    lower, upper = limits(ALPHA / len(gaps))[0], limits(ALPHA)[1]
    return weight * lower.max(axis=1), weight * upper


def gaps_with(at_tolerance: int, tolerance: float, groups: int = GROUPS) -> np.ndarray:
    """`(group,)` ψ_g that is the tolerance in so many groups and equal in the others; sum 0."""
    rest = groups - at_tolerance
    return np.repeat([tolerance, -tolerance * at_tolerance / rest], [at_tolerance, rest])


def table(title: str, rows: dict, cell: Callable) -> None:
    """Prints a row for every key and a column for every flip rate."""
    print(f"\n{title}")
    print(" " * 44 + "".join(f"d = {flip_rate:<16g}" for flip_rate in FLIP_RATES))
    for label, arguments in rows.items():
        cells = [cell(flip_rate, *arguments) for flip_rate in FLIP_RATES]
        print(f"{label:44}" + "".join(f"{text:20}" for text in cells), flush=True)


def print_misses() -> None:
    """Of the limits of one group."""

    def misses(flip_rate, n, alpha, loss):
        rates, errors = miss_rates(n, flip_rate, alpha, loss, _DRAWS.value) / alpha
        return f"{rates[0]:.2f} {rates[1]:.2f} (±{errors.max():.2f})"

    rows = {
        f"α = {alpha:<6g} D_g = {loss:<3g} d  n_g = {n}": (n, alpha, loss)
        for loss in LOSSES
        for alpha in ALPHAS
        for n in SIZES
    }
    table("Misses ÷ α of the lower and the upper limit of ψ_g", rows, misses)


def print_satisfied() -> None:
    """How often the verdict is "satisfied" at the boundary."""

    def satisfied(flip_rate, n, at_tolerance):
        tolerance = flip_rate / 2
        gaps = gaps_with(at_tolerance, tolerance)
        _, upper = verdict_limits(n, flip_rate, gaps, _TABLES.value)
        return f"{np.mean((upper <= tolerance).all(axis=1)):.3f}"

    rows = {f"{at} of 10 groups at ε = d/2  n_g = {n}": (n, at) for at in (1, 5) for n in SIZES}
    table('"satisfied" at the boundary, α = .05', rows, satisfied)


def print_violated() -> None:
    """How often the verdict is "violated" at or below the tolerance."""

    def violated(flip_rate, n, at_tolerance, groups, part):
        tolerance = part * flip_rate
        gaps = gaps_with(at_tolerance, tolerance, groups)
        lower, _ = verdict_limits(n, flip_rate, gaps, _TABLES.value)
        return f"{np.mean(lower > tolerance):.3f}"

    rows = {
        f"{at} of {groups} groups at ε = {part:.2g} d  n_g = {n}": (n, at, groups, part)
        for at, groups, part in (
            *((5, 10, 0), (5, 10, 0.5), (1, 10, 1), (9, 10, 1 / 9)),
            *((50, 100, 0), (50, 100, 0.5), (50, 100, 1)),
        )
        for n in SIZES
    }
    table('"violated" where all ψ_g <= ε, α = .05', rows, violated)


def print_power() -> None:
    """How often planned numbers of samples decide."""

    def power(flip_rate, tolerance, groups):
        n = samples_needed(flip_rate, tolerance, share=1 / GROUPS, groups=groups)
        _, upper = verdict_limits(n, flip_rate, np.zeros(GROUPS), _TABLES.value // 4)
        return f"{np.mean((upper[:, :groups] <= tolerance).all(axis=1)):.3f} (n_g = {n})"

    rows = {
        f"ε = {tolerance:<5g} {groups} group(s) together": (tolerance, groups)
        for groups in (1, GROUPS)
        for tolerance in (0.05, 0.02, 0.01)
    }
    table("Power with the samples that were planned (.80)", rows, power)


def main(argv):
    del argv
    print_misses()
    print_satisfied()
    print_violated()
    print_power()


if __name__ == "__main__":
    app.run(main)
