"""Batches read from disk by threads while the previous step is computed.

    order ─► pieces of 16 samples ─► threads read and decode ─► batch on the host

A streamed batch is a small data set, and its indices count from 0. `gather` returns the same for
them as for the whole data set and the indices in `order`.
"""

import functools
import os
import time
from collections.abc import Generator
from typing import Protocol

import jax
import numpy as np

from bap_jax.data.inputs import rows_of
from bap_jax.types import Array, Dataset

# Small enough for all threads to work on the first batch, large enough to hide the cost of a call.
PIECE = 16


class OnWait(Protocol):
    """Called once for every batch."""

    def __call__(self, seconds: float, /) -> object:
        """Receives the seconds for which the reader of the batch had to wait."""
        ...


def stream(
    data: Dataset,
    order: Array,
    *,
    threads: int | None = None,
    prefetch: int = 2,
    on_wait: OnWait | None = None,
) -> Generator[tuple[Dataset, np.ndarray]]:
    """Batches of `data` in the given order, read ahead by threads.

    Args:
      data: samples whose inputs are `Records`, or arrays.
      order: `(step, batch)` int32; −1 − i is sample i with weight 0.
      threads: how many read at once; by default as many as there are cores, at least 4.
      prefetch: how many batches are read ahead.
      on_wait: called for every batch with the seconds for which its reader had to wait.

    Yields:
      For every step the batch on the host, and its indices `(batch,)` int32: 0, 1, …, with −1 − i
      in place of i where the sample has weight 0.

    Raises:
      UserError: a sample cannot be read; raised when its batch is needed.
    """
    order = np.asarray(order)
    rows = np.where(order < 0, -1 - order, order)
    local = np.arange(order.shape[1], dtype=np.int32)
    small = jax.tree.map(np.asarray, data._replace(inputs=None))
    inputs = _read_ahead(data.inputs, rows, threads or max(4, os.cpu_count() or 4), prefetch)
    try:
        for step, samples in enumerate(rows):
            start = time.perf_counter()
            batch_inputs = next(inputs)
            if on_wait:
                on_wait(time.perf_counter() - start)
            batch = jax.tree.map(lambda leaf, samples=samples: leaf[samples], small)
            batch = batch._replace(inputs=batch_inputs)
            yield batch, np.where(order[step] < 0, -1 - local, local)
    finally:
        inputs.close()


def _read_ahead(inputs, rows, threads, prefetch):
    """Yields the inputs `(batch, ...)` for each row of `rows` `(step, batch)`."""
    import grain

    take = functools.partial(rows_of, inputs)
    starts = range(0, rows.shape[1], PIECE)
    pieces = [row[start : start + PIECE] for row in rows for start in starts]
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(threads, prefetch * len(starts))
    )
    source = grain.MapDataset.source(pieces).map(take)
    reader = iter(source.to_iter_dataset(options))
    try:
        for _ in rows:
            parts = [next(reader) for _ in starts]
            yield jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)
    finally:
        reader.close()
