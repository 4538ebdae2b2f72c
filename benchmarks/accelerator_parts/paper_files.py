"""Few, small files from which a run that was killed goes on.

A machine that is lent for minutes may hand back only a few files of limited size. So the state of
the networks that are being trained is cut into files of at most 15 MiB, at most four of them. They
are written beside the old ones first and then renamed, so a run that is killed leaves the old ones
or the new ones; if it leaves some of each, which takes a kill within the few microseconds of the
renaming, or a file is damaged or missing, the state counts as lost.

    state-0.npz …   `leaf-N`: the arrays of a state, and `about`: a JSON text with what it is of
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.types import PyTree

LARGEST_FILE = 15 * 2**20  # bytes
MOST_FILES = 4
LARGEST_STATE = MOST_FILES * LARGEST_FILE - 4 * 2**20  # the last array of a file may not fit in


class About(NamedTuple):
    """What a state is of.

    Attributes:
      name: of the program.
      settings: of the program; a state is of use only to a program with equal ones.
      epoch: how many epochs have been done.
    """

    name: str
    settings: dict[str, Any]
    epoch: int


class StateFiles:
    """The files with the state of the one program that is being run.

    Args:
      folder: of the files.
      print_line: shows which epoch was saved, or why a state cannot be used.
    """

    def __init__(self, folder: str | Path, print_line=print):
        self._folder, self._print = Path(folder), print_line
        for path in self._folder.glob("*.npz.new"):  # a kill while they were written
            path.unlink()

    def save(self, about: About, states: PyTree) -> None:
        """Replaces the saved state.

        Raises:
          UserError: it takes more than four files.
        """
        arrays = to_arrays(states)
        parts = _parts(arrays)
        if len(parts) > MOST_FILES:
            raise UserError(
                f"the state of {about.name} takes {len(parts)} files of {LARGEST_FILE >> 20} MiB; "
                f"at most {MOST_FILES} are allowed."
            )
        files = {}
        for i, names in enumerate(parts):
            part = {name: arrays[name] for name in names}
            text = as_about({**about._asdict(), "file": i, "files": len(parts)})
            files[self._path(i)] = _npz({**part, "about": text})
        replace_together(files)
        self._remove_from(len(parts))

    def load(self, name: str, settings: Mapping[str, Any], like: PyTree) -> tuple[int, PyTree]:
        """The epoch and the state of a program; epoch 0 and None if none is saved.

        Args:
          name, settings: see `About`.
          like: shapes and types of the state.

        Raises:
          UserError: the state is of the same program with other settings.
        """
        contents = [_read(path) for path in sorted(self._folder.glob("state-*.npz"))]
        if not contents:
            return 0, None
        abouts = [read_about(one) if one else {} for one in contents]
        first = {**abouts[0], "file": None}
        is_complete = len(abouts) == first.get("files") and all(
            {**about, "file": None} == first for about in abouts
        )
        if not is_complete:
            self._print("the saved state is not complete; its program starts again")
            return 0, None
        if first["name"] != name:
            self._print(f"the saved state of {first['name']} is left behind")
            return 0, None
        check_same(first["settings"], settings, f"the saved state of {name}")
        self._print(f"{name}: {first['epoch']} epochs were saved")
        arrays = {key: array for one in contents for key, array in one.items()}
        return first["epoch"], from_arrays(arrays, like)

    def clear(self) -> None:
        """Removes the files."""
        self._remove_from(0)

    def _path(self, i):
        return self._folder / f"state-{i}.npz"

    def _remove_from(self, first):
        for i in range(first, MOST_FILES):
            self._path(i).unlink(missing_ok=True)


def check_same(saved: Mapping[str, Any], settings: Mapping[str, Any], what: str) -> None:
    """Raises an error if what is saved was made with other settings.

    Raises:
      UserError: it names the first that differs.
    """
    settings = json.loads(json.dumps(settings))
    for key in [*settings, *saved]:
        if saved.get(key) != settings.get(key):
            raise UserError(
                f"{what} was made with {key}={saved.get(key)}, not {settings.get(key)}; write "
                "another --out, or the settings of before."
            )


def as_about(content: Mapping[str, Any]) -> np.ndarray:
    """A JSON text as an array of an array file."""
    return np.array(json.dumps(content))


def read_about(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What `as_about` wrote into an array file."""
    return json.loads(str(arrays["about"]))


def to_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """The leaves of a tree on the host; of random keys their data."""
    leaves = [_key_data(leaf) for leaf in jax.tree.leaves(tree)]
    return {f"leaf-{i}": np.asarray(leaf) for i, leaf in enumerate(jax.device_get(leaves))}


def from_arrays(arrays: Mapping[str, np.ndarray], like: PyTree) -> PyTree:
    """A tree on the device from its leaves.

    Args:
      arrays: as from `to_arrays`.
      like: shapes and types of the tree.

    Raises:
      UserError: an array is missing or has another shape or type.
    """
    leaves, structure = jax.tree.flatten(like)
    restored = []
    for i, leaf in enumerate(leaves):
        array = arrays.get(f"leaf-{i}")
        expected = jax.eval_shape(_key_data, leaf)
        if array is None or (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise UserError(f"the saved state does not fit this network: array {i}.")
        array = jax.device_put(array)
        restored.append(jax.random.wrap_key_data(array) if _is_key(leaf) else array)
    return jax.tree.unflatten(structure, restored)


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray], compressed: bool = False) -> None:
    """Writes an array file so that a kill leaves the old one or the new one."""
    replace_together({Path(path): _npz(arrays, compressed)})


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a file; none if there is no such file.

    Raises:
      UserError: it is damaged.
    """
    arrays = _read(Path(path))
    if not arrays and Path(path).exists():
        raise UserError(f"{path} is damaged; remove it, and what it held is computed again.")
    return arrays


def replace_together(files: Mapping[Path, bytes]) -> None:
    """Writes files beside those that they replace, and renames them at the end."""
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(_beside(path), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    for path in files:
        os.replace(_beside(path), path)


def _beside(path):
    return path.with_name(f"{path.name}.new")


def _npz(arrays, compressed=False):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def _read(path):
    """The arrays of a file; none if it is missing or damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        return {}


def _parts(arrays):
    """Names of arrays, cut into parts that each fit into a file."""
    parts, room = [], 0
    for name, array in arrays.items():
        need = array.nbytes + 1024  # its header, twice its name
        if need > room:
            parts.append([])
            room = LARGEST_FILE
        parts[-1].append(name)
        room -= need
    return parts


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_data(leaf):
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf
