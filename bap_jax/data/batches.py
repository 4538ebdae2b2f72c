"""Which samples make up the batch of each step.

A batch is an array of indices. If the last batch is too short, it is filled up with samples of
weight 0, whose index i is written as −1 − i. They are real samples, so that batch statistics are
computed from data only.
"""

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bap_jax import sharding
from bap_jax.data.inputs import first_sample
from bap_jax.data.records import Records
from bap_jax.data.stream import OnWait, stream
from bap_jax.types import Array, Dataset, PyTree


def num_batches(num_samples: int, batch_size: int) -> int:
    """Steps of an epoch; the last batch may be short."""
    return -(-num_samples // batch_size)


def epoch_indices(key: Array, num_samples: int, batch_size: int) -> Array:
    """`(step, batch)` int32: every sample once, in random order; the last batch is filled up."""
    return _pad(jax.random.permutation(key, num_samples), batch_size, jnp)


def ordered_indices(num_samples: int, batch_size: int, xp: Any = np) -> Array:
    """`(step, batch)` int32: every sample once, in order; the last batch is filled up.

    Args:
      num_samples: of the data.
      batch_size: samples of a step.
      xp: `numpy`, which compiles nothing; `jax.numpy` within a compiled function, whose program
        would otherwise hold all these numbers.

    Example:
      >>> ordered_indices(5, 3).tolist()
      [[0, 1, 2], [3, 4, -1]]
    """
    return _pad(xp.arange(num_samples, dtype=np.int32), batch_size, xp)


def _pad(order, batch_size, xp):
    short = -order.size % batch_size
    filling = -1 - order[xp.arange(short) % order.size]
    return xp.concatenate([order, filling]).reshape(-1, batch_size)


def gather(data: Dataset, indices: Array) -> tuple[Dataset, Array]:
    """The samples of a batch and their weights.

    Args:
      data: samples on the device.
      indices: `(batch,)` integers as from `epoch_indices`; or bool if `data` is the batch already,
        with False for a weight of 0.

    Returns:
      The batch, and `(batch,)` float32 weights: 0 for an index below 0, else 1.

    Example:
      >>> samples = Dataset(np.arange(5.0), np.arange(5), np.zeros((5, 1), int))
      >>> batch, weight = gather(samples, jnp.array([3, 4, -1]))
      >>> batch.inputs.tolist(), weight.tolist()
      ([3.0, 4.0, 0.0], [1.0, 1.0, 0.0])
    """
    if indices.dtype == bool:
        return data, jnp.asarray(indices, jnp.float32)
    rows = jnp.where(indices < 0, -1 - indices, indices)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)
    return batch, (indices >= 0).astype(jnp.float32)


def feed(
    data: Dataset,
    order: Array,
    *,
    on_wait: OnWait | None = None,
    mesh: Mesh | None = None,
) -> Iterator[tuple[Dataset, Array]]:
    """The arguments of a compiled step, one step after the other.

    The same compiled step can be used for both kinds of data.

    Args:
      data: on the device, or with inputs that are read when needed.
      order: `(step, batch)` int32.
      on_wait: see `stream`; not called for data on the device.
      mesh: devices that share the samples of a batch. With several processes, each reads only the
        samples that its own devices hold.

    Yields:
      A data set on the device and indices `(batch,)` into it, as `gather` takes them: `data` itself
      with each row of `order`; or if inputs are `Records`, one batch after the other.
    """
    if not isinstance(data.inputs, Records):
        # Replicated beforehand, or the compiler may split an order that the devices do not divide.
        yield from ((data, indices) for indices in sharding.replicate(order, mesh))
        return
    # The next batch is sent to the devices while one is computed.
    ahead = None
    with contextlib.closing(_streamed(data, np.asarray(order), on_wait, mesh)) as batches:
        for batch in batches:
            if ahead:
                yield ahead
            ahead = batch
    if ahead:
        yield ahead


def _streamed(data, order, on_wait, mesh) -> Generator[tuple[Dataset, Array]]:
    """Batches on the device, each with indices into it."""
    length = order.shape[1]
    own = order if mesh is None else order[:, sharding.own_rows(length, mesh)]
    with contextlib.closing(stream(data, own, on_wait=on_wait)) as batches:
        for (batch, indices), row in zip(batches, order, strict=True):
            if mesh is None:
                yield jax.device_put((batch, indices))
            else:
                yield sharding.join_rows(batch, length, mesh), _positions(row, mesh)


def _positions(row, mesh):
    """Indices into a batch that is on the mesh."""
    if len(row) % mesh.size == 0:  # each device uses only its own samples
        return sharding.place_samples(row >= 0, mesh)
    local = np.arange(len(row), dtype=np.int32)
    return sharding.replicate(np.where(row < 0, -1 - local, local), mesh)


def is_streamed(data: Dataset) -> bool:
    """Whether inputs are `Records`, which are read when they are needed."""
    return isinstance(data.inputs, Records)


def on_device(data: Dataset) -> Dataset:
    """The data set on the default device, its labels as `with_narrow_labels`; `Records` stay."""
    data = with_narrow_labels(data)
    if isinstance(data.inputs, Records):
        return jax.device_put(data._replace(inputs=None))._replace(inputs=data.inputs)
    return jax.device_put(data)


def with_narrow_labels(data: Dataset) -> Dataset:
    """The same on the host, integer labels and group ids as int32, real labels as float32."""
    labels = jax.tree.map(_narrow, data.labels)
    return data._replace(labels=labels, group_ids=np.asarray(data.group_ids, np.int32))


def _narrow(labels):
    labels = np.asarray(labels)
    if np.issubdtype(labels.dtype, np.integer):
        return labels.astype(np.int32, copy=False)
    return labels.astype(np.float32) if labels.dtype == np.float64 else labels


def example(data: Dataset) -> PyTree:
    """`(1, ...)` the inputs of the first sample, read if they are `Records`."""
    return first_sample(data.inputs)


def nbytes(data: Dataset) -> int:
    """Bytes of all arrays, including those that `Records` would make when read."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(data))


def read_all(data: Dataset, batch_size: int = 256) -> Dataset:
    """The same data set with all inputs in arrays on the host, read by threads."""
    if not isinstance(data.inputs, Records):
        return data
    inputs = data.inputs.empty(data.size)
    only_inputs = Dataset(data.inputs, np.arange(data.size), np.empty((data.size, 0), np.int32))
    for batch, indices in stream(only_inputs, ordered_indices(data.size, batch_size)):
        counts, rows = indices >= 0, batch.labels
        for whole, part in zip(*map(jax.tree.leaves, (inputs, batch.inputs)), strict=True):
            whole[rows[counts]] = part[counts]
    return data._replace(inputs=inputs)
