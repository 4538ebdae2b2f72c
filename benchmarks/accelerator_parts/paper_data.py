"""Images and network of the paper's CIFAR-100 run.

    array file ─► all samples in its order ─► splits as of experiments/cifar100.py
                                          └─► network, whose step crops, flips and normalises

Label and groups are the fine classes.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pack_images

from bap_jax import data, models
from bap_jax.data.datasets import DATASETS
from bap_jax.errors import UserError
from bap_jax.types import Dataset

NEEDED = ("x_train", "y_train", "x_test", "y_test")
# As in experiments/cifar100.py.
VALIDATION_FRACTION, SPLIT_SEED, AUGMENTATION = 0.1, 0, "crop_flip"


class Images(NamedTuple):
    """All samples, and how they are split.

    Attributes:
      samples: all of them, in the order of the file, training images first.
      splits: the same samples divided.
      split_of: `(sample,)` uint8, position in `data.SPLITS`.
      digest: changes with any pixel or label.
    """

    samples: Dataset
    splits: data.Splits
    split_of: np.ndarray
    digest: str


def load(path: str | Path) -> Images:
    """Reads an array file, packed by `pack_images.py` or not.

    Raises:
      UserError: it is not an array file, or lacks images or labels.
    """
    arrays = pack_images.read_arrays(path)
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; it has {', '.join(arrays)}.")
    names = tuple(map(str, arrays.get("fine_label_names", ())))
    return divide(*(arrays[name] for name in NEEDED), names)


def made_up(num_classes: int = 10, images_of_class: int = 40) -> Images:
    """Random images with a brightness of their own for each class, to try the run."""
    rng, parts = np.random.default_rng(0), []
    for count in (images_of_class, images_of_class // 4):
        labels = rng.permutation(np.arange(num_classes * count) % num_classes)
        noise = rng.integers(0, 100, (len(labels), 32, 32, 3))
        parts += [(noise + labels[:, None, None, None] * 15).astype(np.uint8), labels]
    return divide(*parts, ())


def divide(x_train, y_train, x_test, y_test, names) -> Images:
    """Splits samples; the test split is that of the file.

    Args:
      x_train, x_test: `(image, height, width, channel)` uint8.
      y_train, y_test: `(image,)` classes.
      names: one for each class; by default their numbers.
    """
    labels = np.concatenate([y_train.ravel(), y_test.ravel()]).astype(np.int32)
    samples = Dataset(np.concatenate([x_train, x_test]), labels, labels[:, None])
    num_classes = int(labels.max()) + 1
    names = names if len(names) == num_classes else tuple(map(str, range(num_classes)))
    how = {
        "test_indices": np.arange(len(y_train), len(labels)),
        "validation_fraction": VALIDATION_FRACTION,
        "seed": SPLIT_SEED,
    }
    splits = data.make_splits(samples, num_classes, names, **how)
    split_of = np.empty(len(labels), np.uint8)
    for name, rows in data.split_indices(samples.group_ids, **how).items():
        split_of[rows] = data.SPLITS.index(name)
    digest = hashlib.sha256(np.ascontiguousarray(samples.inputs))
    digest.update(labels.tobytes())
    return Images(samples, splits, split_of, digest.hexdigest())


def make_network(num_classes: int, depth: int, width: int, precision: str) -> models.Model:
    """A residual network for CIFAR, which takes images as uint8."""
    network = models.build("resnet", num_classes, depth=depth, width=width)
    scale = DATASETS["cifar100"].scale
    assert scale is not None
    preprocess = data.image_preprocess(*scale, AUGMENTATION)
    return models.with_preprocessing(models.in_precision(network, precision), preprocess)
