"""What chance alone gives for the largest excess gap: permutations of samples among groups.

If all groups are harmed alike, the groups of the samples say nothing about which were harmed or
helped, and may be exchanged. A permutation draws how the b + c samples that flip fall on the cells,
then which b of them are the harmed ones: two multivariate hypergeometric draws. The largest ψ̂_g of
each permutation is kept. The p-value is (#{max >= observed} + 1)/(N + 1).

Source: permutation test; the p-value as in A. Davison, D. Hinkley, "Bootstrap methods and their
application" (1997), section 4.2, and B. Phipson, G. Smyth, "Permutation p-values should never be
zero", Statistical Applications in Genetics and Molecular Biology 9 (2010).
"""

import os
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from bap_jax.audit.counts import Assessed, Table
from bap_jax.audit.result import Chance
from bap_jax.errors import UserError

# Numbers of one draw that are held at a time: cells times permutations.
_CHUNK = 2**21
_THREADS = 4
# numpy draws either sample by sample or cell by cell, which takes about so much longer.
_DRAWS_IN_THE_TIME_OF_A_CELL = 8


def default_permutations(num_cells: int) -> int:
    """20,000 up to 250 cells, then fewer; 2,000 from 2,500 cells on."""
    return int(np.clip(5_000_000 // num_cells, 2_000, 20_000))


def draw(
    random: np.random.Generator, n: np.ndarray, harmed: int, helped: int, permutations: int
) -> np.ndarray:
    """Losses of the cells when the flips fall on samples drawn without replacement.

    Args:
      random: source of random numbers.
      n: `(cell,)` samples.
      harmed: b, of all cells together.
      helped: c, of all cells together.
      permutations: number of draws.

    Returns:
      `(permutation, cell)` b − c of each cell.
    """
    method = _faster_method(harmed + helped, len(n))
    flips = random.multivariate_hypergeometric(n, harmed + helped, permutations, method=method)
    method = _faster_method(harmed, len(n))
    for of_cell in flips:
        of_cell -= 2 * random.multivariate_hypergeometric(of_cell, helped, method=method)
    return flips


def _faster_method(draws, cells):
    return "count" if draws < _DRAWS_IN_THE_TIME_OF_A_CELL * cells else "marginals"


def chance_of_largest(
    cells: Table,
    partitions: Sequence[Assessed],
    permutations: int | None = None,
    seed: int = 0,
) -> Chance:
    """The largest ψ̂_g over all partitions when samples are exchanged among the cells.

    Only samples in at least one assessed group take part.

    Args:
      cells: counts of the cells.
      partitions: the assessed groups of every partition, each of at least two groups.
      permutations: how many; by default `default_permutations`.
      seed: of the random numbers.

    Raises:
      UserError: `permutations` is less than 1.
    """
    used = np.any([part.group_of_cell >= 0 for part in partitions], axis=0)
    # The order decides which random numbers a cell gets; it must not depend on names.
    sizes = [np.r_[part.table.n, 0][part.group_of_cell] for part in partitions]
    order = np.lexsort((*sizes, cells.n))
    order = order[used[order]]
    cells = Table(*(column[order] for column in cells))
    ids = [part.group_of_cell[order] for part in partitions]
    observed = float(_largest(cells.n, (cells.harmed - cells.helped)[None], ids)[0])
    wanted = default_permutations(len(order)) if permutations is None else permutations
    if wanted < 1:
        raise UserError(f"permutations must be at least 1; got {permutations}.")
    maxima = _permuted_maxima(cells, ids, wanted, seed)
    # Sums in another order differ in the last digits; equal maxima must count as equal.
    as_large = int((maxima >= observed - 1e-12).sum())
    return Chance(float(maxima.mean()), (as_large + 1) / (wanted + 1), maxima)


def _permuted_maxima(cells, ids, permutations, seed):
    chunk = max(1, _CHUNK // len(cells.n))
    sizes = [min(chunk, permutations - start) for start in range(0, permutations, chunk)]
    harmed, helped = int(cells.harmed.sum()), int(cells.helped.sum())

    def maxima(size, seed):
        losses = draw(np.random.default_rng(seed), cells.n, harmed, helped, size)
        return _largest(cells.n, losses, ids)

    # Every chunk has its own random numbers, so that the threads' order does not matter. numpy
    # draws without holding Python's lock.
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as threads:
        return np.concatenate(list(threads.map(maxima, sizes, seeds)))


def _largest(n, losses, ids):
    """`(permutation,)` the largest ψ̂_g, from losses `(permutation, cell)`."""
    largest = np.full(len(losses), -np.inf)
    for group_of_cell in ids:
        order = np.argsort(group_of_cell, kind="stable")
        order = order[group_of_cell[order] >= 0]
        starts = np.flatnonzero(np.diff(group_of_cell[order], prepend=-1))
        sizes = np.add.reduceat(n[order], starts)
        totals = np.add.reduceat(losses[:, order], starts, axis=1)
        mean = totals.sum(axis=1) / sizes.sum()
        largest = np.maximum(largest, (totals / sizes).max(axis=1) - mean)
    return largest
