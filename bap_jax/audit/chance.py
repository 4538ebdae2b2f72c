"""What chance alone gives for the largest excess gap: permutations of samples among groups.

If all groups are harmed alike, the groups of the samples say nothing about which were harmed or
helped, and may be exchanged. A permutation draws how the b harmed and the c helped samples fall on
the cells: two multivariate hypergeometric draws. The largest ψ̂_g of each permutation is kept. The
p-value is (#{max >= observed} + 1)/(N + 1).

Source: permutation test; the p-value as in A. Davison, D. Hinkley, "Bootstrap methods and their
application" (1997), section 4.2, and B. Phipson, G. Smyth, "Permutation p-values should never be
zero", Statistical Applications in Genetics and Molecular Biology 9 (2010).
"""

import os
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np

from bap_jax.audit.counts import Assessed, Table
from bap_jax.audit.draws import Losses
from bap_jax.audit.result import Chance
from bap_jax.errors import UserError

# Cells times permutations that are drawn at a time.
_CHUNK = 2**17
_THREADS = 4


def default_permutations(num_cells: int) -> int:
    """20,000 up to 250 cells; 2,000 for 2,500 to 25,000 cells; at least 200."""
    least = np.clip(50_000_000 // num_cells, 200, 2_000)
    return int(np.clip(5_000_000 // num_cells, least, 20_000))


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
    members = [_members(cells.n, part.group_of_cell[order]) for part in partitions]
    observed = float(_largest((cells.harmed - cells.helped)[None], members)[0])
    wanted = default_permutations(len(order)) if permutations is None else permutations
    if wanted < 1:
        raise UserError(f"permutations must be at least 1; got {permutations}.")
    maxima = _permuted_maxima(cells, members, wanted, seed)
    # Sums in another order differ in the last digits; equal maxima must count as equal.
    as_large = int((maxima >= observed - 1e-12).sum())
    return Chance(float(maxima.mean()), (as_large + 1) / (wanted + 1), maxima)


def _permuted_maxima(cells, partitions, permutations, seed):
    chunk = max(1, _CHUNK // len(cells.n))
    sizes = [min(chunk, permutations - start) for start in range(0, permutations, chunk)]
    losses = Losses(cells.n, int(cells.harmed.sum()), int(cells.helped.sum()))

    def maxima(size, seed):
        return _largest(losses.draw(np.random.default_rng(seed), size), partitions)

    # Every chunk has its own random numbers, so that the threads' order does not matter. numpy
    # draws without holding Python's lock.
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as threads:
        return np.concatenate(list(threads.map(maxima, sizes, seeds)))


class _Members(NamedTuple):
    """The cells of the groups of a partition, group by group.

    Attributes:
      cells: ids of the cells.
      starts: where each group's cells start.
      sizes: `(group,)` samples.
    """

    cells: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray


def _members(n, group_of_cell):
    cells = np.argsort(group_of_cell, kind="stable")
    cells = cells[group_of_cell[cells] >= 0]
    starts = np.flatnonzero(np.diff(group_of_cell[cells], prepend=-1))
    return _Members(cells, starts, np.add.reduceat(n[cells], starts))


def _largest(losses, partitions: Sequence[_Members]):
    """`(permutation,)` the largest ψ̂_g, from losses `(permutation, cell)`."""
    largest = np.full(len(losses), -np.inf)
    for cells, starts, sizes in partitions:
        totals = np.add.reduceat(losses[:, cells], starts, axis=1)
        mean = totals.sum(axis=1) / sizes.sum()
        largest = np.maximum(largest, (totals / sizes).max(axis=1) - mean)
    return largest
