"""Several devices: one mesh axis, along which the data are split.

Samples of a data set and positions of a batch are split over the devices; parameters, masks,
multipliers, buffer and optimiser states are on every device. The compiler inserts the sums over
devices, so batch statistics, group sums and metrics are those of the whole batch. A length that is
not a multiple of the number of devices is padded: a data set with copies that no index names, a
batch by the compiler.

With several processes, all of them run the same program and call the functions of this module at
the same points, because arrays over all devices and messages between processes need every process.
Only the first process writes files.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bap_jax.errors import UserError
from bap_jax.types import Array, PyTree

AXIS = "data"
_MESSAGE_BYTES = 4096  # of an error that is sent to the other processes


def data_mesh(devices: int | Sequence[Any] | None = None) -> Mesh | None:
    """A mesh over devices; None for a single device, which needs no mesh.

    Args:
      devices: how many of `jax.devices()`, or a list of them; by default all.

    Raises:
      UserError: there are fewer devices, or some process would have none.
    """
    available = jax.devices()
    if devices is None:
        devices = available
    elif isinstance(devices, int):
        if not 1 <= devices <= len(available):
            raise UserError(
                f"devices must lie in [1, {len(available)}], the number available; got {devices}."
            )
        devices = available[:devices]
    if {device.process_index for device in devices} != set(range(jax.process_count())):
        raise UserError("with several processes all devices are used; write devices=0.")
    return Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same arrays on every device; every process must pass equal arrays."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, PartitionSpec())), tree)


def place_samples(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays `(sample, ...)`, split over the devices; each process sends its own rows.

    Rows are repeated until their number is a multiple of the number of devices; no index names the
    repeated ones.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda leaf: _place_rows(np.asarray(leaf), mesh), tree)


def own_rows(length: int, mesh: Mesh) -> np.ndarray:
    """`(row,)` indices of the batch rows that the devices of this process hold, for `join_rows`.

    If `length` is not a multiple of the number of devices, the last devices hold some of the first
    rows again.
    """
    padded = length + -length % mesh.size
    slices = _by_row(mesh).addressable_devices_indices_map((padded,)).values()
    return np.sort(np.concatenate([np.arange(padded)[index] for index in slices])) % length


def join_rows(tree: PyTree, length: int, mesh: Mesh) -> PyTree:
    """One array `(length, ...)` over all devices, from the rows of each process.

    Args:
      tree: host arrays `(row, ...)` of this process, the rows that `own_rows` names.
      length: of the batch.
      mesh: the devices.
    """
    padded = length + -length % mesh.size

    def join(leaf):
        leaf = np.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
        shape = (padded, *leaf.shape[1:])
        return jax.make_array_from_process_local_data(_by_row(mesh), leaf, shape)

    return jax.tree.map(join, tree)


def split_batch(indices: Array, mesh: Mesh | None) -> Array:
    """Indices `(..., batch)`, with the batch split over the devices."""
    if mesh is None:
        return indices
    spec = PartitionSpec(*(None,) * (indices.ndim - 1), AXIS)
    return jax.lax.with_sharding_constraint(indices, NamedSharding(mesh, spec))


def everywhere(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Within a compiled function: puts whole results on every device."""
    if mesh is None:
        return tree
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, replicated), tree)


def is_first_process() -> bool:
    """Whether this process writes files."""
    return jax.process_index() == 0


def from_first_process(tree: PyTree) -> PyTree:
    """The first process's arrays, in every process; all processes must pass equal shapes."""
    if jax.process_count() == 1:
        return tree
    plain = jax.tree.map(lambda leaf: _key_data(leaf) if _is_key(leaf) else leaf, tree)
    received = multihost_utils.broadcast_one_to_all(plain)
    return jax.tree.map(
        lambda leaf, like: _key_like(leaf, like) if _is_key(like) else leaf, received, tree
    )


def by_first_process(work: Callable[[], object]) -> None:
    """Calls `work` in the first process only; the others wait, and fail if it fails.

    Raises:
      UserError: `work` raised one.
      RuntimeError: `work` raised another exception; the first process raises the original.
    """
    if jax.process_count() == 1:
        work()
        return
    raised = None
    if is_first_process():
        try:
            work()
        except Exception as error:  # the others must learn of it, or they wait for ever
            raised = error
    text = _text(from_first_process(_bytes("" if raised is None else _describe(raised))))
    if raised is not None:
        raise raised
    if text:
        kind, message = text.split(": ", 1)
        raise UserError(message) if kind == UserError.__name__ else RuntimeError(text)


def on_host(tree: PyTree) -> PyTree:
    """Arrays that every device holds whole, as host arrays; typed random keys stay typed."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(
        lambda leaf: _key_like(_key_data(leaf), leaf) if _is_key(leaf) else np.asarray(leaf), tree
    )


def _describe(error):
    return f"{type(error).__name__}: {error}"


def _bytes(text):
    encoded = text.encode()[:_MESSAGE_BYTES]
    return np.frombuffer(encoded.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)


def _text(array):
    return bytes(np.asarray(array)).rstrip(b"\0").decode(errors="ignore")


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_data(key):
    return np.asarray(jax.random.key_data(key))


def _key_like(data, like):
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))


def _by_row(mesh):
    return NamedSharding(mesh, PartitionSpec(AXIS))


def _place_rows(leaf, mesh):
    missing = -len(leaf) % mesh.size
    if missing:
        leaf = np.concatenate([leaf, leaf[np.arange(missing) % len(leaf)]])
    return _put(leaf, _by_row(mesh))


def _put(leaf: Any, sharding: NamedSharding):
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if _is_key(leaf):
        return _key_like(_put(jax.random.key_data(leaf), sharding), leaf)
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])
