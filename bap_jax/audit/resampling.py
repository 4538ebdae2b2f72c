"""Resamples of several methods on the same samples: of samples within groups, and of seeds.

Of sample i, D_is = d_i − s_is is what the network of seed s lost, and D̄_i its average over S seeds.
A resample draws as many samples of every group as there are, with replacement; with counts m_i

    D̄_g = Σ_i m_i D̄_i / n_g,    v_g = Σ_i m_i D̄_i² / n_g − D̄_g²
    ψ_g = D̄_g − D̄,    σ_g² = (1 − w_g)² (v_g/n_g + v_¬g/n_¬g)

which for one seed are the numbers of `bap_jax.audit.excess`. Samples with the same outcomes in the
same cell are counted together: their counts are one multinomial draw.

For S > 1 seeds the mean of their deviations is added, each times a standard normal number and λ (a
multiplier bootstrap: few seeds drawn with replacement would give few different values):

    λ² = S/(S − 1) · max(0, 1 − E/T)
    T = variance of the mean over seeds,    E = (mean over seeds of σ² − σ² of the averages)/(S − 1)

Without λ, chance in a single sample under a single seed would be counted more than once (A. Owen,
"The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007) 386-411): E/T is the share of the
variance over seeds that the samples account for already. All draws are the same for all methods, so
that differences between methods are paired.

Source of the bootstrap: B. Efron, R. Tibshirani, "An introduction to the bootstrap" (1993),
chapters 6 and 8 (several samples).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bap_jax.audit.counts import Assessed

# Numbers of one array that are held at a time.
_CHUNK = 2**21


class Outcomes(NamedTuple):
    """What the models had right; samples of a cell with the same outcomes are one *pattern*.

    Attributes:
      count: `(pattern,)` samples.
      first: `(cell,)` number of the first pattern of each cell; patterns are sorted by cell.
      losses: for each method `(seed, pattern)` int8, dense right minus sparse right.
      right: for each method `(seed, pattern)` bool, sparse right.
    """

    count: np.ndarray
    first: np.ndarray
    losses: tuple[np.ndarray, ...]
    right: tuple[np.ndarray, ...]


class Draws(NamedTuple):
    """Some resamples.

    Attributes:
      counts: `(resample, pattern)` samples.
      seeds: by number of seeds `(resample, seed)` multipliers of the deviations.
    """

    counts: np.ndarray
    seeds: dict[int, np.ndarray]


class Estimates(NamedTuple):
    """Estimates of one method, from some resamples.

    Attributes:
      accuracy: `(resample,)` of the sparse networks.
      flip_rate: `(resample,)`.
      excess_gap: `(resample, group)` ψ of the assessed groups of all partitions.
      variance: `(resample, group)` σ².
    """

    accuracy: np.ndarray
    flip_rate: np.ndarray
    excess_gap: np.ndarray
    variance: np.ndarray


class Deviations(NamedTuple):
    """How far each seed is from the mean over seeds, times λ; 0 for one seed.

    Attributes:
      accuracy: `(seed,)`.
      flip_rate: `(seed,)`.
      excess_gap: `(seed, group)`.
    """

    accuracy: np.ndarray
    flip_rate: np.ndarray
    excess_gap: np.ndarray


class Averages(NamedTuple):
    """Estimates of one method from the data, averaged over seeds.

    Attributes:
      accuracy: of the sparse networks.
      flip_rate: share of samples.
      excess_gap: `(group,)` ψ̂.
      of_seeds: variance that few seeds add to ψ̂, mean over groups.
      variance: `(group,)` σ̂², with that of seeds.
      deviations: of the seeds.
    """

    accuracy: float
    flip_rate: float
    excess_gap: np.ndarray
    of_seeds: float
    variance: np.ndarray
    deviations: Deviations


def outcomes(cells: np.ndarray, dense: np.ndarray, correct: Sequence[np.ndarray]) -> Outcomes:
    """Counts the samples of each cell by what the models had right.

    Args:
      cells: `(sample,)` ids, without gaps.
      dense: `(seed, sample)` bool, with one seed if all share the dense network.
      correct: for each method `(seed, sample)` bool.
    """
    packed = np.packbits(np.concatenate([dense, *correct]), axis=0).T
    key = np.concatenate([cells.astype(">u4")[:, None].view(np.uint8), packed], axis=1)
    rows = np.ascontiguousarray(key).view(np.dtype((np.void, key.shape[1]))).ravel()
    _, where, count = np.unique(rows, return_index=True, return_counts=True)
    first = np.searchsorted(cells[where], np.arange(cells.max() + 1))
    right = tuple(method[:, where] for method in correct)
    losses = tuple(dense[:, where].astype(np.int8) - method for method in right)
    return Outcomes(count, first, losses, right)


def draws(data: Outcomes, resamples: int, random: np.random.Generator) -> Iterator[Draws]:
    """Resamples of samples within cells, and multipliers of seeds, a block at a time."""
    block = max(1, _CHUNK // len(data.count))
    per_cell = np.split(data.count, data.first[1:])
    sizes = sorted(set(map(len, data.losses)))
    for start in range(0, resamples, block):
        number = min(block, resamples - start)
        counts = [
            random.multinomial(count.sum(), count / count.sum(), number) for count in per_cell
        ]
        seeds = {size: random.standard_normal((number, size)) / size for size in sizes}
        yield Draws(np.concatenate(counts, axis=1).astype(float), seeds)


def estimates(
    data: Outcomes, method: int, counts: np.ndarray, parts: Sequence[Assessed]
) -> Estimates:
    """The estimates of a method whose losses are averaged over seeds.

    Args:
      data: outcomes.
      method: its number.
      counts: `(resample, pattern)` samples.
      parts: the assessed groups of every partition.
    """
    losses, right = data.losses[method], data.right[method]
    n, mean = counts.sum(axis=1), losses.mean(axis=0)
    sums = np.add.reduceat(counts * mean, data.first, axis=1)
    squares = np.add.reduceat(counts * mean**2, data.first, axis=1)
    gaps, variances = zip(*(_excess(sums, squares, part) for part in parts), strict=True)
    return Estimates(
        accuracy=counts @ right.mean(axis=0) / n,
        flip_rate=counts @ np.abs(losses).mean(axis=0) / n,
        excess_gap=np.concatenate(gaps, axis=1),
        variance=np.concatenate(variances, axis=1),
    )


def averages(data: Outcomes, method: int, parts: Sequence[Assessed]) -> Averages:
    """The estimates of a method, and how its seeds differ.

    Args:
      data: outcomes.
      method: its number.
      parts: the assessed groups of every partition.
    """
    whole = estimates(data, method, data.count[None], parts)
    deviations = _deviations(data, method, parts, whole)
    of_seeds = float((deviations.excess_gap**2).mean()) / len(data.losses[method])
    return Averages(
        accuracy=float(whole.accuracy[0]),
        flip_rate=float(whole.flip_rate[0]),
        excess_gap=whole.excess_gap[0],
        of_seeds=of_seeds,
        variance=whole.variance[0] + of_seeds,
        deviations=deviations,
    )


def _deviations(data, method, parts, whole) -> Deviations:
    losses, right, count = data.losses[method], data.right[method], data.count
    if len(losses) == 1:
        return Deviations(np.zeros(1), np.zeros(1), np.zeros_like(whole.excess_gap))
    alone = [
        estimates(data._replace(losses=(row[None],), right=(right[:1],)), 0, count[None], parts)
        for row in losses
    ]
    gaps = np.concatenate([seed.excess_gap for seed in alone])
    variances = np.concatenate([seed.variance for seed in alone])
    return Deviations(
        accuracy=_scaled(*_of_samples(right, count))[:, 0],
        flip_rate=_scaled(*_of_samples(np.abs(losses), count))[:, 0],
        excess_gap=_scaled(gaps, variances, whole.variance),
    )


def _of_samples(values, count):
    """Means `(seed, 1)` over samples, their variances, and the variance of the mean over seeds."""
    rows = np.concatenate([values, values.mean(axis=0, keepdims=True)])
    n = count.sum()
    mean = rows @ count / n
    variance = ((rows**2 @ count) / n - mean**2)[:, None] / n
    return mean[:-1, None], variance[:-1], variance[-1:]


def _scaled(per_seed, variances, variance_of_average):
    """λ times the deviations `(seed, ...)` from their mean; one λ for all columns."""
    seeds = len(per_seed)
    deviation = per_seed - per_seed.mean(axis=0)
    between = (deviation**2).sum() / (seeds * (seeds - 1))
    if not between:
        return deviation
    by_samples = (variances.mean(axis=0) - variance_of_average).sum() / (seeds - 1)
    return deviation * np.sqrt(seeds / (seeds - 1) * max(0.0, 1 - by_samples / between))


def _excess(losses, squares, part):
    """`(resample, group)` ψ and σ² from sums over cells."""
    losses, squares = (sum_by_group(values, part) for values in (losses, squares))
    n, total = part.table.n, part.table.n.sum()

    def mean_and_variance(losses, squares, n):
        mean = losses / n
        return mean, (squares / n - mean**2) / n

    mean, variance = mean_and_variance(losses, squares, n)
    all_losses, all_squares = (values.sum(axis=1, keepdims=True) for values in (losses, squares))
    _, rest = mean_and_variance(all_losses - losses, all_squares - squares, total - n)
    return mean - all_losses / total, (1 - n / total) ** 2 * np.maximum(variance + rest, 0)


def sum_by_group(values: np.ndarray, part: Assessed) -> np.ndarray:
    """`(resample, group)` sums of `(resample, cell)` values over the cells of each group."""
    order = np.argsort(part.group_of_cell, kind="stable")
    order = order[part.group_of_cell[order] >= 0]
    starts = np.flatnonzero(np.diff(part.group_of_cell[order], prepend=-1))
    return np.add.reduceat(values[:, order], starts, axis=1)


def chance_of_averages(
    data: Outcomes, method: int, parts: Sequence[Assessed], seed: int = 0
) -> tuple[float, float]:
    """Mean and p-value of the largest ψ̂_g when samples are exchanged among groups.

    For losses that are averaged over seeds, see `bap_jax.audit.chance` for those of one seed; with
    2,000 permutations, fewer with over 50,000 samples, 200 at least.

    Args:
      data: outcomes.
      method: its number.
      parts: the assessed groups of every partition.
      seed: of the random numbers.
    """
    cell_of_pattern = np.searchsorted(data.first, np.arange(len(data.count)), "right") - 1
    used = np.any([part.group_of_cell >= 0 for part in parts], axis=0)[cell_of_pattern]
    count = np.where(used, data.count, 0)
    values = np.repeat(data.losses[method].mean(axis=0), count)
    cells = np.repeat(cell_of_pattern, count)
    starts = np.searchsorted(cells, np.arange(len(data.first) + 1))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    observed = _largest(np.diff(sums[starts])[None], parts)[0]
    random = np.random.default_rng(seed)
    permutations = int(np.clip(10**8 // len(values), 200, 2000))
    maxima = np.empty(permutations)
    for i in range(permutations):
        sums[1:] = np.cumsum(random.permutation(values))
        maxima[i] = _largest(np.diff(sums[starts])[None], parts)[0]
    # Sums in another order differ in the last digits; equal maxima must count as equal.
    as_large = int((maxima >= observed - 1e-10).sum())
    return float(maxima.mean()), (as_large + 1) / (permutations + 1)


def _largest(losses, parts):
    """`(permutation,)` the largest ψ̂_g from sums of losses `(permutation, cell)`."""
    gaps = [
        (totals := sum_by_group(losses, part)) / part.table.n
        - totals.sum(axis=1, keepdims=True) / part.table.n.sum()
        for part in parts
    ]
    return np.concatenate(gaps, axis=1).max(axis=1)
