"""Arrays on disk, with a digest over them. The only file that imports Orbax.

A flipped byte in a checkpoint loads without a word, and so does a changed dtype; the digest
(`audit.tree_sha256`) finds both.
"""

import json
import shutil
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from bap_jax.audit import tree_sha256
from bap_jax.types import PyTree


class DamagedCheckpointError(RuntimeError):
    """What lies on disk is not what was saved."""


def save(path: Path, tree: PyTree) -> None:
    """Writes `tree` to the folder `path`, replacing what is there."""
    path = Path(path).absolute()
    if path.exists():
        shutil.rmtree(path)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "arrays", tree)
    (path / "digest.json").write_text(json.dumps({"sha256": tree_sha256(tree)}))


def exists(path: Path) -> bool:
    """Whether `path` holds a checkpoint that was written to its end."""
    return (Path(path) / "digest.json").exists()


def load(path: Path, like: PyTree) -> PyTree:
    """Reads a tree with the structure, shapes and types of `like`.

    Raises:
      DamagedCheckpointError: it cannot be read, or its digest differs.
    """
    path = Path(path).absolute()
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(path / "arrays", abstract)
        expected = json.loads((path / "digest.json").read_text())["sha256"]
    except Exception as error:  # Orbax raises anything on damaged files.
        raise DamagedCheckpointError(f"cannot read {path}: {error}") from error
    if tree_sha256(tree) != expected:
        raise DamagedCheckpointError(f"{path} differs from what was saved (digest mismatch)")
    return tree
