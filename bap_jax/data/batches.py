"""Which samples make up each step.

A batch is an array of indices. A ragged batch is filled up with samples of weight 0, whose index i
is written as −1 − i: they are real samples, so that batch statistics see nothing but data.
"""

import jax
import jax.numpy as jnp
import numpy as np

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
    """The batch at `indices` `(batch,)` and its weights `(batch,)`, 0 where an index is < 0."""
    rows = jnp.where(indices < 0, -1 - indices, indices)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)
    return batch, (indices >= 0).astype(jnp.float32)


def on_device(data: Dataset) -> Dataset:
    """Inputs as they are, labels and ids as int32, on the default device."""
    labels, ids = (np.asarray(leaf, np.int32) for leaf in (data.labels, data.group_ids))
    return jax.device_put(data._replace(labels=labels, group_ids=ids))
