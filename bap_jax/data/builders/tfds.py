"""The data sets as builders of tensorflow-datasets; the only file that imports that library.

    from bap_jax.data.builders.tfds import Utkface
    builder = Utkface(listing=list_utkface("UTKFace"), data_dir="prepared")
    builder.download_and_prepare()              # writes array_record; no TensorFlow, no network
    builder.as_data_source("train")[0]["race"]

Samples keep the order of the listing, split after split. Images are stored as they are in the
user's files, so that they can be resized to any size later. `as_data_source` returns an image in
grey or CMYK with its own number of channels; `bap_jax.data.load` converts it to RGB.
"""

import contextlib
import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from bap_jax.data.listing import Listing, ReadImage
from bap_jax.data.splits import SPLITS

PIECE_BYTES = 2**28


class ListedBuilder(tfds.core.GeneratorBasedBuilder):
    """Prepares the samples of a listing.

    Its features are `image`, the `name` of the sample and one class label for each attribute. Its
    splits are the splits of the data set, or `all`. A split of more than a quarter of a gigabyte is
    cut into several, `train_0`, `train_1` …: the library holds a split in memory while it writes
    it, and beyond a gigabyte it needs TensorFlow.

    To write a builder for another data set, make a subclass; its name is the name of the data set
    in tensorflow-datasets.

    Attributes:
      pixels: `(height, width, channel)` of images that are stored as pixels instead of files.
    """

    VERSION = tfds.core.Version("1.0.0")
    pixels: tuple[int, int, int] | None = None

    def __init__(self, *, listing: Listing, **options):
        self._listing = listing
        super().__init__(file_format="array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        if self.pixels:
            image = tfds.features.Tensor(shape=self.pixels, dtype=np.uint8)
        labels = {
            name: tfds.features.ClassLabel(names=list(grouping.names))
            for name, grouping in self._listing.attributes.items()
        }
        features = {"image": image, "name": tfds.features.Text(), **labels}
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(rows) for name, rows in self.rows().items()}

    def _generate_examples(self, rows):
        listing = self._listing
        for number, row in enumerate(rows):
            image = listing.read(row)
            if isinstance(image, bytes):
                image = io.BytesIO(image)
            labels = {
                name: int(grouping.ids[row, 0]) for name, grouping in listing.attributes.items()
            }
            yield number, {"image": image, "name": listing.names[row], **labels}

    def rows(self) -> dict[str, np.ndarray]:
        """`(sample,)` indices into the listing, in order, by name of the split."""
        whole = {"all": np.arange(len(self._listing.names))}
        if self._listing.splits is not None:
            indices = {name: self._listing.indices(name) for name in SPLITS}
            whole = {name: rows for name, rows in indices.items() if rows is not None}
        pieces = {}
        for name, rows in whole.items():
            pieces.update(self._cut(name, rows))
        return pieces

    def _cut(self, name, rows):
        """A split in pieces of at most `PIECE_BYTES`, by name of the piece."""
        if self.pixels:
            sizes = np.full(len(rows), math.prod(self.pixels))
        else:
            sizes = np.asarray(self._listing.sizes)[rows]
        piece = np.cumsum(sizes) // PIECE_BYTES
        if piece[-1] == piece[0]:
            return {name: rows}
        return {f"{name}_{number}": rows[piece == number] for number in np.unique(piece)}

    def reader(self) -> ReadImage:
        """Prepares the samples if they are not prepared, and returns a function that reads one."""
        with contextlib.redirect_stdout(io.StringIO()):  # it prints about downloads; there are none
            self.download_and_prepare()
        rows_by_split = self.rows()
        split = np.zeros(len(self._listing.names), np.int8)
        position = np.zeros(len(split), np.int64)
        for number, rows in enumerate(rows_by_split.values()):
            split[rows], position[rows] = number, np.arange(len(rows))
        skip = None if self.pixels else {"image": tfds.decode.SkipDecoding()}
        open_split: Any = self.as_data_source  # a decorator hides its signature
        sources = [open_split(name, decoders=skip) for name in rows_by_split]
        return lambda sample: sources[split[sample]][int(position[sample])]["image"]


class Utkface(ListedBuilder):
    """UTKFace, see `bap_jax.data.builders.utkface`."""


class Fairface(ListedBuilder):
    """FairFace, see `bap_jax.data.builders.fairface`."""


class Celeba(ListedBuilder):
    """CelebA, see `bap_jax.data.builders.celeba`."""


class Cifar100Binary(ListedBuilder):
    """CIFAR-100, see `bap_jax.data.builders.cifar100`."""

    pixels = (32, 32, 3)


def prepare(builder: type[ListedBuilder], listing: Listing, folder: Path) -> ReadImage:
    """Prepares a listing as array_record files in `folder`, unless they exist.

    Args:
      builder: class of the builder.
      listing: the user's files.
      folder: created if needed.

    Returns:
      A function that reads an image of the listing from the prepared files.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    logging.info("preparing %d images in %s", len(listing.names), folder)
    return builder(listing=listing, data_dir=str(folder)).reader()
