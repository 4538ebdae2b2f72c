"""The data sets as builders of tensorflow-datasets; the only file that imports that library.

    from bap_jax.data.builders.tfds import Utkface
    builder = Utkface(listing=list_utkface("UTKFace"), data_dir="prepared")
    builder.download_and_prepare()              # writes array_record; no TensorFlow, no network
    builder.as_data_source("train")[0]["race"]

Samples keep the order of the listing, split after split. Images are kept as the user's files hold
them, so that any size can be made of them later; one that is grey or in CMYK comes from
`as_data_source` with as many channels as it has, and is made RGB by `bap_jax.data.load`.
"""

import contextlib
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from bap_jax.data.listing import Listing
from bap_jax.data.splits import SPLITS

PIECE_BYTES = 2**28


class ListedBuilder(tfds.core.GeneratorBasedBuilder):
    """Prepares the samples of a listing.

    Its features are `image`, the `name` of the sample and one class label for each attribute. Its
    splits are the splits of the data set, or `all`; a split of more than a quarter of a gigabyte is
    several, `train_0`, `train_1` …, as the library holds a split in memory while it writes it, and
    beyond a gigabyte asks for TensorFlow.

    Attributes:
      pixels: shape of images that are no encoded files.
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
            labels = {name: int(found.ids[row, 0]) for name, found in listing.attributes.items()}
            yield number, {"image": image, "name": listing.names[row], **labels}

    def rows(self) -> dict[str, np.ndarray]:
        """Which samples of the listing each split holds, in order."""
        found = {"all": np.arange(len(self._listing.names))}
        if self._listing.splits is not None:
            found = {name: self._listing.indices(name) for name in SPLITS}
        cut = {}
        for name, rows in found.items():
            if rows is not None:
                cut.update(self._pieces(name, rows))
        return cut

    def _pieces(self, name, rows):
        sizes = np.full(len(rows), math.prod(self.pixels)) if self.pixels else None
        sizes = np.asarray(self._listing.sizes)[rows] if sizes is None else sizes
        piece = np.cumsum(sizes) // PIECE_BYTES
        if piece[-1] == piece[0]:
            return {name: rows}
        return {f"{name}_{number}": rows[piece == number] for number in np.unique(piece)}

    def reader(self) -> Callable[[int], bytes | np.ndarray]:
        """Prepares what is not prepared; returns `sample index of the listing -> ` its image."""
        with contextlib.redirect_stdout(io.StringIO()):  # it speaks of downloads; there are none
            self.download_and_prepare()
        rows = self.rows()
        split = np.zeros(len(self._listing.names), np.int8)
        place = np.zeros(len(split), np.int64)
        for number, chosen in enumerate(rows.values()):
            split[chosen], place[chosen] = number, np.arange(len(chosen))
        skip = None if self.pixels else {"image": tfds.decode.SkipDecoding()}
        sources = [self.as_data_source(name, decoders=skip) for name in rows]
        return lambda row: sources[split[row]][int(place[row])]["image"]


class Utkface(ListedBuilder):
    """UTKFace, see `bap_jax.data.builders.utkface`."""


class Fairface(ListedBuilder):
    """FairFace, see `bap_jax.data.builders.fairface`."""


class Celeba(ListedBuilder):
    """CelebA, see `bap_jax.data.builders.celeba`."""


class Cifar100Binary(ListedBuilder):
    """CIFAR-100, see `bap_jax.data.builders.cifar100`."""

    pixels = (32, 32, 3)


BUILDERS = {
    "utkface": Utkface,
    "fairface": Fairface,
    "celeba": Celeba,
    "cifar100": Cifar100Binary,
}


def prepared(name: str, listing: Listing, folder: Path) -> Callable[[int], bytes | np.ndarray]:
    """The images of a listing out of array_record files in `folder`, written where missing."""
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    logging.info("preparing %d images of %s in %s", len(listing.names), name, folder)
    return BUILDERS[name](listing=listing, data_dir=str(folder)).reader()
