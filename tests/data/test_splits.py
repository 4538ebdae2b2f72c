"""Splits: disjoint, complete, stratified, repeatable; and the mistakes in asking for them."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from bap_jax import data, groups
from bap_jax.data import digits
from bap_jax.errors import UserError
from bap_jax.types import Dataset


def samples(sizes, column=None):
    """Groups of these sizes, shuffled; the inputs are the samples' own indices."""
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))[:, None]
    ids = ids if column is None else np.concatenate([ids, column[:, None]], axis=1)
    return Dataset(np.arange(len(ids)), np.zeros(len(ids), np.int32), ids.astype(np.int32))


def first_of_each(dataset, count):
    """Indices of the first `count` samples of each group."""
    ids = np.asarray(dataset.group_ids)[:, 0]
    return np.concatenate([np.flatnonzero(ids == g)[:count] for g in np.unique(ids)])


def splits_of(dataset, test, **options):
    names = [f"g{i}" for i in range(int(dataset.group_ids.max()) + 1)]
    return data.make_splits(dataset, 1, names, test_indices=test, **options)


def by_split(splits):
    return {name: getattr(splits, name).inputs for name in data.SPLITS}


def test_test_split_of_the_digits_is_scikit_learns(digits_splits):
    whole = data.load("digits")
    _, inputs, _, labels = train_test_split(
        whole.inputs, whole.labelled()[0], test_size=0.3, random_state=0
    )
    order = np.argsort(train_test_split(np.arange(1797), test_size=0.3, random_state=0)[1])
    np.testing.assert_array_equal(digits_splits.test.inputs, inputs[order])
    np.testing.assert_array_equal(digits_splits.test.labels, labels[order])
    np.testing.assert_array_equal(digits_splits.test.group_ids[:, 0], labels[order])


@pytest.mark.parametrize("fraction", [0.01, 0.3, 1 / 3, 0.8])
@pytest.mark.parametrize("size", [7, 100, 1797])
def test_random_test_splits_are_scikit_learns(size, fraction):
    for seed in range(3):
        [_, expected] = train_test_split(np.arange(size), test_size=fraction, random_state=seed)
        found = data.random_test_indices(size, fraction, seed)
        np.testing.assert_array_equal(found, np.sort(expected))


