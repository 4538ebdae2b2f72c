"""Packs the images of an array file so that it can be taken to a machine without a network.

    python benchmarks/pack_images.py DATA.npz OUT.npz

DATA.npz holds `x_train` and `x_test`, uint8 `(image, height, width, 3)`, and whatever else, as the
`cifar100.npz` that `bap_jax.data` reads; or DATA is a folder with `cifar-100-binary.tar.gz`.
CIFAR-100 takes 184 MB as arrays and about 100 MB without loss, so the images are packed with a
small loss: mosaics of a thousand images as JPEG without subsampled colours. `read_arrays` reads
both kinds of file. An array `x_train` is packed as

    x_train_jpeg     `(byte,)` uint8, the files of all mosaics one after the other
    x_train_ends     `(mosaic,)` int64, where each of them ends
    x_train_shape    `(4,)` int64, of the array

and other arrays stay as they are. Images start at multiples of eight pixels, the size of JPEG's
blocks, so no image changes its neighbours.

The 60,000 images of CIFAR-100, sizes in MB (10⁶ bytes) and peak signal-to-noise ratios, from every
tenth training image on 2026-11-27, Pillow 13.0:

    WebP, no loss                              104.0
    WebP, no loss after dropping two low bits   68.6   47.1 dB
    WebP, steps of 4 stored as 0 … 64           67.2   46.5 dB
    WebP, quality 100 (colours subsampled)      41.0   34.0 dB
    AVIF 4:4:4, quality 98, 96                  57.3   44.6 dB    49.7   43.2 dB
    JPEG 4:4:4, quality 97, 95                  61.2   42.8 dB    49.2   39.7 dB
    JPEG 4:4:4, progressive, all steps 3, 4     59.0   44.9 dB    51.3   43.2 dB
    JPEG 4:4:4, progressive, steps 3 and 4      56.5   44.3 dB    (this one)

AVIF is as small for the same loss, but takes longer to write (19.8 s against 2.1 s for these 5,000
images, on two busy CPU cores), and not every Pillow has it.

Packed images train as well: ten classes, a ResNet-8 of width 8 and eight epochs (`accelerator.py
--paper --methods= --dense_epochs=8 --depth=8 --width=8`, two CPU cores, 2026-11-27) gave a test
accuracy of 56.4 % with them and of 54.1 % with the originals, on 1,000 test images and with one
seed each.
"""

import io
import math
import sys
import zipfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import app

from bap_jax.errors import UserError

IMAGES_OF_MOSAIC, COLUMNS = 1000, 50
_BLOCK = 8
# Quantisation steps by frequency: every step weighs the same error, unlike those for human eyes.
_FREQUENCY = np.add.outer(np.arange(_BLOCK), np.arange(_BLOCK))
_STEPS = np.where(_FREQUENCY < _BLOCK, 3, 4).ravel().tolist()


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays, images replaced by JPEG mosaics.

    Args:
      arrays: by name; those of uint8 `(image, height, width, 3)` are images.

    Raises:
      UserError: there are no images, or their sides are no multiples of eight.
    """
    images = [name for name, array in arrays.items() if array.dtype == np.uint8 and array.ndim == 4]
    if not images:
        raise UserError(f"no array of uint8 images (image, height, width, 3) among {set(arrays)}")
    packed = {name: array for name, array in arrays.items() if name not in images}
    for name in images:
        shape = arrays[name].shape
        if shape[1] % _BLOCK or shape[2] % _BLOCK or shape[3] != 3:
            raise UserError(
                f"{name} has shape {shape}; expected (image, height, width, 3), height and width "
                f"multiples of {_BLOCK}."
            )
        starts = range(0, shape[0], IMAGES_OF_MOSAIC)
        parts = [arrays[name][start : start + IMAGES_OF_MOSAIC] for start in starts]
        with ThreadPoolExecutor() as threads:
            files = list(threads.map(_encode, parts))
        packed[f"{name}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        packed[f"{name}_ends"] = np.cumsum([len(file) for file in files], dtype=np.int64)
        packed[f"{name}_shape"] = np.array(shape, np.int64)
    return packed


def unpack(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undoes `pack`, up to the loss; arrays that are not packed stay as they are."""
    arrays = {}
    for name, array in packed.items():
        stem, _, kind = name.rpartition("_")
        if f"{stem}_jpeg" not in packed:
            arrays[name] = array
        elif kind == "jpeg":
            ends, shape = packed[f"{stem}_ends"], tuple(packed[f"{stem}_shape"].tolist())
            arrays[stem] = _decode_all(array, ends, shape)
    return arrays


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a packed or an ordinary array file.

    Raises:
      UserError: it is no array file, or not complete.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return unpack(dict(arrays))
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not a complete array file: {error}") from error


