"""Small JPEG and PNG files: smooth images, all different."""

import io

import numpy as np
from PIL import Image

from bap_jax.data import Records
from bap_jax.data.images import decode, encode_jpeg
from bap_jax.types import Dataset

SHAPE = (10, 12, 3)


def picture(seed, shape=SHAPE):
    """`shape` uint8: a few random colours, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(folder, count, kind="PNG"):
    """Paths of `count` new files, and the array of their pixels."""
    pixels = np.stack([picture(seed) for seed in range(count)])
    paths = [folder / f"{seed}.{kind.lower()}" for seed in range(count)]
    for path, image in zip(paths, pixels, strict=True):
        path.write_bytes(encoded(image, kind))
    return paths, pixels


def records_of(images, shape=SHAPE):
    """Records of encoded images in memory, which are decoded when needed."""

    def read(row):
        return decode(images[row], f"image {row}").pixels

    return Records(read, np.arange(len(images)), shape, np.dtype(np.uint8))


def both(size):
    """The same samples twice: as images that are decoded when needed, and as arrays."""
    pixels = np.stack([picture(seed) for seed in range(size)])
    labels = np.arange(size, dtype=np.int32) % 3
    ids = np.stack([np.arange(size) % 2, 2 + np.arange(size) % 2], 1).astype(np.int32)
    logits = np.random.default_rng(0).normal(size=(size, 3)).astype(np.float32)
    arrays = Dataset(pixels, labels, ids, logits)
    records = records_of([encoded(image) for image in pixels])
    return arrays._replace(inputs=records), arrays


# Samples of each made-up set.
COUNTS = {"utkface": 100, "fairface": 105, "celeba": 100, "cifar100": 600}


def face(folder, name, shape=(20, 20), colour=90):
    path = folder / name
    path.write_bytes(encode_jpeg(np.full((*shape, 3), colour, np.uint8)))
    return path
