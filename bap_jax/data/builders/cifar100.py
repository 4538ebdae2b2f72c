"""CIFAR-100: 60,000 images of 32×32 pixels, 100 fine and 20 coarse classes.

    cifar-100-binary.tar.gz, or its content: train.bin, test.bin, fine_label_names.txt, …
    or cifar100.npz with x_train, y_train, y_train_coarse, x_test, y_test, y_test_coarse

Each record of the binary files has one byte for the coarse class, one for the fine class, and
3 · 32 · 32 bytes of pixels, channel by channel.
"""

import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bap_jax.data.listing import Listing, find_folder
from bap_jax.errors import UserError
from bap_jax.groups import Grouping

ARCHIVE, ARRAYS = "cifar-100-binary.tar.gz", "cifar100.npz"
_BINARY = ("train.bin", "test.bin")
_RECORD = 2 + 3 * 32 * 32  # bytes
_NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "y_train_coarse", "y_test_coarse")
_EXPECTED = f"{ARCHIVE}, the files {' and '.join(_BINARY)} from it, or {ARRAYS}"
_ORIGIN = "the CIFAR page, 'CIFAR-100 binary version'"


class _Content(NamedTuple):
    """Images and labels, training images first.

    Attributes:
      images: `(image, 32, 32, 3)` uint8.
      fine, coarse: `(image,)` class ids.
      fine_names, coarse_names: one for each class.
      num_train: number of training images.
    """

    images: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    fine_names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    num_train: int


def list_cifar100(root: str) -> Listing:
    """Lists the images; attributes `fine` (100 classes) and `coarse` (20).

    Args:
      root: the folder that holds the files.

    Raises:
      UserError: files are missing or damaged.
    """

    def missing_files(place):
        if any((place / name).is_file() for name in (ARCHIVE, ARRAYS)):
            return []
        return [name for name in _BINARY if not (place / name).is_file()]

    folder = find_folder(root, _EXPECTED, _ORIGIN, missing_files=missing_files)
    arrays = folder / ARRAYS
    content = _read_arrays(arrays) if arrays.is_file() else _read_binary(folder)
    images = content.images
    splits = np.where(np.arange(len(images)) < content.num_train, 0, 2).astype(np.int8)
    return Listing(
        [f"{'test' if split else 'train'} image {i}" for i, split in enumerate(splits)],
        {
            "fine": _grouping(folder, "fine", content.fine, content.fine_names),
            "coarse": _grouping(folder, "coarse", content.coarse, content.coarse_names),
        },
        lambda sample: images[sample],
        splits,
        np.full(len(images), _RECORD - 2),
        images.reshape(len(images), -1).sum(1, dtype=np.int64),
    )


def _grouping(folder, attribute, ids, names):
    if ids.min() < 0 or ids.max() >= len(names):
        raise UserError(
            f"{folder}: {attribute} labels must lie in [0, {len(names) - 1}]; got "
            f"{ids.min()} … {ids.max()}."
        )
    return Grouping(ids.astype(np.int32)[:, None], names)


def _read_arrays(path: Path) -> _Content:
    arrays = _load_npz(path)
    images = np.concatenate([arrays["x_train"], arrays["x_test"]])
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
        raise UserError(
            f"{path}: x_train and x_test must be uint8 of shape (image, 32, 32, 3); got "
            f"{images.dtype} of shape {images.shape}."
        )
    columns = {name: _label_column(path, name, arrays) for name in _NPZ_ARRAYS if name[0] == "y"}
    return _Content(
        images,
        np.concatenate([columns["y_train"], columns["y_test"]]),
        np.concatenate([columns["y_train_coarse"], columns["y_test_coarse"]]),
        _class_names(arrays.get("fine_label_names", ()), 100),
        _class_names(arrays.get("coarse_label_names", ()), 20),
        len(arrays["x_train"]),
    )


def _load_npz(path):
    """Arrays by name."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            arrays = dict(npz)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not complete: {error}. Download it again.") from error
    missing = [name for name in _NPZ_ARRAYS if name not in arrays]
    if missing:
        raise UserError(
            f"{path} lacks the array {missing[0]!r}; expected {', '.join(_NPZ_ARRAYS)}, got "
            f"{', '.join(arrays)}."
        )
    return arrays


def _label_column(path, name, arrays):
    """`(image,)` labels from an array `(image,)` or `(image, 1)`."""
    labels, count = arrays[name], len(arrays[f"x_{name.split('_')[1]}"])
    if labels.size != count or len(labels) != count or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{path}: {name} must be one integer for each of {count} images; got {labels.dtype} of "
            f"shape {labels.shape}."
        )
    return labels.ravel()


def _class_names(names, count):
    """Names of `count` classes; their numbers if the names are not given."""
    names = tuple(map(str, names))
    return names if len(names) == count else tuple(map(str, range(count)))


def _read_binary(folder: Path) -> _Content:
    files = _BinaryFiles(folder)
    splits = []
    for name in _BINARY:
        content = np.frombuffer(files.read(name), np.uint8)
        if content.size == 0 or content.size % _RECORD:
            raise UserError(
                f"{folder}: {name} has {content.size} bytes, which is not a multiple of {_RECORD}; "
                "it is not complete. Download it again."
            )
        splits.append(content.reshape(-1, _RECORD))
    records = np.concatenate(splits)
    return _Content(
        records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
        records[:, 1],
        records[:, 0],
        files.names("fine_label_names.txt", 100),
        files.names("coarse_label_names.txt", 20),
        len(splits[0]),
    )


class _BinaryFiles:
    """The files of the archive, unpacked or not."""

    def __init__(self, folder: Path):
        self._folder = folder

    def read(self, name: str) -> bytes:
        """The content of a file; empty if there is none."""
        if (self._folder / name).is_file():
            return (self._folder / name).read_bytes()
        archive = self._folder / ARCHIVE
        if not archive.is_file():
            return b""
        try:
            with tarfile.open(archive) as members:
                for member in members:
                    file = members.extractfile(member)  # None for a folder
                    if file is not None and Path(member.name).name == name:
                        return file.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise UserError(f"{archive} is not complete: {error}. Download it again.") from error
        return b""

    def names(self, file: str, count: int) -> tuple[str, ...]:
        """Names of `count` classes from a file of names."""
        return _class_names(self.read(file).decode().split(), count)