def peak_signal_to_noise(images: np.ndarray, others: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two arrays of uint8 images, dB."""
    squares = 0.0
    for start in range(0, len(images), IMAGES_OF_MOSAIC):
        part = slice(start, start + IMAGES_OF_MOSAIC)
        squares += np.square(images[part].astype(np.int32) - others[part]).sum(dtype=np.float64)
    return math.inf if squares == 0 else 10 * math.log10(255**2 * images.size / squares)


def _encode(images):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(_mosaic(images)).save(
        file, "JPEG", qtables=[_STEPS, _STEPS], subsampling=0, optimize=True, progressive=True
    )
    return file.getvalue()


def _mosaic(images):
    """`(image, height, width, 3)` as one picture, the last row filled up with black."""
    count, height, width, _ = images.shape
    rows = -(-count // COLUMNS)
    filling = ((0, rows * COLUMNS - count), (0, 0), (0, 0), (0, 0))
    grid = np.pad(images, filling).reshape(rows, COLUMNS, height, width, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, COLUMNS * width, 3)


def _decode_all(files, ends, shape):
    from PIL import Image

    Image.preinit()  # finds the formats; not safe from several threads
    images = np.empty(shape, np.uint8)

    def decode(i):
        start = ends[i - 1] if i else 0
        with Image.open(io.BytesIO(files[start : ends[i]].tobytes())) as picture:
            grid = np.asarray(picture.convert("RGB")).reshape(-1, shape[1], COLUMNS, *shape[2:])
        part = images[i * IMAGES_OF_MOSAIC : (i + 1) * IMAGES_OF_MOSAIC]
        part[:] = grid.transpose(0, 2, 1, 3, 4).reshape(-1, *shape[1:])[: len(part)]

    with ThreadPoolExecutor() as threads:
        list(threads.map(decode, range(len(ends))))
    return images


def from_folder(folder):
    """The arrays of `cifar100.npz` from the files that `bap_jax.data` reads."""
    from bap_jax import data

    source = data.load("cifar100", data.Request(dir=str(folder)))
    is_test = np.isin(np.arange(len(source.inputs)), source.test_indices)
    arrays = {}
    for split, rows in (("train", np.flatnonzero(~is_test)), ("test", np.flatnonzero(is_test))):
        part = source.take(rows)
        arrays[f"x_{split}"] = data.read_all(part.grouped_by("fine")[0]).inputs
        arrays[f"y_{split}"] = part.attributes["fine"].ids[:, 0]
        arrays[f"y_{split}_coarse"] = part.attributes["coarse"].ids[:, 0]
    for kind in ("fine", "coarse"):
        arrays[f"{kind}_label_names"] = np.array(source.attributes[kind].names)
    return arrays


def main(argv):
    if len(argv) != 3:
        raise app.UsageError("expected two files: DATA.npz OUT.npz")
    path, out = Path(argv[1]), Path(argv[2])
    arrays = from_folder(path) if path.is_dir() else read_arrays(path)
    np.savez(out, **pack(arrays))
    for name, images in read_arrays(out).items():
        if images.dtype == np.uint8 and images.ndim == 4:
            decibel = peak_signal_to_noise(arrays[name], images)
            print(f"{name}: {len(images):,} images, {decibel:.1f} dB")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    try:
        app.run(main)
    except UserError as error:
        sys.exit(str(error))
