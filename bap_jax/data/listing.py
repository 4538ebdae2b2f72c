"""Which samples a folder of the user's holds: names and attributes, no pixels yet.

    files ─► Listing ─► (builder: array_record) ─► Records ─► decoded images ─► Source

A listing is made anew at every start; its digest tells whether what was prepared is still theirs.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bap_jax.data.splits import SPLITS
from bap_jax.groups import Grouping
from bap_jax.types import Array, UserError

MADE_UP = ".bap_jax_made_up"  # an empty file beside made-up images


class Listing(NamedTuple):
    """Samples of a data set, in the order in which they are counted.

    Attributes:
      names: one a sample, by which errors call it.
      attributes: by name; one column each.
      read: `sample index -> ` content of its file, path of it, or pixels.
      splits: `(sample,)` int8, index into `SPLITS`; None where the data set defines none.
      sizes: `(sample,)` bytes of each file.
      stamps: `(sample,)` when each was changed, or a checksum of it.
      skipped: files that were left out, each with the reason.
    """

    names: Sequence[str]
    attributes: Mapping[str, Grouping]
    read: Callable[[int], bytes | str | np.ndarray]
    splits: Array | None = None
    sizes: Array | Sequence[int] = ()
    stamps: Array | Sequence[int] = ()
    skipped: Sequence[str] = ()

    def digest(self, *, files: bool = True) -> str:
        """Twelve hex digits that change with names, attributes, splits and, if asked, files."""
        found = hashlib.sha256("\0".join(self.names).encode())
        arrays = [np.asarray(told, np.int64) for told in (self.sizes, self.stamps) if files]
        if self.splits is not None:
            arrays.append(np.asarray(self.splits, np.int64))
        for name, grouping in sorted(self.attributes.items()):
            found.update("\0".join((name, *grouping.names)).encode())
            arrays.append(np.asarray(grouping.ids, np.int64))
        for array in arrays:
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()[:12]

    def indices(self, split: str) -> np.ndarray | None:
        """Samples of the split called `split`; None where the data set has none of that name."""
        if self.splits is None:
            return None
        found = np.flatnonzero(np.asarray(self.splits) == SPLITS.index(split))
        return found if found.size else None


def digest_of(array: Array) -> str:
    """Twelve hex digits that change with the content of an array."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(content).hexdigest()[:12]


def find_folder(
    root: str, wanted: str, origin: str, *, lacks: Callable[[Path], Sequence[str]], named: str = ""
) -> Path:
    """The folder of a data set: the one called `named` below `root`, `root`, or another below it.

    Args:
      root: what the user named.
      wanted: which files should be there, in words.
      origin: where they come from, in words.
      lacks: which of them a folder lacks.
      named: how the data set's own folder is called.

    Raises:
      UserError: nothing was named, it is not there, or it holds something else.
    """
    expected = f"expected {wanted}. They come from {origin}."
    if not root:
        raise UserError(f"no folder of the data was named: write --data_dir=DIR; {expected}")
    folder = Path(root).expanduser()
    if not folder.exists():
        raise UserError(f"--data_dir={root}: there is no such folder; {expected}")
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    lacking = {}
    for place in [*([folder / named] if named else []), folder, *below]:
        if not place.is_dir():
            continue
        lacking[place] = lacks(place)
        if not lacking[place]:
            return place
    nearest = min(lacking, key=lambda place: len(lacking[place]), default=folder)
    told = ", ".join(lacking.get(nearest, ())) or "all of them"
    raise UserError(f"--data_dir={root} holds no such data: {nearest} lacks {told}; {expected}")


def files_below(folder: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Files with one of these endings, at any depth, sorted by name."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in endings)
    made_up = {path.parent for path in folder.rglob(MADE_UP)} - {folder}
    found = (path for path in found if path.parent not in made_up)
    return iter(sorted(found, key=lambda path: (path.name, path)))


def files_told(paths: Sequence[Path]) -> tuple[list[int], list[int]]:
    """Bytes of each file, and nanoseconds at which it was changed."""
    stats = [path.stat() for path in paths]
    return [stat.st_size for stat in stats], [stat.st_mtime_ns for stat in stats]


def open_table(path: Path) -> io.StringIO:
    """A text file, in UTF-8 as tables should be.

    Raises:
      UserError: it is in another encoding.
    """
    try:
        return io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8: {error}. Save it as UTF-8.") from error
