"""Scikit-learn's handwritten digits: 1,797 real 8×8 images that ship inside the package."""

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
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    labels = bunch.target.astype(np.int32)
    inputs = (bunch.images / 16).astype(np.float32)
    ink = inputs.sum((1, 2))
    heavy = (ink > np.median(ink)).astype(np.int32)
    attributes = {
        "digit": Grouping(labels[:, None], tuple(str(name) for name in bunch.target_names)),
        "ink": Grouping(heavy[:, None], ("light", "heavy")),
    }
    return Source(inputs, attributes, target="digit")
