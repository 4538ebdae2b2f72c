"""Which samples make up each step.

A batch is an array of indices. A ragged batch is filled up with samples of weight 0, whose index i
is written as −1 − i: they are real samples, so that batch statistics see nothing but data.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bap_jax import sharding
from bap_jax.data.records import Records
from bap_jax.data.stream import stream
from bap_jax.types import Array, Dataset


def num_batches(num_samples: int, batch_size: int) -> int:
    """Steps of an epoch; the last batch may be ragged."""
    return -(-num_samples // batch_size)


def epoch_indices(key: Array, num_samples: int, batch_size: int) -> Array:
    """`(step, batch)` int32: every sample once, in random order; the last batch is filled up."""
    return _pad(jax.random.permutation(key, num_samples), batch_size)


def ordered_indices(num_samples: int, batch_size: int) -> Array:
    """`(step, batch)` int32: every sample once, in order; the last batch is filled up."""
    return _pad(jnp.arange(num_samples), batch_size)


def _pad(order, batch_size):
    short = -order.size % batch_size
    filling = -1 - order[jnp.arange(short) % order.size]
    return jnp.concatenate([order, filling]).reshape(-1, batch_size)


def gather(data: Dataset, indices: Array) -> tuple[Dataset, Array]:
    """The batch at `indices` `(batch,)` and its weights `(batch,)`, 0 where an index is < 0.

    Where `indices` are bool, `data` are the batch, and False is a weight of 0.
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
    on_wait: Callable[[float], None] | None = None,
    mesh: Mesh | None = None,
) -> Iterator[tuple[Dataset, Array]]:
    """What a compiled step needs, one step after the other.

    A step that takes a data set and indices takes either kind of data unchanged.

    Args:
      data: on the device, or with inputs that are read when needed.
      order: `(step, batch)` int32.
      on_wait: see `stream`; not called for data on the device.
      mesh: devices that share the samples of a batch; of several processes each reads only the
        samples that its own devices hold.

    Yields:
      A data set on the device and indices `(batch,)` into it, as `gather` takes them: `data` itself
      with each row of `order`, or where inputs are `Records` one batch after the other.
    """
    if not isinstance(data.inputs, Records):
        # Laid out beforehand: the compiler may want to split what the devices do not divide.
        yield from ((data, indices) for indices in sharding.replicate(order, mesh))
        return
    # Batches are sent to the devices one ahead of the one that is computed.
    ahead = None
    with contextlib.closing(_streamed(data, np.asarray(order), on_wait, mesh)) as batches:
        for batch in batches:
            if ahead:
                yield ahead
            ahead = batch
    if ahead:
        yield ahead


def _streamed(data, order, on_wait, mesh):
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
    """Indices into a batch that lies on the mesh."""
    if len(row) % mesh.size == 0:  # no device is to ask for another's samples
        return sharding.place_samples(row >= 0, mesh)
    local = np.arange(len(row), dtype=np.int32)
    return sharding.replicate(np.where(row < 0, -1 - local, local), mesh)


def is_streamed(data: Dataset) -> bool:
    """Whether inputs are read when they are needed."""
    return isinstance(data.inputs, Records)


def on_device(data: Dataset) -> Dataset:
    """Inputs as they are, labels and ids as int32, on the default device; `Records` stay."""
    labels, ids = (np.asarray(leaf, np.int32) for leaf in (data.labels, data.group_ids))
    data = data._replace(labels=labels, group_ids=ids)
    if isinstance(data.inputs, Records):
        return jax.device_put(data._replace(inputs=None))._replace(inputs=data.inputs)
    return jax.device_put(data)


def example(data: Dataset) -> Array:
    """`(1, ...)` the first sample's inputs, read where need be."""
    if isinstance(data.inputs, Records):
        return data.inputs.take([0])
    return data.inputs[:1]


def nbytes(data: Dataset) -> int:
    """Bytes of all arrays, those included that `Records` would make when read."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(data))


def read_all(data: Dataset, batch_size: int = 256) -> Dataset:
    """The same samples with inputs in one array on the host, read by threads."""
    if not isinstance(data.inputs, Records):
        return data
    inputs = np.empty(data.inputs.shape, data.inputs.dtype)
    only_inputs = Dataset(data.inputs, np.arange(data.size), np.empty((data.size, 0), np.int32))
    for batch, indices in stream(only_inputs, ordered_indices(data.size, batch_size)):
        inputs[batch.labels[indices >= 0]] = batch.inputs[indices >= 0]
    return data._replace(inputs=inputs)
