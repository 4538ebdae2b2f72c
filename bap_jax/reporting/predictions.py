"""What the dense and the pruned network predict for every sample: `predictions.npz` of a run.

Where a loss of the user's own decides what is right there need be no classes; the file then says of
each sample whether it is right, which is all that an audit reads.

Audits and comparisons of runs start from this file and need no network. docs/outputs.md lists its
arrays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bap_jax.types import Dataset


class SplitPredictions(NamedTuple):
    """What two networks predict for the samples of a split.

    Attributes:
      id: `(sample,)` int64 row numbers in the data that were split.
      label: `(sample,)` int32 class ids; without classes the labels `(sample, ...)` as they are,
        and None if they are no single array.
      group: `(sample, attribute)` int32 ids of the groups that a sample belongs to.
      dense, sparse: `(sample,)` int32 class ids that the dense and the pruned network predict; None
        without classes.
      dense_correct, sparse_correct: `(sample,)` bool, whether these are right.
    """

    id: np.ndarray
    label: np.ndarray | None
    group: np.ndarray
    dense: np.ndarray | None
    sparse: np.ndarray | None
    dense_correct: np.ndarray
    sparse_correct: np.ndarray


def split_predictions(
    ids: np.ndarray, split: Dataset, dense: np.ndarray, sparse: np.ndarray
) -> SplitPredictions:
    """The predictions of two networks, with labels and groups.

    Args:
      ids: `(sample,)` row numbers in the data that were split.
      split: the samples; inputs are not read.
      dense, sparse: `(sample,)` class ids that the networks predict.
    """
    label, group = (np.asarray(leaf, np.int32) for leaf in (split.labels, split.group_ids))
    dense, sparse = np.asarray(dense, np.int32), np.asarray(sparse, np.int32)
    ids = np.asarray(ids, np.int64)
    return SplitPredictions(ids, label, group, dense, sparse, dense == label, sparse == label)


def split_outcomes(
    ids: np.ndarray, split: Dataset, dense_correct: np.ndarray, sparse_correct: np.ndarray
) -> SplitPredictions:
    """What two networks have right, where there are no classes to predict.

    Args:
      ids: `(sample,)` row numbers in the data that were split.
      split: the samples; inputs are not read.
      dense_correct, sparse_correct: `(sample,)` bool, which samples each has right.
    """
    group, ids = np.asarray(split.group_ids, np.int32), np.asarray(ids, np.int64)
    is_array = hasattr(split.labels, "dtype")
    label = np.asarray(split.labels) if is_array else None
    return SplitPredictions(ids, label, group, None, None, dense_correct, sparse_correct)


def save_predictions(
    path: Path,
    predictions: Mapping[str, SplitPredictions],
    group_names: Sequence[str],
    attribute_of_group: Sequence[str],
) -> None:
    """Writes predictions as a compressed `.npz`.

    Args:
      path: of the file, ending in `.npz`.
      predictions: by name of the split.
      group_names: `(group,)` names of the groups.
      attribute_of_group: `(group,)` name of the attribute that each group belongs to.
    """
    arrays = {
        f"{split}_{name}": array
        for split, of_split in predictions.items()
        for name, array in of_split._asdict().items()
        if array is not None
    }
    arrays["group_names"] = np.array(group_names, str)
    arrays["attribute_of_group"] = np.array(attribute_of_group, str)
    with path.open("wb") as file:  # a path would get another suffix if it ended in .tmp
        np.savez_compressed(file, **arrays)
