"""One mesh axis for data; everything a step computes is global.

The dataset is laid out by sample over the devices and a batch by position; parameters, masks,
multipliers, buffer and optimiser states are on every device. The compiler inserts the sums over
devices, so that batch statistics, group sums and metrics are those of the whole batch. A length
that the devices do not divide is padded: of a data set by copies that no index names, of a batch by
the compiler.

Of several processes each runs the same program and calls everything here at the same points, since
arrays over all devices, and whatever is told from one process to the others, need all of them.
Files are the first one's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bap_jax.types import Array, PyTree, UserError

AXIS = "data"
_LONGEST = 4096  # bytes of an error that the other processes are told


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
        raise UserError("with several processes all devices take part; write devices=0.")
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


def own_rows(length: int, mesh: Mesh) -> np.ndarray:
    """`(row,)` which rows of a batch the devices of this process hold, for `join_rows`.

    Where the devices do not divide `length`, the last ones hold some of the first rows again.
    """
    padded = length + -length % mesh.size
    held = _by_row(mesh).addressable_devices_indices_map((padded,)).values()
    return np.sort(np.concatenate([np.arange(padded)[index] for index in held])) % length


def join_rows(tree: PyTree, length: int, mesh: Mesh) -> PyTree:
    """Host arrays `(row, ...)`, of each process the rows that `own_rows` names, laid out as one."""
    padded = length + -length % mesh.size

    def join(leaf):
        leaf = np.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
        shape = (padded, *leaf.shape[1:])
        return jax.make_array_from_process_local_data(_by_row(mesh), leaf, shape)

    return jax.tree.map(join, tree)


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


def from_first_process(tree: PyTree) -> PyTree:
    """The first process's arrays, in every process; there are such of one shape in each."""
    if jax.process_count() == 1:
        return tree
    plain = jax.tree.map(lambda leaf: _key_data(leaf) if _is_key(leaf) else leaf, tree)
    found = multihost_utils.broadcast_one_to_all(plain)
    return jax.tree.map(
        lambda leaf, like: _key_like(leaf, like) if _is_key(like) else leaf, found, tree
    )


def by_first_process(work: Callable[[], object]) -> None:
    """Calls `work` in the first process alone; all go on when it has ended, or none does.

    Raises:
      UserError: it raised one.
      RuntimeError: it raised something else; in the first process, that itself.
    """
    if jax.process_count() == 1:
        work()
        return
    raised = None
    if is_first_process():
        try:
            work()
        except Exception as error:  # the others must hear of it, or they wait for ever
            raised = error
    text = _text(from_first_process(_bytes("" if raised is None else _described(raised))))
    if raised is not None:
        raise raised
    if text:
        kind, said = text.split(": ", 1)
        error = UserError(said) if kind == UserError.__name__ else RuntimeError(text)
        raise error


def on_host(tree: PyTree) -> PyTree:
    """Arrays that every device holds whole, as this process's own; typed keys stay such."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(
        lambda leaf: _key_like(_key_data(leaf), leaf) if _is_key(leaf) else np.asarray(leaf), tree
    )


def _described(error):
    return f"{type(error).__name__}: {error}"


def _bytes(text):
    found = text.encode()[:_LONGEST]
    return np.frombuffer(found.ljust(_LONGEST, b"\0"), np.uint8)


def _text(found):
    return bytes(np.asarray(found)).rstrip(b"\0").decode(errors="ignore")


def _is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_data(key):
    return np.asarray(jax.random.key_data(key))


def _key_like(found, like):
    return jax.random.wrap_key_data(found, impl=jax.random.key_impl(like))


def _by_row(mesh):
    return NamedSharding(mesh, PartitionSpec(AXIS))


def _place_rows(leaf, mesh):
    short = -len(leaf) % mesh.size
    if short:
        leaf = np.concatenate([leaf, leaf[np.arange(short) % len(leaf)]])
    return _put(leaf, _by_row(mesh))


def _put(leaf: Any, sharding: NamedSharding):
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if _is_key(leaf):
        return _key_like(_put(jax.random.key_data(leaf), sharding), leaf)
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])
