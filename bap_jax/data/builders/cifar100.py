"""CIFAR-100: 60,000 images of 32×32 pixels, 100 fine and 20 coarse classes.

    cifar-100-binary.tar.gz, or what it holds: train.bin, test.bin, fine_label_names.txt, …
    or cifar100.npz with x_train, y_train, y_train_coarse, x_test, y_test, y_test_coarse

A record of the binary files is a byte of the coarse class, one of the fine class, and 3 · 32 · 32
bytes of pixels, channel by channel.
"""

import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from bap_jax.data.listing import Listing, find_folder
from bap_jax.groups import Grouping
from bap_jax.types import UserError

ARCHIVE, ARRAYS = "cifar-100-binary.tar.gz", "cifar100.npz"
_BINARY = ("train.bin", "test.bin")
_RECORD = 2 + 3 * 32 * 32
_WANTED = f"{ARCHIVE}, the files {' and '.join(_BINARY)} that it holds, or {ARRAYS}"
_ORIGIN = "the CIFAR page, 'CIFAR-100 binary version'"


def list_cifar100(root: str) -> Listing:
    """Finds the images; attributes `fine` (100 classes) and `coarse` (20).

    Args:
      root: the folder that holds the files.

    Raises:
      UserError: files are missing or damaged.
    """

    def lacks(place):
        if any((place / name).is_file() for name in (ARCHIVE, ARRAYS)):
            return []
        return [name for name in _BINARY if not (place / name).is_file()]

    folder = find_folder(root, _WANTED, _ORIGIN, lacks=lacks)
    if (folder / ARRAYS).is_file():
        images, fine, coarse, names, num_train = _read_arrays(folder / ARRAYS)
    else:
        images, fine, coarse, names, num_train = _read_binary(folder)
    for ids, known, what in ((fine, names[0], "fine"), (coarse, names[1], "coarse")):
        if ids.min() < 0 or ids.max() >= len(known):
            raise UserError(
                f"{folder}: {what} labels must lie in [0, {len(known) - 1}]; got "
                f"{ids.min()} … {ids.max()}."
            )
    splits = np.where(np.arange(len(images)) < num_train, 0, 2).astype(np.int8)
    return Listing(
        [f"{'test' if split else 'train'} image {i}" for i, split in enumerate(splits)],
        {
            "fine": Grouping(fine.astype(np.int32)[:, None], names[0]),
            "coarse": Grouping(coarse.astype(np.int32)[:, None], names[1]),
        },
        lambda i: images[i],
        splits,
        np.full(len(images), _RECORD - 2),
        images.reshape(len(images), -1).sum(1, dtype=np.int64),
    )


def _read_arrays(path: Path):
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = dict(held)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not whole: {error}. Fetch it anew.") from error
    wanted = [f"{kind}_{split}" for split in ("train", "test") for kind in ("x", "y")]
    wanted += ["y_train_coarse", "y_test_coarse"]
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise UserError(
            f"{path} lacks the array {missing[0]!r}; expected {', '.join(wanted)}, got "
            f"{', '.join(arrays)}."
        )
    images = np.concatenate([arrays["x_train"], arrays["x_test"]])
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
        raise UserError(
            f"{path}: x_train and x_test must be uint8 of shape (image, 32, 32, 3); got "
            f"{images.dtype} of shape {images.shape}."
        )
    for name in wanted:
        if name.startswith("y"):
            arrays[name] = _label_column(path, name, arrays)
    fine = np.concatenate([arrays["y_train"], arrays["y_test"]])
    coarse = np.concatenate([arrays["y_train_coarse"], arrays["y_test_coarse"]])
    names = [
        _names(arrays.get(f"{kind}_label_names", ()), count)
        for kind, count in (("fine", 100), ("coarse", 20))
    ]
    return images, fine, coarse, names, len(arrays["x_train"])


def _label_column(path, name, arrays):
    """`(image,)` of labels `(image,)` or `(image, 1)`."""
    labels, count = arrays[name], len(arrays[f"x_{name.split('_')[1]}"])
    if labels.size != count or len(labels) != count or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{path}: {name} must be one integer for each of {count} images; got {labels.dtype} of "
            f"shape {labels.shape}."
        )
    return labels.ravel()


def _names(found, count):
    """Names of classes; numbers where they are not given."""
    found = tuple(map(str, found))
    return found if len(found) == count else tuple(map(str, range(count)))


def _read_binary(folder: Path):
    files = _BinaryFiles(folder)
    rows = []
    for name in _BINARY:
        content = np.frombuffer(files.read(name), np.uint8)
        if content.size == 0 or content.size % _RECORD:
            raise UserError(
                f"{folder}: {name} has {content.size} bytes, no multiple of {_RECORD}; it is cut "
                "off. Fetch it anew."
            )
        rows.append(content.reshape(-1, _RECORD))
    names = [files.names("fine_label_names.txt", 100), files.names("coarse_label_names.txt", 20)]
    records = np.concatenate(rows)
    images = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, records[:, 1], records[:, 0], names, len(rows[0])


class _BinaryFiles:
    """The files of the archive, unpacked or not."""

    def __init__(self, folder: Path):
        self._folder = folder

    def read(self, name: str) -> bytes:
        if (self._folder / name).is_file():
            return (self._folder / name).read_bytes()
        archive = self._folder / ARCHIVE
        if not archive.is_file():
            return b""
        try:
            with tarfile.open(archive) as members:
                for member in members:
                    if Path(member.name).name == name:
                        return members.extractfile(member).read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise UserError(f"{archive} is not whole: {error}. Fetch it anew.") from error
        return b""

    def names(self, file: str, count: int) -> tuple[str, ...]:
        return _names(self.read(file).decode().split(), count)
