"""Scikit-learn's handwritten digits: 1,797 real 8×8 images that ship inside the package."""

import numpy as np

from bap_jax.data.source import Source
from bap_jax.groups import Grouping


def load_digits() -> Source:
    """Pixels scaled to [0, 1], ten classes, and the attribute `digit`: the class itself, as the
    paper groups CIFAR-100."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    labels = bunch.target.astype(np.int32)
    digit = Grouping(labels[:, None], tuple(str(name) for name in bunch.target_names))
    inputs = (bunch.images / 16).astype(np.float32)
    return Source(inputs, labels, num_classes=10, attributes={"digit": digit})
