"""Images decoded once: one array of uint8 on disk, read through memory mapping.

    FOLDER/images.bin   (sample, height, width, 3) uint8 in C order, of samples that could be read
    FOLDER/kept.npy     (sample,) which samples these are
    FOLDER/digests.npy  (sample,) uint64, equal for equal images
    FOLDER/cache.json   checksums and shape, and which samples were left out and why

`cache.json` is written last, so a folder that has one is complete. If its checksums do not match
the other files, the images are decoded again. Without a folder every image is still decoded once
and then forgotten, because a damaged image must be found before training, not after it.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from bap_jax.data.images import Decoded, decode
from bap_jax.data.listing import ReadImage, digest_of
from bap_jax.data.records import Records
from bap_jax.errors import UserError

_BYTES_AT_ONCE = 2**27  # of decoded images that wait to be written
_TRANSPARENT = "white"  # what transparent pixels show
_SPARE = 1.1  # of free disk


class Images(NamedTuple):
    """Images that can be read, from the cache or from their files.

    Attributes:
      records: reads them.
      kept: `(sample,)` which of all samples these are.
      skipped: the other samples, each with the reason.
      converted: how many were not stored as RGB.
      digests: `(sample,)` uint64 of each image.
    """

    records: Records
    kept: np.ndarray
    skipped: Sequence[str]
    converted: int
    digests: np.ndarray


def decode_images(read: ReadImage, names: Sequence[str], size: int, folder: Path | None) -> Images:
    """Decodes all images into the cache in `folder`, or finds them there.

    Args:
      read: reads one image.
      names: one for each sample.
      size: see `images.decode`.
      folder: of the cache; None decodes images whenever they are needed.

    Raises:
      UserError: no image can be read, or they differ in size and `size` is 0.
      OSError: what was written cannot be read back.
    """
    if folder is not None:
        images = open_cache(folder, len(names))
        if images is None:
            _write(read, names, size, folder)
            images = open_cache(folder, len(names))
        if images is None:
            raise OSError(f"the cache {folder} cannot be read back; is something else writing it?")
        return images
    outcome = _Outcome()
    shape = image_shape(read, names, size)
    for _ in _decode_all(read, names, size, shape, outcome):
        pass

    def read_pixels(sample):
        return _pixels(read, names, size, sample).pixels

    records = Records(read_pixels, np.array(outcome.kept), shape, np.dtype(np.uint8))
    return Images(records, records.rows, outcome.skipped, outcome.converted, outcome.digest_array())


def image_shape(read: ReadImage, names: Sequence[str], size: int) -> tuple[int, int, int]:
    """`(height, width, 3)` of every image: the shape of the first one that can be read.

    Raises:
      UserError: none can be read; or the images are stored as pixels, which are not resized, and
        have another size.
    """
    if size:
        _check_resizable(read, names, size)
        return (size, size, 3)
    last_error = None
    for sample in range(len(names)):
        try:
            return _pixels(read, names, 0, sample).pixels.shape
        except UserError as error:
            last_error = error
    raise UserError(f"none of {len(names)} images can be read; the last one: {last_error}")


def has_room(folder: Path, nbytes: int) -> bool:
    """Whether the disk of `folder`, which need not exist yet, has room for `nbytes` bytes."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    room = shutil.disk_usage(existing).free > _SPARE * nbytes
    if not room:
        logging.warning(
            "%s has no room for %.1f GB of prepared and decoded images: they are decoded whenever "
            "they are needed. Name another disk by --data_cache=DIR, or a smaller data.size.",
            existing,
            nbytes / 1e9,
        )
    return room


class _Outcome:
    """What decoding found out about the samples."""

    def __init__(self):
        self.kept: list[int] = []
        self.skipped: list[str] = []
        self.digests: list[bytes] = []
        self.converted = 0

    def digest_array(self) -> np.ndarray:
        return np.frombuffer(b"".join(self.digests), np.uint64)


class _Encoded(NamedTuple):
    """Pixels of one image, ready to be written."""

    content: bytes
    digest: bytes
    was_converted: bool


def _pixels(read, names, size, sample) -> Decoded:
    image = read(sample)
    if not isinstance(image, np.ndarray):
        return decode(image, f"image {names[sample]!r}", size)
    return Decoded(image, "RGB")


