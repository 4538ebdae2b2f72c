"""One mesh axis for data; everything a step computes is global.

The dataset is laid out by sample over the devices and a batch by position; parameters, masks,
multipliers, buffer and optimiser states are on every device. The compiler inserts the sums over
devices, so that batch statistics, group sums and metrics are those of the whole batch. A length
that the devices do not divide is padded: of a data set by copies that no index names, of a batch by
the compiler.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bap_jax.types import Array, PyTree, UserError

AXIS = "data"


def data_mesh(devices: int | Sequence[jax.Device] | None = None) -> Mesh | None:
    """A mesh over devices; None for a single one, which needs none.

    Args:
      devices: how many of `jax.devices()`, or which; by default all.

    Raises:
      UserError: there are not so many, or some process would have none.
    """
    there = jax.devices()
    if devices is None:
        devices = there
    elif isinstance(devices, int):
        if not 1 <= devices <= len(there):
            raise UserError(
                f"devices must lie in [1, {len(there)}], those there are; got {devices}."
            )
        devices = there[:devices]
    if {device.process_index for device in devices} != set(range(jax.process_count())):
        raise UserError("with several processes all devices take part; leave out devices.")
    return Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same arrays on every device; every process gives equal ones."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, PartitionSpec())), tree)


def place_samples(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays `(sample, ...)`, laid out by sample; of several processes each sends its own rows.

    Rows are repeated until the devices divide their number; no index names those.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda leaf: _place_rows(np.asarray(leaf), mesh), tree)


def split_batch(indices: Array, mesh: Mesh | None) -> Array:
    """Indices `(..., batch)`, each device with its share of the batch."""
    if mesh is None:
        return indices
    spec = PartitionSpec(*(None,) * (indices.ndim - 1), AXIS)
    return jax.lax.with_sharding_constraint(indices, NamedSharding(mesh, spec))


def everywhere(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Within a compiled function: results that every device is to hold whole."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, whole), tree)


def is_first_process() -> bool:
    """Whether this process writes files."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def from_first_process(tree: PyTree) -> PyTree:
    """The first process's host arrays, in every process."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.broadcast_one_to_all(tree)


def _place_rows(leaf, mesh):
    rows = NamedSharding(mesh, PartitionSpec(AXIS))
    short = -len(leaf) % mesh.size
    if short:
        leaf = np.concatenate([leaf, leaf[np.arange(short) % len(leaf)]])
    return _put(leaf, rows)


def _put(leaf: Any, sharding: NamedSharding):
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])
