"""Saves arrays to disk with a digest over them. The only file that imports Orbax.

Orbax reads a checkpoint with a flipped byte or a changed dtype without complaint; the digest
(`reporting.tree_sha256`) finds both.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from bap_jax import sharding
from bap_jax._deprecated import former_names
from bap_jax.errors import UserError, first_of
from bap_jax.reporting import tree_sha256
from bap_jax.trees import leaves_by_path
from bap_jax.types import PyTree


class DamagedCheckpointError(RuntimeError):
    """A checkpoint cannot be read, or differs from what was saved."""


def save(path: Path, tree: PyTree) -> None:
    """Writes `tree` to the folder `path` and replaces what is there, in the first process only."""
    path, tree = Path(path).absolute(), sharding.on_host(tree)
    sharding.by_first_process(lambda: _write(path, tree))


def exists(path: Path) -> bool:
    """Whether `path` holds a checkpoint that was written completely."""
    is_complete = (Path(path) / "digest.json").exists()
    return bool(sharding.from_first_process(np.asarray(is_complete)))


def restore(path: Path, like: PyTree) -> PyTree:
    """Reads a tree with the structure, shapes and types of `like`.

    The first process reads it and sends it to the others.

    Args:
      path: folder of the checkpoint.
      like: arrays, or their shapes and types.

    Raises:
      DamagedCheckpointError: it cannot be read, or its digest differs.
      UserError: its arrays have other names, shapes or types; the message shows the first of them.
    """
    sharding.by_first_process(lambda: _check_same(Path(path), like))
    tree, problem = like, ""
    if sharding.is_first_process():
        try:
            tree = _read(Path(path).absolute(), like)
        except DamagedCheckpointError as error:
            problem = str(error)
    if sharding.from_first_process(np.asarray(bool(problem))):
        raise DamagedCheckpointError(problem or f"cannot read {path}")
    return sharding.from_first_process(tree)


def _write(path, tree):
    if path.exists():
        shutil.rmtree(path)
    with _checkpointer() as checkpointer:
        checkpointer.save(path / "arrays", tree)
    digest = {"sha256": tree_sha256(tree), "arrays": _arrays(tree)}
    (path / "digest.json").write_text(json.dumps(digest))


def _arrays(tree):
    """Type and shape of every array, by its path."""
    leaves = leaves_by_path(tree, with_boxes=True).items()
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _check_same(path, like):
    try:
        saved = json.loads((path / "digest.json").read_text())["arrays"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # damaged, which reading it will find, or written by an earlier release
    expected = _arrays(like)
    differences = [
        f"{name} is {saved.get(name, 'missing')} in the checkpoint and "
        f"{expected.get(name, 'missing')} in this network"
        for name in sorted({*saved, *expected})
        if saved.get(name) != expected.get(name)
    ]
    if differences:
        raise UserError(
            f"checkpoint {path} does not match this network: {first_of(differences, 3)}."
        )


def _read(path, like):
    abstract = jax.tree.map(_placed, like)
    try:
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore(path / "arrays", abstract)
        expected = json.loads((path / "digest.json").read_text())["sha256"]
    except Exception as error:  # on damaged files Orbax raises errors of many types
        raise DamagedCheckpointError(f"cannot read {path}: {error}") from error
    if tree_sha256(tree) != expected:
        raise DamagedCheckpointError(f"{path} differs from what was saved (digest mismatch)")
    return jax.tree.map(_as_computed, tree)


def _placed(leaf):
    """Shape and type of an array, on a device: Orbax warns where it has to choose one itself."""
    found = ocp.utils.to_shape_dtype_struct(leaf)
    if isinstance(found, jax.ShapeDtypeStruct) and found.sharding is None:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.ShapeDtypeStruct(found.shape, found.dtype, sharding=place)
    return found


def _as_computed(leaf):
    """The array as a program would return it, free to move to another device.

    Orbax binds arrays to a device. A program's key in the cache depends on that, so that every
    program of a network that was read would be compiled again.
    """
    if not isinstance(leaf, jax.Array) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.device_put(np.asarray(leaf))


def _checkpointer():
    """One for this process; with several processes, the first one works without the others."""
    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    options = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="first_process"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=options)


__getattr__ = former_names(
    "bap_jax.checkpoint",
    {
        "load": "bap_jax.checkpoint.restore",
    },
)