def _check_resizable(read, names, size):
    image = read(0) if len(names) else b""
    if isinstance(image, np.ndarray) and image.shape[:2] != (size, size):
        raise UserError(
            f"these images are stored as pixels of shape {image.shape}; they are not resized. "
            "Write config.data.size=0."
        )


def _decode_all(read, names, size, shape, outcome: _Outcome) -> Iterator[bytes]:
    """Yields the pixels of each readable image, decoded by threads; fills in `outcome`."""

    def decode_one(sample) -> _Encoded | str:
        """The image, or the reason why it is left out."""
        try:
            image = _pixels(read, names, size, sample)
        except UserError as error:
            return str(error)
        if image.pixels.shape != shape:
            raise UserError(
                f"image {names[sample]!r} has shape {image.pixels.shape}, others {shape}; write "
                "config.data.size=N to make all of them N×N."
            )
        content = image.pixels.tobytes()
        digest = hashlib.blake2b(content, digest_size=8).digest()
        return _Encoded(content, digest, image.mode != "RGB")

    from tqdm import tqdm  # so that nothing else needs it

    at_once = max(1, min(512, _BYTES_AT_ONCE // math.prod(shape)))
    starts = tqdm(
        range(0, len(names), at_once), "images", unit_scale=at_once, leave=False, disable=None
    )  # hidden without a terminal
    with ThreadPoolExecutor() as threads:
        for start in starts:
            samples = range(start, min(start + at_once, len(names)))
            for sample, image in zip(samples, threads.map(decode_one, samples), strict=True):
                if isinstance(image, str):
                    outcome.skipped.append(image)
                    continue
                outcome.kept.append(sample)
                outcome.digests.append(image.digest)
                outcome.converted += image.was_converted
                yield image.content
    if not outcome.kept:
        raise UserError(
            f"none of {len(names)} images can be read; the last one: {outcome.skipped[-1]}"
        )


def _write(read, names, size, folder):
    """Decodes all images into `folder`, `cache.json` last."""
    shape = image_shape(read, names, size)
    folder.mkdir(parents=True, exist_ok=True)
    outcome, checksum, partial = _Outcome(), hashlib.sha256(), folder / "pixels.tmp"
    try:
        with partial.open("wb") as file:
            for content in _decode_all(read, names, size, shape, outcome):
                checksum.update(content)
                file.write(content)
        partial.replace(folder / "images.bin")
    finally:
        partial.unlink(missing_ok=True)
    arrays = {"kept": np.array(outcome.kept, np.int64), "digests": outcome.digest_array()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    record = {
        "sha256": checksum.hexdigest(),
        **{name: digest_of(array) for name, array in arrays.items()},
        "shape": [len(outcome.kept), *shape],
        "samples": len(names),
        "skipped": outcome.skipped,
        "converted": outcome.converted,
        "transparent": _TRANSPARENT,
    }
    (folder / "cache.json.tmp").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "cache.json.tmp").replace(folder / "cache.json")


def open_cache(folder: Path, count: int) -> Images | None:
    """The images of `count` samples from the cache in `folder`; None without a complete cache."""
    try:
        record = json.loads((folder / "cache.json").read_text())
        with (folder / "images.bin").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"]:
                raise ValueError("its images do not match their checksum")
        shape = tuple(record["shape"])
        pixels = np.memmap(folder / "images.bin", np.uint8, "r", shape=shape)
        arrays = {name: np.load(folder / f"{name}.npy") for name in ("kept", "digests")}
        if record["converted"] and record.get("transparent") != _TRANSPARENT:
            return None  # by an earlier version, which showed the colour of transparent pixels
        if record["samples"] != count or any(
            digest_of(array) != record[name] for name, array in arrays.items()
        ):
            raise ValueError("its files do not belong together")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, EOFError) as error:
        logging.warning("the cache %s is damaged (%s); decoding again", folder, error)
        (folder / "cache.json").unlink(missing_ok=True)
        return None
    records = Records(pixels.__getitem__, np.arange(shape[0]), shape[1:], np.dtype(np.uint8))
    return Images(
        records, arrays["kept"], record["skipped"], record["converted"], arrays["digests"]
    )
