"""Images decoded once: one array of uint8 on disk, read through memory mapping.

    FOLDER/images.bin   (sample, height, width, 3) uint8 in C order, of samples that could be read
    FOLDER/kept.npy     (sample,) which samples these are
    FOLDER/digests.npy  (sample,) uint64, equal for equal images
    FOLDER/cache.json   checksums and shape, which samples were left out and why

`cache.json` is written last, so that a folder with one is whole. Where its checksums are not those
of the other files, the images are decoded anew. Without a folder every image is decoded once all
the same, and forgotten: one that is damaged must be found before training, not after it.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from tqdm import tqdm

from bap_jax.data.images import Decoded, decode
from bap_jax.data.listing import digest_of
from bap_jax.data.records import Records
from bap_jax.types import UserError

_BYTES_AT_ONCE = 2**27  # of decoded images that wait to be written
_SPARE = 1.1  # of free disk


class Images(NamedTuple):
    """Images, on disk or in files yet to be decoded.

    Attributes:
      records: reads them.
      kept: `(sample,)` which samples of all these are.
      skipped: the others, each with the reason.
      converted: how many were not stored as RGB.
      digests: `(sample,)` uint64 of each image.
    """

    records: Records
    kept: np.ndarray
    skipped: Sequence[str]
    converted: int
    digests: np.ndarray


Read = Callable[[int], bytes | str | np.ndarray]


def decoded(read: Read, names: Sequence[str], size: int, folder: Path | None) -> Images:
    """The images of samples, by way of the cache in `folder`.

    Args:
      read: `sample index -> ` content or path of a file, or pixels.
      names: one a sample.
      size: see `images.decode`.
      folder: of the cache; None: images are decoded whenever they are needed.

    Raises:
      UserError: no image can be read, or they differ in size where `size` is 0.
      OSError: what was written cannot be read back.
    """
    if folder is not None:
        found = opened(folder, len(names))
        if found is None:
            _write(read, names, size, folder)
            found = opened(folder, len(names))
        if found is None:
            raise OSError(f"the cache {folder} cannot be read back; is something else writing it?")
        return found
    told = _Told()
    shape = image_shape(read, names, size)
    for _ in _decode_all(read, names, size, shape, told):
        pass

    def one(row):
        return _pixels(read, names, size, row).pixels

    records = Records(one, np.array(told.kept), shape, np.dtype(np.uint8))
    return Images(records, records.rows, told.skipped, told.converted, told.all_digests())


def image_shape(read: Read, names: Sequence[str], size: int) -> tuple[int, int, int]:
    """`(height, width, 3)` of every image: that of the first one that can be read.

    Raises:
      UserError: none can; or these are pixels of another size, which are not resized.
    """
    if size:
        _check_resizable(read, names, size)
        return (size, size, 3)
    for row in range(len(names)):
        try:
            return _pixels(read, names, 0, row).pixels.shape
        except UserError as error:
            last = error
    raise UserError(f"none of {len(names)} images can be read; the last one: {last}")


def has_room(folder: Path, nbytes: int) -> bool:
    """Whether the disk of `folder`, which need not be there, has room for so many bytes."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    room = shutil.disk_usage(place).free > _SPARE * nbytes
    if not room:
        logging.warning(
            "%s has no room for %.1f GB of prepared and decoded images: they are decoded whenever "
            "they are needed. Name another disk by --data_cache=DIR, or a smaller data.size.",
            place,
            nbytes / 1e9,
        )
    return room


class _Told:
    """What decoding tells of the samples."""

    def __init__(self):
        self.kept, self.skipped, self.digests, self.converted = [], [], [], 0

    def all_digests(self):
        return np.frombuffer(b"".join(self.digests), np.uint64)


def _pixels(read, names, size, row) -> Decoded:
    image = read(row)
    if not isinstance(image, np.ndarray):
        return decode(image, f"image {names[row]!r}", size)
    return Decoded(image, "RGB")


