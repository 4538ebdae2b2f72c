"""Scikit-learn's handwritten digits: 1,797 real 8×8 images that ship inside the package."""

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from bap_jax.data.request import Request
from bap_jax.data.source import Source
from bap_jax.groups import Grouping


def load_digits(request: Request = Request()) -> Source:  # noqa: B008 - a tuple of constants
    """Pixels scaled to [0, 1], ten classes, and two attributes.

    `digit` is the class itself, as the paper groups CIFAR-100. `ink` says whether an image has less
    (`light`) or more (`heavy`) ink than the median image.

    Args:
      request: ignored: these images need no folder.

    Returns:
      Inputs `(1797, 8, 8)` float32.
    """
    pixels, labels = _read_file() or _from_sklearn()
    inputs = (pixels.reshape(-1, 8, 8) / 16).astype(np.float32)
    labels = labels.astype(np.int32)
    ink = inputs.sum((1, 2))
    heavy = (ink > np.median(ink)).astype(np.int32)
    attributes = {
        "digit": Grouping(labels[:, None], tuple(map(str, range(10)))),
        "ink": Grouping(heavy[:, None], ("light", "heavy")),
    }
    return Source(inputs, attributes, target="digit")


def _read_file():
    """`(sample, pixel)` and `(sample,)`: the file that Scikit-learn reads; None if it is not there.

    Importing Scikit-learn takes longer than everything else that happens to these data.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.exists():
        return None
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1]


def _from_sklearn():
    """The same from Scikit-learn itself."""
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    return bunch.data, bunch.target
