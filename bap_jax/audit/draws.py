"""Draws without replacement: how many of the samples that are drawn fall on each cell.

numpy's own multivariate hypergeometric draws serve up to a thousand cells. With more cells they
take most of an audit's time, and this is used: independent binomial draws, given that their sum is
k, are a draw of k samples without replacement. So every cell is drawn by itself, with a probability
that makes the sum a little too large, and the surplus is taken away again, drawn without
replacement from what was drawn. Both ways are exact.

Binomial counts of up to 256 samples come from a table of their inverse distribution function at
2,048 values of a uniform number. Where two neighbouring values differ, the distribution function
decides (L. Devroye, "Non-uniform random variate generation" (1986), section III.2.4).
"""

import numpy as np
from scipy import special

_MANY_CELLS = 1_000
_MOST = 256
_STEPS = 2_048
# numpy draws either sample by sample or cell by cell, which takes about so much longer.
_DRAWS_IN_THE_TIME_OF_A_CELL = 8


class Losses:
    """Draws of harmed and helped samples, all of them different, for the same cells many times.

    Args:
      n: `(cell,)` samples.
      harmed: how many of all samples are drawn to be harmed.
      helped: how many of the others are drawn to be helped.
    """

    def __init__(self, n: np.ndarray, harmed: int, helped: int):
        self.n, self.harmed, self.helped = n, harmed, helped
        if len(n) >= _MANY_CELLS:
            self._first = _Part(n, harmed, n.sum())
            self._second = _Part(n, helped, n.sum() - harmed)

    def draw(self, random: np.random.Generator, times: int) -> np.ndarray:
        """`(time, cell)` harmed minus helped samples of each cell."""
        if len(self.n) < _MANY_CELLS:
            return self._of_few_cells(random, times)
        harmed = self._first.draw(random, np.broadcast_to(self.n, (times, len(self.n))))
        return harmed - self._second.draw(random, self.n - harmed)

    def _of_few_cells(self, random, times):
        flips = self.harmed + self.helped
        method = _faster_method(flips, len(self.n))
        losses = random.multivariate_hypergeometric(self.n, flips, times, method=method)
        method = _faster_method(self.helped, len(self.n))
        for row in losses:
            row -= 2 * random.multivariate_hypergeometric(row, self.helped, method=method)
        return losses


def _faster_method(draws, cells):
    return "count" if draws < _DRAWS_IN_THE_TIME_OF_A_CELL * cells else "marginals"


class _Part:
    """Draws of `total` out of `size` samples in many cells of at most `n` samples."""

    def __init__(self, n, total, size):
        self._total = int(total)
        # Four standard deviations too many: a sum that is too small is rare.
        self._share = min((total + 4 * np.sqrt(total)) / max(size, 1), 1.0)
        self._small, self._large = np.flatnonzero(n <= _MOST), np.flatnonzero(n > _MOST)
        self._table = _BinomialTable(int(min(n.max(), _MOST)), self._share)

    def draw(self, random, n):
        """`(time, cell)` counts with the sum `total`, from `(time, cell)` samples."""
        counts = np.empty(n.shape, np.int64)
        counts[:, self._small] = self._table.draw(random, n[:, self._small])
        if len(self._large):
            counts[:, self._large] = random.binomial(n[:, self._large], self._share)
        for row, samples in zip(counts, n, strict=True):
            surplus = int(row.sum()) - self._total
            if surplus > 0:
                row -= random.multivariate_hypergeometric(row, surplus, method="count")
            elif surplus < 0:
                row += random.multivariate_hypergeometric(samples - row, -surplus, method="count")
        return counts


class _BinomialTable:
    """Binomial counts for sizes from 0 to `most` and one probability."""

    def __init__(self, most, share):
        counts = np.arange(most + 1)
        below = special.bdtr(counts, counts[:, None], share)  # P(X <= count), (size, count)
        self._below = np.where(counts >= counts[:, None], 1.0, below)
        edges = np.arange(_STEPS + 1) / _STEPS
        values = np.stack([np.searchsorted(row, edges, "right") for row in self._below])
        low, high = values[:, :-1], np.minimum(values[:, 1:], counts[:, None])
        # Negative where the step holds several counts, of which ~value is the lowest.
        self._table = np.where(low == high, low, ~low).astype(np.int16).ravel()

    def draw(self, random, sizes):
        shape, sizes = sizes.shape, sizes.ravel()
        uniform = random.random(len(sizes))
        drawn = self._table[sizes * _STEPS + (uniform * _STEPS).astype(np.int64)]
        unsure = np.flatnonzero(drawn < 0)
        value, size, uniform = ~drawn[unsure], sizes[unsure], uniform[unsure]
        while (above := uniform >= self._below[size, value]).any():
            value = value + above
        drawn[unsure] = value
        return drawn.reshape(shape)