def _check_resizable(read, names, size):
    image = read(0) if len(names) else b""
    if isinstance(image, np.ndarray) and image.shape[:2] != (size, size):
        raise UserError(
            f"these images are stored as pixels of shape {image.shape}; they are not resized. "
            "Write config.data.size=0."
        )


def _decode_all(read, names, size, shape, told: _Told) -> Iterator[bytes]:
    """The pixels of each image that can be read, decoded on threads; `told` learns of all."""

    def one(row):
        try:
            found = _pixels(read, names, size, row)
        except UserError as error:
            return str(error)
        if found.pixels.shape != shape:
            raise UserError(
                f"image {names[row]!r} has shape {found.pixels.shape}, others {shape}; write "
                "config.data.size=N to make all of them N×N."
            )
        content = found.pixels.tobytes()
        digest = hashlib.blake2b(content, digest_size=8).digest()
        return content, digest, found.mode != "RGB"

    at_once = max(1, min(512, _BYTES_AT_ONCE // math.prod(shape)))
    starts = tqdm(
        range(0, len(names), at_once), "images", unit_scale=at_once, leave=False, disable=None
    )  # hidden where there is no terminal
    with ThreadPoolExecutor() as threads:
        for start in starts:
            rows = range(start, min(start + at_once, len(names)))
            for row, found in zip(rows, threads.map(one, rows), strict=True):
                if isinstance(found, str):
                    told.skipped.append(found)
                    continue
                content, digest, was_converted = found
                told.kept.append(row)
                told.digests.append(digest)
                told.converted += was_converted
                yield content
    if not told.kept:
        raise UserError(
            f"none of {len(names)} images can be read; the last one: {told.skipped[-1]}"
        )


def _write(read, names, size, folder):
    shape = image_shape(read, names, size)
    folder.mkdir(parents=True, exist_ok=True)
    told, checksum, beside = _Told(), hashlib.sha256(), folder / "pixels.tmp"
    try:
        with beside.open("wb") as file:
            for content in _decode_all(read, names, size, shape, told):
                checksum.update(content)
                file.write(content)
        beside.replace(folder / "images.bin")
    finally:
        beside.unlink(missing_ok=True)
    beside_images = {"kept": np.array(told.kept, np.int64), "digests": told.all_digests()}
    for name, array in beside_images.items():
        np.save(folder / f"{name}.npy", array)
    text = {
        "sha256": checksum.hexdigest(),
        **{name: digest_of(array) for name, array in beside_images.items()},
        "shape": [len(told.kept), *shape],
        "samples": len(names),
        "skipped": told.skipped,
        "converted": told.converted,
    }
    (folder / "cache.json.tmp").write_text(json.dumps(text, indent=1) + "\n")
    (folder / "cache.json.tmp").replace(folder / "cache.json")


def opened(folder: Path, count: int) -> Images | None:
    """The images of `count` samples in the cache in `folder`; None where there is no whole one."""
    try:
        told = json.loads((folder / "cache.json").read_text())
        with (folder / "images.bin").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != told["sha256"]:
                raise ValueError("its images are not those of its checksum")
        shape = tuple(told["shape"])
        pixels = np.memmap(folder / "images.bin", np.uint8, "r", shape=shape)
        beside = {name: np.load(folder / f"{name}.npy") for name in ("kept", "digests")}
        if told["samples"] != count or any(
            digest_of(array) != told[name] for name, array in beside.items()
        ):
            raise ValueError("its files do not belong together")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, EOFError) as error:
        logging.warning("the cache %s is damaged (%s); decoding anew", folder, error)
        (folder / "cache.json").unlink(missing_ok=True)
        return None
    records = Records(pixels.__getitem__, np.arange(shape[0]), shape[1:], np.dtype(np.uint8))
    return Images(records, beside["kept"], told["skipped"], told["converted"], beside["digests"])
