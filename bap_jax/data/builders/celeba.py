"""CelebA: 202,599 faces of celebrities with forty yes-or-no attributes.

    img_align_celeba.zip, or the folder img_align_celeba     178×218 JPEG files
    list_attr_celeba.txt                                     for each image 40 values, 1 or −1
    list_eval_partition.txt                                  0 train, 1 validation, 2 test

The two tables may also be CSV files of the same names, `image_id` and the attributes or `partition`
as columns, as they circulate; values are then 1, and −1 or 0.

Each attribute divides the samples into two groups, such as `no_Male` and `Male`.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from bap_jax.data.columns import read_table
from bap_jax.data.listing import Listing, find_folder, open_table
from bap_jax.errors import UserError
from bap_jax.groups import Grouping

ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
ARCHIVE, FOLDER = "img_align_celeba.zip", "img_align_celeba"
_ID, _SPLIT = "image_id", "partition"  # columns of the CSV files
_EXPECTED = (
    f"{ATTRIBUTES}, {PARTITION} (or .csv) and {ARCHIVE} (or its content as a folder {FOLDER})"
)
_ORIGIN = "the CelebA page, 'Align&Cropped Images', 'Anno' and 'Eval'"


def list_celeba(root: str) -> Listing:
    """Lists the faces; every column of the attribute table is an attribute.

    Args:
      root: the folder that holds the tables and the archive. The archive is read without unpacking.

    Raises:
      UserError: files are missing or do not match.
    """

    def missing_files(place):
        images = (place / ARCHIVE).is_file() or (place / FOLDER).is_dir()
        missing = [name for name in (ATTRIBUTES, PARTITION) if not _table(place, name).is_file()]
        return missing if images else [*missing, ARCHIVE]

    folder = find_folder(root, _EXPECTED, _ORIGIN, missing_files=missing_files)
    columns, names, values = _read_attributes(_table(folder, ATTRIBUTES))
    splits = _read_partition(_table(folder, PARTITION))
    images = _open_images(folder, names)
    kept = [i for i, name in enumerate(names) if name in images.files and name in splits]
    skipped = [
        f"{name}: {'not in ' + PARTITION if name in images.files else 'there is no such image'}"
        for name in names
        if name not in images.files or name not in splits
    ]
    if not kept:
        raise UserError(f"{folder} holds none of the images of {ATTRIBUTES}; expected {_EXPECTED}.")
    names, values = [names[i] for i in kept], values[kept]
    attributes = {
        column: Grouping((values[:, j : j + 1] > 0).astype(np.int32), (f"no_{column}", column))
        for j, column in enumerate(columns)
    }
    return Listing(
        names,
        attributes,
        lambda sample: images.read(names[sample]),
        np.array([splits[name] for name in names], np.int8),
        [images.files[name].size for name in names],
        [images.files[name].stamp for name in names],
        skipped,
    )


class _File(NamedTuple):
    """Bytes of an image file, and a number that changes with its content."""

    size: int
    stamp: int


class _ReadByName(Protocol):
    def __call__(self, name: str, /) -> bytes | str:
        """Returns the content of an image file, or its path."""
        ...


class _ImageFiles(NamedTuple):
    """The image files in a folder or an archive, by name, and a function that reads one."""

    files: Mapping[str, _File]
    read: _ReadByName


def _table(folder: Path, name: str) -> Path:
    """The table of this name, or the CSV file if only that is there."""
    other = folder / Path(name).with_suffix(".csv")
    return other if other.is_file() and not (folder / name).is_file() else folder / name


def _read_csv_attributes(path):
    cells = read_table(path, (_ID,)).columns
    names = cells.pop(_ID)
    table = np.array(list(cells.values()))
    allowed = ("1", "-1") if (table == "-1").any() else ("1", "0")
    wrong = np.argwhere(~np.isin(table, allowed))
    if len(wrong):
        column, row = wrong[0]
        raise UserError(
            f"{path}: values must be 1 and -1, or 1 and 0; got {str(table[column, row])!r} for "
            f"{names[row]} in the column {list(cells)[column]!r}."
        )
    return list(cells), names, (table == "1").T.astype(np.int8)


def _read_attributes(path: Path):
    """Names of columns, names of files, `(sample, column)` int8."""
    if path.suffix == ".csv":
        return _read_csv_attributes(path)
    with open_table(path) as lines:
        promised = next(lines, "").strip()
        columns = next(lines, "").split()
        names, values = [], bytearray()
        for number, line in enumerate(lines, 3):
            words = line.split()
            if not words:
                continue
            if len(words) != len(columns) + 1:
                raise UserError(
                    f"{path}, line {number}: expected a file name and {len(columns)} values 1 or "
                    f"-1, one for each name of line 2; got {len(words) - 1} values."
                )
            if not set(words[1:]) <= {"1", "-1"}:
                raise UserError(f"{path}, line {number}: values must be 1 and -1; got {line!r}.")
            names.append(words[0])
            values.extend(word == "1" for word in words[1:])
    if promised != str(len(names)):
        raise UserError(
            f"{path}: line 1 promises {promised} images, the table has {len(names)}. Download it "
            "again."
        )
    return columns, names, np.frombuffer(values, np.int8).reshape(len(names), len(columns))


def _read_partition(path: Path):
    """Index into `SPLITS` by name of file."""
    if path.suffix == ".csv":
        cells = read_table(path, (_ID, _SPLIT)).columns
        wrong = [cell for cell in cells[_SPLIT] if cell not in ("0", "1", "2")]
        if wrong:
            raise UserError(
                f"{path}: the column {_SPLIT!r} holds {wrong[0]!r}; expected 0, 1 or 2."
            )
        return dict(zip(cells[_ID], map(int, cells[_SPLIT]), strict=True))
    splits = {}
    for number, line in enumerate(open_table(path).read().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise UserError(f"{path}, line {number}: expected NAME and 0, 1 or 2; got {line!r}.")
        splits[words[0]] = int(words[1])
    return splits


def _open_images(folder: Path, names) -> _ImageFiles:
    """Opens the folder or archive that holds most of the images.

    These are the folder, a folder of the same name inside it (as some programs unpack the archive),
    and the archive.
    """
    places = [folder / FOLDER, folder / FOLDER / FOLDER]
    candidates = [_open_folder(place) for place in places if place.is_dir()]
    complete = any(all(name in images.files for name in names) for images in candidates)
    if (folder / ARCHIVE).is_file() and not complete:
        candidates.append(_open_archive(folder / ARCHIVE))
    return max(candidates, key=lambda images: sum(name in images.files for name in names))


def _open_folder(folder: Path) -> _ImageFiles:
    stats = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    files = {name: _File(stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
    return _ImageFiles(files, lambda name: str(folder / name))


def _open_archive(path: Path) -> _ImageFiles:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not complete: {error}. Download it again.") from error
    entries = {Path(e.filename).name: e for e in archive.infolist() if not e.is_dir()}

    def read(name):
        try:
            return archive.read(entries[name])
        except (zipfile.BadZipFile, zlib.error, EOFError):
            return b""  # cannot be decoded, so the image will be listed as skipped

    files = {name: _File(entry.file_size, entry.CRC) for name, entry in entries.items()}
    return _ImageFiles(files, read)
