"""Which samples a data set in files holds: names and attributes, but no pixels yet.

    files ─► Listing ─► (builder: array_record) ─► Records ─► decoded images ─► Source

A new listing is made at every start. Its digest shows whether prepared images still belong to the
files.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from bap_jax.data.splits import SPLITS
from bap_jax.errors import UserError
from bap_jax.groups import Grouping
from bap_jax.types import Array

MADE_UP = ".bap_jax_made_up"  # an empty file in each folder of made-up images


class ReadImage(Protocol):
    """Reads one image; called from several threads at once."""

    def __call__(self, sample: int, /) -> bytes | str | np.ndarray:
        """Returns the image of a sample.

        Args:
          sample: its index in the listing.

        Returns:
          The content of a JPEG or PNG file, the path of one, or pixels `(height, width, 3)` uint8.
        """
        ...


class Listing(NamedTuple):
    """Samples of a data set, in their order.

    Attributes:
      names: one for each sample; errors show them.
      attributes: by name, each with one column.
      read: reads the image of a sample.
      splits: `(sample,)` int8, index into `SPLITS`; None if the data set has no splits of its own.
      sizes: `(sample,)` bytes of each file.
      stamps: `(sample,)` time of each file's last change, or a checksum of it.
      skipped: files that were left out, each with the reason.
      missing: of each attribute that misses values, which samples it misses, for errors.
    """

    names: Sequence[str]
    attributes: Mapping[str, Grouping]
    read: ReadImage
    splits: Array | None = None
    sizes: Array | Sequence[int] = ()
    stamps: Array | Sequence[int] = ()
    skipped: Sequence[str] = ()
    missing: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[Path],
        attributes: Mapping[str, Grouping],
        *,
        names: Sequence[str] | None = None,
        splits: Array | None = None,
        skipped: Sequence[str] = (),
        missing: Mapping[str, str] = MappingProxyType({}),
    ) -> "Listing":
        """A listing with one JPEG or PNG file for each sample.

        Args:
          paths: `(sample,)` existing files.
          attributes: by name, see `groups.encode`.
          names: by default the names of the files.
          splits: see `Listing`.
          skipped, missing: see `Listing`.

        Raises:
          OSError: there is no such file.
        """
        stats = [path.stat() for path in paths]
        return cls(
            [path.name for path in paths] if names is None else names,
            attributes,
            lambda sample: str(paths[sample]),
            splits,
            [stat.st_size for stat in stats],
            [stat.st_mtime_ns for stat in stats],
            skipped,
            missing,
        )

    def digest(self, *, files: bool = True) -> str:
        """Twelve hex digits that change with names, attributes and splits.

        Args:
          files: whether they change with sizes and stamps of the files, too.
        """
        sha256 = hashlib.sha256(_bytes_of(self.names))
        arrays = [np.asarray(column, np.int64) for column in (self.sizes, self.stamps) if files]
        if self.splits is not None:
            arrays.append(np.asarray(self.splits, np.int64))
        for name, grouping in sorted(self.attributes.items()):
            sha256.update(_bytes_of((name, *grouping.names)))
            arrays.append(np.asarray(grouping.ids, np.int64))
        for array in arrays:
            sha256.update(np.ascontiguousarray(array).tobytes())
        return sha256.hexdigest()[:12]

    def indices(self, split: str) -> np.ndarray | None:
        """`(sample,)` indices of the samples of a split; None if the data set has no such split."""
        if self.splits is None:
            return None
        indices = np.flatnonzero(np.asarray(self.splits) == SPLITS.index(split))
        return indices if indices.size else None


def _bytes_of(names):
    return "\0".join(names).encode(errors="surrogatepass")


def digest_of(array: Array) -> str:
    """Twelve hex digits that change with the content of an array."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(content.data).hexdigest()[:12]


def find_folder(
    root: str,
    expected: str,
    origin: str,
    *,
    missing_files: Callable[[Path], Sequence[str]],
    named: str = "",
) -> Path:
    """Finds the folder of a data set: the one called `named` in `root`, `root`, or another in it.

    Args:
      root: the folder that the user named.
      expected: which files should be there, in words.
      origin: where they come from, in words.
      missing_files: lists the expected files that a folder lacks.
      named: what the data set's own folder is called.

    Raises:
      UserError: no folder was named, it does not exist, or it holds something else.
    """
    expectation = f"expected {expected}. They come from {origin}."
    if not root:
        raise UserError(f"no folder of the data was named: write --data_dir=DIR; {expectation}")
    folder = Path(root).expanduser()
    if not folder.exists():
        raise UserError(f"--data_dir={root}: there is no such folder; {expectation}")
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    missing_by_folder = {}
    for place in [*([folder / named] if named else []), folder, *below]:
        if not place.is_dir():
            continue
        missing_by_folder[place] = missing_files(place)
        if not missing_by_folder[place]:
            return place
    nearest = min(
        missing_by_folder, key=lambda place: len(missing_by_folder[place]), default=folder
    )
    missing = ", ".join(missing_by_folder.get(nearest, ())) or "all of them"
    raise UserError(
        f"--data_dir={root} does not hold this data set: {nearest} lacks {missing}; {expectation}"
    )


def files_below(folder: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Files with one of these endings, at any depth, sorted by name.

    Folders of made-up images are left out, unless `folder` is one.
    """
    made_up = {path.parent for path in folder.rglob(MADE_UP)} - {folder}
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in endings)
    paths = (path for path in paths if path.parent not in made_up)
    return iter(sorted(paths, key=lambda path: (path.name, path)))


def open_table(path: Path) -> io.StringIO:
    """A text file in UTF-8.

    Raises:
      UserError: it is in another encoding.
    """
    try:
        return io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8: {error}. Save it as UTF-8.") from error
