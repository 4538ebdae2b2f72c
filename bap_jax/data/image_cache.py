"""Images decoded once: one array of uint8 on disk, read through memory mapping.

    FOLDER/images.bin   (sample, height, width, 3) uint8 in C order, of samples that could be read
    FOLDER/kept.npy     (sample,) which samples these are
    FOLDER/digests.npy  (sample,) uint64, equal for equal images
    FOLDER/cache.json   checksum and shape, which samples were left out and why

`cache.json` is written last, so that a folder with one is whole. Where its checksum is not that of
the images, they are decoded anew.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from bap_jax.data.images import Decoded, decode
from bap_jax.data.records import Records
from bap_jax.types import UserError

_AT_ONCE = 512  # images that are in memory while decoding
_SPARE = 1.1  # of free disk


class Images(NamedTuple):
    """Images, in memory, on disk or in files yet to be decoded.

    Attributes:
      records: reads them.
      kept: `(sample,)` which samples of all these are.
      skipped: the others, each with the reason.
      converted: how many were not stored as RGB.
      digests: `(sample,)` uint64 of each image; None where they are not decoded yet.
    """

    records: Records
    kept: np.ndarray
    skipped: Sequence[str] = ()
    converted: int = 0
    digests: np.ndarray | None = None


Read = Callable[[int], bytes | str | np.ndarray]


def decoded(read: Read, names: Sequence[str], size: int, folder: Path | None) -> Images:
    """The images of samples, by way of the cache in `folder` where the disk has room for it.

    Args:
      read: `sample index -> ` content or path of a file, or pixels.
      names: one a sample.
      size: see `images.decode`.
      folder: of the cache; None: images are decoded whenever they are needed.

    Raises:
      UserError: no image can be read, or they differ in size where `size` is 0.
    """
    shape = _shape(read, names, size)
    if folder is None or not _has_room(folder, len(names) * int(np.prod(shape))):
        return Images(_records(read, names, size, shape), np.arange(len(names)))
    found = _open(folder, len(names))
    if found is None:
        _write(read, names, size, shape, folder)
        found = _open(folder, len(names))
    return found


def _pixels(read, names, size, row):
    image = read(row)
    if not isinstance(image, np.ndarray):
        return decode(image, f"image {names[row]!r}", size)
    if size and image.shape[:2] != (size, size):
        raise UserError(
            f"these images are stored as pixels of shape {image.shape}; they are not resized. "
            "Write config.data.size=0."
        )
    return Decoded(image, "RGB")


def _shape(read, names, size):
    """Of every image: that of the first one that can be read."""
    if size:
        return (size, size, 3)
    for row in range(len(names)):
        try:
            return _pixels(read, names, 0, row).pixels.shape
        except UserError as error:
            last = error
    raise UserError(f"none of {len(names)} images can be read; the last one: {last}")


def _records(read, names, size, shape):
    def one(row):
        pixels = _pixels(read, names, size, row).pixels
        _check_shape(pixels, shape, names[row])
        return pixels

    return Records(one, np.arange(len(names)), shape, np.dtype(np.uint8))


def _check_shape(pixels, shape, name):
    if pixels.shape != shape:
        raise UserError(
            f"image {name!r} has shape {pixels.shape}, others {shape}; write config.data.size=N "
            "to make all of them N×N."
        )


def _has_room(folder, nbytes):
    place = next(path for path in (folder, *folder.parents) if path.exists())
    room = (folder / "cache.json").exists() or shutil.disk_usage(place).free > _SPARE * nbytes
    if not room:
        logging.warning(
            "%s has no room for %.1f GB of decoded images: they are decoded whenever they are "
            "needed. Name another disk by --data_cache=DIR, or a smaller config.data.size.",
            place,
            nbytes / 1e9,
        )
    return room


def _write(read, names, size, shape, folder):
    """Decodes on threads; writes images one block after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    kept, skipped, digests, converted = [], [], [], 0
    checksum = hashlib.sha256()

    def one(row):
        try:
            found = _pixels(read, names, size, row)
        except UserError as error:
            return str(error)
        _check_shape(found.pixels, shape, names[row])
        return found, hashlib.blake2b(found.pixels.tobytes(), digest_size=8).digest()

    with (folder / "pixels.tmp").open("wb") as file, ThreadPoolExecutor() as threads:
        for start in range(0, len(names), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(names)))
            for row, found in zip(rows, threads.map(one, rows), strict=True):
                if isinstance(found, str):
                    skipped.append(found)
                    continue
                image, digest = found
                kept.append(row)
                digests.append(digest)
                converted += image.mode != "RGB"
                block = image.pixels.tobytes()
                checksum.update(block)
                file.write(block)
    if not kept:
        raise UserError(f"none of {len(names)} images can be read; the last one: {skipped[-1]}")
    (folder / "pixels.tmp").replace(folder / "images.bin")
    np.save(folder / "digests.npy", np.frombuffer(b"".join(digests), np.uint64))
    np.save(folder / "kept.npy", np.array(kept, np.int64))
    told = {
        "sha256": checksum.hexdigest(),
        "shape": [len(kept), *shape],
        "samples": len(names),
        "skipped": skipped,
        "converted": converted,
    }
    (folder / "cache.json.tmp").write_text(json.dumps(told, indent=1) + "\n")
    (folder / "cache.json.tmp").replace(folder / "cache.json")


def _open(folder, count):
    """The cache in a folder; None where there is none that is whole."""
    try:
        told = json.loads((folder / "cache.json").read_text())
        with (folder / "images.bin").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != told["sha256"]:
                raise ValueError("its images are not those of its checksum")
        shape = tuple(told["shape"])
        pixels = np.memmap(folder / "images.bin", np.uint8, "r", shape=shape)
        kept, digests = (np.load(folder / f"{name}.npy") for name in ("kept", "digests"))
        if told["samples"] != count or not len(kept) == len(digests) == shape[0]:
            raise ValueError("its files do not belong together")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        logging.warning("the cache %s is damaged (%s); decoding anew", folder, error)
        (folder / "cache.json").unlink(missing_ok=True)
        return None
    records = Records(pixels.__getitem__, np.arange(len(kept)), shape[1:], np.dtype(np.uint8))
    return Images(records, kept, told["skipped"], told["converted"], digests)
