"""CelebA: 202,599 faces of celebrities with forty yes-or-no attributes.

    img_align_celeba.zip, or the folder img_align_celeba        178×218 JPEG files
    list_attr_celeba.txt                                        a line an image: 1 or −1 forty times
    list_eval_partition.txt                                     0 train, 1 validation, 2 test

Each attribute groups the samples in two, such as `no_Male` and `Male`.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from bap_jax.data.listing import Listing, find_folder, open_table
from bap_jax.groups import Grouping
from bap_jax.types import UserError

ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
ARCHIVE, FOLDER = "img_align_celeba.zip", "img_align_celeba"
_WANTED = f"{ATTRIBUTES}, {PARTITION} and {ARCHIVE} (or its content as a folder {FOLDER})"
_ORIGIN = "the CelebA page, 'Align&Cropped Images', 'Anno' and 'Eval'"


def list_celeba(root: str) -> Listing:
    """Finds the faces; every column of the attribute table is an attribute.

    Args:
      root: the folder that holds the tables and the archive, which is not unpacked.

    Raises:
      UserError: files are missing or do not agree.
    """

    def lacks(place):
        images = (place / ARCHIVE).is_file() or (place / FOLDER).is_dir()
        missing = [name for name in (ATTRIBUTES, PARTITION) if not (place / name).is_file()]
        return missing if images else [*missing, ARCHIVE]

    folder = find_folder(root, _WANTED, _ORIGIN, lacks=lacks)
    columns, names, values = _read_attributes(folder / ATTRIBUTES)
    splits = _read_partition(folder / PARTITION)
    told, read = _open_images(folder, names)
    kept = [i for i, name in enumerate(names) if name in told and name in splits]
    skipped = [
        f"{name}: {'not in ' + PARTITION if name in told else 'there is no such image'}"
        for name in names
        if name not in told or name not in splits
    ]
    if not kept:
        raise UserError(f"{folder} holds none of the images of {ATTRIBUTES}; expected {_WANTED}.")
    names, values = [names[i] for i in kept], values[kept]
    attributes = {
        column: Grouping((values[:, j : j + 1] > 0).astype(np.int32), (f"no_{column}", column))
        for j, column in enumerate(columns)
    }
    return Listing(
        names,
        attributes,
        lambda i: read(names[i]),
        np.array([splits[name] for name in names], np.int8),
        [told[name][0] for name in names],
        [told[name][1] for name in names],
        skipped,
    )


def _read_attributes(path: Path):
    """Names of columns, names of files, `(sample, column)` int8."""
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
            f"{path}: line 1 promises {promised} images, the table has {len(names)}. Fetch it anew."
        )
    return columns, names, np.frombuffer(values, np.int8).reshape(len(names), len(columns))


def _read_partition(path: Path):
    """Part by name of file."""
    found = {}
    for number, line in enumerate(open_table(path).read().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise UserError(f"{path}, line {number}: expected NAME and 0, 1 or 2; got {line!r}.")
        found[words[0]] = int(words[1])
    return found


def _open_images(folder: Path, names):
    """Bytes and stamp of each file by name, and a function that reads one.

    Of the folder, a folder of that name within it (as some programs unpack) and the archive, the
    one that holds most of `names`.
    """
    places = [folder / FOLDER, folder / FOLDER / FOLDER]
    found = [_open_folder(place) for place in places if place.is_dir()]
    whole = any(all(name in told for name in names) for told, _ in found)
    if (folder / ARCHIVE).is_file() and not whole:
        found.append(_open_archive(folder))
    return max(found, key=lambda one: sum(name in one[0] for name in names))


def _open_folder(below):
    stats = {path.name: path.stat() for path in below.iterdir() if path.is_file()}
    told = {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
    return told, lambda name: str(below / name)


def _open_archive(folder):
    try:
        archive = zipfile.ZipFile(folder / ARCHIVE)
    except zipfile.BadZipFile as error:
        raise UserError(f"{folder / ARCHIVE} is not whole: {error}. Fetch it anew.") from error
    files = (entry for entry in archive.infolist() if not entry.is_dir())
    entries = {Path(entry.filename).name: entry for entry in files}

    def read(name):
        try:
            return archive.read(entries[name])
        except (zipfile.BadZipFile, zlib.error, EOFError):
            return b""  # no image, which is found on decoding, and listed

    return {name: (entry.file_size, entry.CRC) for name, entry in entries.items()}, read