def test_the_file_of_the_digits_is_what_scikit_learn_reads():
    for found, expected in zip(digits._read_file(), digits._from_sklearn(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_digits_are_scaled_and_grouped_by_class():
    whole, (grouped, names) = data.load("digits"), data.load("digits").grouped_by("digit")
    assert whole.inputs.shape == (1797, 8, 8) and whole.inputs.dtype == np.float32
    assert (whole.inputs.min(), whole.inputs.max()) == (0, 1)
    assert names == tuple("0123456789")
    np.testing.assert_array_equal(grouped.group_ids[:, 0], whole.labelled()[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_are_disjoint_and_cover_everything(seed):
    dataset = samples((50, 9, 20))
    found = by_split(splits_of(dataset, first_of_each(dataset, 2), seed=seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(list(found.values()))), np.arange(79))


def test_each_sample_keeps_its_label_and_group():
    dataset = samples((12, 12))._replace(labels=np.arange(24, dtype=np.int32))
    splits = data.make_splits(dataset, 24, ("a", "b"), test_indices=first_of_each(dataset, 3))
    for split in (splits.train, splits.validation, splits.test):
        np.testing.assert_array_equal(split.labels, split.inputs)
        np.testing.assert_array_equal(split.group_ids, dataset.group_ids[split.inputs])


@pytest.mark.parametrize(
    ("fraction", "sizes", "expected"),
    [
        (0.15, (100, 40, 21, 12), [15, 6, 3, 2]),
        (0.15, (3, 2, 8), [1, 1, 1]),  # at least one of each
        (0.95, (3, 2, 100), [2, 1, 95]),  # and never all
        (0.5, (10, 6), [5, 3]),
    ],
)
def test_validation_is_stratified(fraction, sizes, expected):
    dataset = samples([size + 4 for size in sizes])
    splits = splits_of(dataset, first_of_each(dataset, 4), validation_fraction=fraction)
    counts = groups.group_counts(splits.validation.group_ids, len(sizes))
    np.testing.assert_array_equal(counts, expected)


def test_validation_of_the_digits_is_stratified(digits_splits):
    counts = [
        groups.group_counts(getattr(digits_splits, split).group_ids, 10)
        for split in ("train", "validation")
    ]
    np.testing.assert_array_equal(counts[1], [round(0.15 * n) for n in sum(counts)])


def test_validation_is_stratified_over_combinations():
    column = 2 + (np.arange(120) % 3 == 0)
    dataset = samples((80, 40), column)
    test = np.arange(12)
    splits = splits_of(dataset, test)
    rest = dataset.group_ids[12:]
    for combination in np.unique(rest, axis=0):
        n = (rest == combination).all(axis=1).sum()
        found = (splits.validation.group_ids == combination).all(axis=1).sum()
        assert found == round(0.15 * n)


def test_the_seed_fixes_the_splits():
    dataset = samples((50, 30))
    one, again, other = (
        by_split(splits_of(dataset, first_of_each(dataset, 5), seed=seed)) for seed in (3, 3, 4)
    )
    for name in data.SPLITS:
        np.testing.assert_array_equal(one[name], again[name])
    np.testing.assert_array_equal(one["test"], other["test"])
    assert set(one["validation"]) != set(other["validation"])
    assert set(one["train"]) != set(other["train"])


def test_random_test_indices_depend_on_their_own_seed():
    one, again, other = (data.random_test_indices(50, 0.3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (np.diff(one) > 0).all() and one.size == 15
    assert set(one) != set(other)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, np.nan])
def test_fractions_lie_between_0_and_1(fraction):
    message = rf"fraction must lie in \(0, 1\), got {fraction}"
    with pytest.raises(UserError, match=f"the validation {message}"):
        splits_of(samples((20,)), np.arange(3), validation_fraction=fraction)
    with pytest.raises(UserError, match=f"the test {message}"):
        data.random_test_indices(20, fraction, 0)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "the test split is empty"),
        ([1, 5, 1], "test indices must be distinct"),
        ([0, 20], r"test indices must lie in \[0, 19\]"),
        ([-1, 3], r"test indices must lie in \[0, 19\]"),
        (np.arange(20), "all samples are test samples"),
    ],
)
def test_wrong_test_indices(indices, message):
    with pytest.raises(UserError, match=message):
        splits_of(samples((20,)), np.array(indices, int))


@pytest.mark.parametrize(("in_test", "split"), [(0, "test"), (1, "validation"), (2, "train")])
def test_a_group_absent_from_a_split_is_named(in_test, split):
    """`in_test` of a group's two samples are test samples; a single other one is for training."""
    dataset = samples((20, 2))
    test = np.concatenate(
        [
            np.flatnonzero(dataset.group_ids[:, 0] == 0)[:3],
            np.flatnonzero(dataset.group_ids[:, 0] == 1)[:in_test],
        ]
    )
    with pytest.raises(UserError, match=f"no sample of group 'g1' in the {split} split"):
        splits_of(dataset, test)


@pytest.mark.parametrize(("is_test", "split"), [(True, "train"), (False, "validation")])
def test_a_group_of_one_sample_is_named(is_test, split):
    dataset = samples((20, 1))
    single = np.flatnonzero(dataset.group_ids[:, 0] == 1)
    test = np.concatenate([np.setdiff1d(np.arange(4), single), single[: int(is_test)]])
    with pytest.raises(UserError, match=f"no sample of group 'g1' in the {split} split"):
        splits_of(dataset, test)


def test_arrays_are_checked_before_they_are_split():
    dataset = samples((10, 10))
    with pytest.raises(UserError, match="group id 1 is out of range"):
        data.make_splits(dataset, 1, ("only",), test_indices=np.arange(2))


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown data set 'mnist'; known data sets: digits"):
        data.load("mnist")
