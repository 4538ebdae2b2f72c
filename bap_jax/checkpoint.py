"""Arrays on disk, with a digest over them. The only file that imports Orbax.

A flipped byte in a checkpoint loads without a word, and so does a changed dtype; the digest
(`audit.tree_sha256`) finds both.
"""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from bap_jax import sharding
from bap_jax._deprecated import former_names
from bap_jax.audit import tree_sha256
from bap_jax.types import PyTree, UserError, first_of


class DamagedCheckpointError(RuntimeError):
    """What lies on disk is not what was saved."""


def save(path: Path, tree: PyTree) -> None:
    """Writes `tree` to the folder `path`, replacing what is there; the first process does."""
    path, tree = Path(path).absolute(), sharding.on_host(tree)
    sharding.by_first_process(lambda: _write(path, tree))


def exists(path: Path) -> bool:
    """Whether `path` holds a checkpoint that was written to its end."""
    found = (Path(path) / "digest.json").exists()
    return bool(sharding.from_first_process(np.asarray(found)))


def restore(path: Path, like: PyTree) -> PyTree:
    """Reads a tree with the structure, shapes and types of `like`; the first process does.

    Raises:
      DamagedCheckpointError: it cannot be read, or its digest differs.
      UserError: its arrays have other names, shapes or types; the first are shown.
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
    told = {"sha256": tree_sha256(tree), "arrays": _arrays(tree)}
    (path / "digest.json").write_text(json.dumps(told))


def _arrays(tree):
    """Type and shape of every array, by its path."""
    found = jax.tree.leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in found
    }


def _check_same(path, like):
    try:
        there = json.loads((path / "digest.json").read_text())["arrays"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # damaged, which reading it will find, or of an earlier release
    here = _arrays(like)
    told = [
        f"{name} is {there.get(name, 'missing')} there and {here.get(name, 'missing')} here"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    if told:
        raise UserError(f"{path} is of another network: {first_of(told, 3)}.")


def _read(path, like):
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore(path / "arrays", abstract)
        expected = json.loads((path / "digest.json").read_text())["sha256"]
    except Exception as error:  # Orbax raises anything on damaged files.
        raise DamagedCheckpointError(f"cannot read {path}: {error}") from error
    if tree_sha256(tree) != expected:
        raise DamagedCheckpointError(f"{path} differs from what was saved (digest mismatch)")
    return tree


def _checkpointer():
    """Of several processes the first one alone, so that it waits for no other."""
    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="first_process"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


__getattr__ = former_names(
    "bap_jax.checkpoint",
    {
        "load": "bap_jax.checkpoint.restore",
    },
)
