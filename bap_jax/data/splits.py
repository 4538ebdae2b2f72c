"""Training, validation and test splits: made once, checked, never mixed.

Weights learn from `train`, `validation` is for choices (of settings, or of an iterate), and `test`
is evaluated once, at the end.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from bap_jax.data.checks import check_dataset, check_groups_present
from bap_jax.data.inputs import select
from bap_jax.errors import UserError
from bap_jax.types import Array, Dataset

SPLITS = ("train", "validation", "test")


class Splits(NamedTuple):
    """The three splits of a data set, checked.

    Attributes:
      train, validation, test: disjoint splits.
      num_classes: labels lie in `[0, num_classes)`; None if they are no class ids.
      group_names: one name for each group.
      sample_ids: `(sample,)` int64 of each split by its name: row numbers in the data that were
        split; None if the samples of each split count from 0.
      attributes: names of the columns of `group_ids`; empty if they have none.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    num_classes: int | None
    group_names: tuple[str, ...]
    sample_ids: Mapping[str, np.ndarray] | None = None
    attributes: tuple[str, ...] = ()

    def ids_of(self, split: str) -> np.ndarray:
        """`(sample,)` int64 ids of the samples of a split."""
        if self.sample_ids is None:
            return np.arange(getattr(self, split).size, dtype=np.int64)
        return np.asarray(self.sample_ids[split], np.int64)

    def attribute_of_group(self) -> tuple[str, ...]:
        """`(group,)` the name of the attribute that each group belongs to.

        A single attribute without a name is called `""`; of several, the second is called
        `attribute 1`.
        """
        ids = np.asarray(self.test.group_ids)
        count = ids.shape[1]
        unnamed = ("",) if count == 1 else tuple(f"attribute {i}" for i in range(count))
        names = self.attributes or unnamed
        column = np.zeros(len(self.group_names), int)
        for i in range(count):
            column[np.unique(ids[:, i])] = i
        return tuple(names[i] for i in column)


def random_test_indices(num_samples: int, fraction: float, random_state: int) -> np.ndarray:
    """The test split that scikit-learn's `train_test_split` draws.

    Drawn here, as importing scikit-learn takes most of a second.

    Args:
      num_samples: number of all samples.
      fraction: share of test samples.
      random_state: seed of the draw.

    Returns:
      `(test sample,)` ascending indices.

    Raises:
      UserError: `fraction` is not in (0, 1).
    """
    _check_fraction("test", fraction)
    order = np.random.RandomState(random_state).permutation(num_samples)
    return np.sort(order[: math.ceil(fraction * num_samples)])


def make_splits(
    data: Dataset,
    num_classes: int | None,
    group_names: Sequence[str],
    *,
    test_indices: np.ndarray,
    validation_fraction: float = 0.15,
    seed: int = 0,
    validation_indices: np.ndarray | None = None,
) -> Splits:
    """Divides samples into splits and checks each.

    Args:
      data: all samples.
      num_classes: number of classes; None for labels that are no class ids.
      group_names: one name for each group.
      test_indices: `(test sample,)` which samples make up the test split.
      validation_fraction: share of the other samples that is drawn at random for validation, from
        each group (from each combination of groups if samples belong to several).
      seed: of that draw.
      validation_indices: `(validation sample,)` the validation split, in place of a draw.

    Raises:
      UserError: `data.check_dataset` finds a mistake, indices are out of range or given twice, a
        fraction lies outside (0, 1), or a group has no sample in some split.

    Example:
      >>> samples = Dataset(np.arange(8.0), np.arange(8) % 2, np.zeros((8, 1), int))
      >>> splits = make_splits(samples, 2, ["all"], test_indices=np.array([0, 1]))
      >>> splits.train.size, splits.validation.size, splits.test.size
      (5, 1, 2)
    """
    check_dataset(data, num_classes, group_names)
    indices = split_indices(
        data.group_ids,
        test_indices=test_indices,
        validation_fraction=validation_fraction,
        seed=seed,
        validation_indices=validation_indices,
    )
    splits = {name: _take(data, samples) for name, samples in indices.items()}
    for name, split in splits.items():
        check_groups_present(name, split, group_names)
    return Splits(
        **splits,
        num_classes=num_classes,
        group_names=tuple(group_names),
        sample_ids={name: np.asarray(rows, np.int64) for name, rows in indices.items()},
    )


def split_indices(
    group_ids: Array,
    *,
    test_indices: np.ndarray,
    validation_fraction: float = 0.15,
    seed: int = 0,
    validation_indices: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Which samples each split of `make_splits` holds.

    Args:
      group_ids: `(sample, attribute)` of all samples.
      test_indices, validation_fraction, seed, validation_indices: see `make_splits`.

    Returns:
      `(sample,)` ascending indices by name of the split.

    Raises:
      UserError: indices out of range, given twice or to both splits, or a fraction outside (0, 1).
    """
    group_ids = np.asarray(group_ids)
    test = _check_indices(test_indices, len(group_ids))
    rest = np.setdiff1d(np.arange(len(group_ids)), test)
    if validation_indices is None:
        _check_fraction("validation", validation_fraction)
        in_validation = _draw_by_group(group_ids[rest], validation_fraction, seed)
    else:
        validation = _check_indices(validation_indices, len(group_ids), "validation")
        both = np.intersect1d(validation, test)
        if both.size:
            raise UserError(
                f"sample {both[0]} is in the validation and in the test split; splits must not "
                "share samples."
            )
        in_validation = np.isin(rest, validation)
        if in_validation.all():
            raise UserError(
                "all samples are validation or test samples; no training sample is left."
            )
    return {"train": rest[~in_validation], "validation": rest[in_validation], "test": test}


def _take(data, indices):
    others = jax.tree.map(lambda leaf: np.asarray(leaf)[indices], data._replace(inputs=None))
    return others._replace(inputs=select(data.inputs, indices))


def _check_fraction(split, fraction):
    if not 0 < fraction < 1:
        raise UserError(f"the {split} fraction must lie in (0, 1), got {fraction}.")


def _check_indices(indices, num_samples, split="test"):
    indices = np.asarray(indices)
    if indices.shape == (0,):  # an empty list is an array of floats
        indices = indices.astype(int)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise UserError(
            f"{split} indices must be integers of shape (sample,); "
            f"got {indices.dtype} of shape {indices.shape}. For a mask write np.flatnonzero(mask)."
        )
    if indices.size == 0:
        raise UserError(f"the {split} split is empty; give at least one index for each group.")
    if len(np.unique(indices)) != indices.size:
        raise UserError(f"{split} indices must be distinct; some samples are given twice.")
    if indices.min() < 0 or indices.max() >= num_samples:
        wrong = indices[(indices < 0) | (indices >= num_samples)]
        raise UserError(f"{split} indices must lie in [0, {num_samples - 1}]; got {wrong[0]}.")
    if indices.size == num_samples:
        raise UserError(f"all samples are {split} samples; no training sample is left.")
    return indices


def _draw_by_group(group_ids, fraction, seed):
    """`(sample,)` bool: which samples are drawn, stratified over the rows of `group_ids`.

    Of a stratum of n samples, round(fraction · n) are drawn, but at least one and never all.
    """
    rng = np.random.default_rng(seed)
    _, stratum = np.unique(group_ids, axis=0, return_inverse=True)
    drawn = np.zeros(len(group_ids), bool)
    order = np.argsort(stratum.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(stratum.ravel()))[:-1]
    for members in np.split(order, ends):
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        drawn[rng.permutation(members)[:count]] = True
    return drawn
