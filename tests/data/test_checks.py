"""Each mistake in the arrays is found, and its message says where."""

import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import data
from bap_jax.data.checks import check_groups_present
from bap_jax.errors import UserError
from bap_jax.types import Dataset

NAMES = ("a", "b", "c")


def good():
    """Six samples, two classes, two attributes over three groups."""
    ids = np.array([[0, 2], [1, 2], [0, 2], [1, 2], [0, 2], [1, 2]], np.int32)
    return Dataset(np.ones((6, 2, 2), np.float32), np.array([0, 1, 0, 1, 0, 1]), ids)


def check(dataset):
    data.check_dataset(dataset, 2, NAMES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, bool])
def test_good_data_pass(dtype):
    check(good()._replace(inputs=good().inputs.astype(dtype)))


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({"inputs": np.ones((5, 4))}, "inputs 5, labels 6, groups 6"),
        ({"labels": np.zeros(7, int)}, "inputs 6, labels 7, groups 6"),
        ({"group_ids": np.zeros((4, 1), int)}, "inputs 6, labels 6, groups 4"),
    ],
)
def test_lengths_differ(changes, lengths):
    with pytest.raises(UserError, match=f"must have one entry for each sample; got {lengths}"):
        check(good()._replace(**changes))


@pytest.mark.parametrize("shape", [(6,), (6, 1, 1)])
def test_ids_need_an_attribute_axis(shape):
    with pytest.raises(UserError, match=r"shape \(sample, attribute\), got int32 of shape \(6,"):
        check(good()._replace(group_ids=np.zeros(shape, np.int32)))


def test_inputs_are_numbers():
    with pytest.raises(UserError, match="inputs must be numbers; got an array of <U"):
        check(good()._replace(inputs=np.full((6, 4), "a")))


def test_group_ids_are_integers():
    with pytest.raises(UserError, match=r"group_ids must be integers.*got float64 of shape \(6, 1"):
        check(good()._replace(group_ids=np.zeros((6, 1))))


def test_single_numbers_are_no_samples():
    with pytest.raises(UserError, match="one entry for each sample; got a single number"):
        check(good()._replace(labels=np.int32(3)))


def test_nan_in_half_precision_is_found():
    inputs = jnp.ones((6, 4), jnp.bfloat16).at[3, 1].set(jnp.nan)
    with pytest.raises(UserError, match="1 NaN or Inf values, first in sample 3"):
        check(good()._replace(inputs=inputs))


@pytest.mark.parametrize(
    ("labels", "conversion"),
    [
        (
            np.array(list("abcabc")),
            r"np\.unique\(labels, return_inverse=True\)\[1\] if they are names",
        ),
        (np.array([0.0, 1.0, 2.0] * 2), r"labels\.astype\(int\)"),
        (np.array([True, False] * 3), r"labels\.astype\(int\)"),
        (np.array([[0], [1], [2]] * 2), r"labels\[:, 0\]"),
        (np.eye(3)[[0, 1, 2] * 2], r"labels\.argmax\(1\) if they are one-hot"),
    ],
)
def test_class_ids_in_another_form(labels, conversion):
    with pytest.raises(UserError, match=f"got .*Write {conversion}. For labels of another kind"):
        check(good()._replace(labels=labels))


@pytest.mark.parametrize("labels", [[0.5, 1, 2, 0, 1, 2], [np.inf, 1, 2, 0, 1, 2], [[1, 1]] * 6])
def test_numbers_that_are_no_class_ids(labels):
    with pytest.raises(UserError, match=r"got [^.]*\. For labels of another kind"):
        check(good()._replace(labels=np.array(labels)))


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (np.zeros(6), r"float64 of shape \(6,\)"),
        (np.zeros(6, bool), r"bool of shape \(6,\)"),
        (np.zeros((6, 2), np.int32), r"int32 of shape \(6, 2\)"),
    ],
)
def test_labels_are_integer_class_ids(labels, got):
    with pytest.raises(UserError, match=f"labels must be integer class ids.*got {got}"):
        check(good()._replace(labels=labels))


@pytest.mark.parametrize("value", [-1, 2, 255])
def test_labels_out_of_range(value):
    labels = good().labels
    labels[3] = value
    with pytest.raises(
        UserError, match=rf"label {value} is out of range: with 2 classes labels .* \[0, 1\]"
    ):
        check(good()._replace(labels=labels))


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("value", [-1, 3])
def test_group_ids_out_of_range(value, column):
    ids = good().group_ids
    ids[5, column] = value
    with pytest.raises(
        UserError, match=rf"group id {value} is out of range: with 3 groups group ids .* \[0, 2\]"
    ):
        check(good()._replace(group_ids=ids))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sample", [0, 4])
def test_inputs_that_are_not_finite(value, dtype, sample):
    inputs = good().inputs.astype(dtype)
    inputs[sample, 1, 0] = inputs[5, 1, 1] = value
    with pytest.raises(UserError, match=f"hold 2 NaN or Inf values, first in sample {sample};"):
        check(good()._replace(inputs=inputs))


def test_groups_that_are_all_there_pass():
    check_groups_present("train", good(), NAMES)


@pytest.mark.parametrize(
    ("names", "missing"), [((*NAMES, "d"), "'d'"), ((*NAMES, "d", "e"), "'d', 'e'")]
)
def test_groups_missing_in_a_split_are_named(names, missing):
    with pytest.raises(
        UserError, match=rf"no sample of group {missing} in the test split \(6 samples\)"
    ):
        check_groups_present("test", good(), names)


@pytest.mark.parametrize(
    ("split", "advice"),
    [
        ("test", "List one of its samples in test_indices .*choose a larger"),
        ("train", "Leave at least two of its samples out of test_indices .*choose a smaller"),
        ("validation", "Leave at least two of its samples out of test_indices .*choose a smaller"),
    ],
)
def test_what_to_write_for_a_group_that_a_split_lacks(split, advice):
    one = good()._replace(inputs=np.ones((1, 2)), labels=np.zeros(1, int))
    one = one._replace(group_ids=np.array([[0, 2]], np.int32))
    text = rf"group 'b' in the {split} split \(1 sample\).*{advice}.*\(group_by=, in a config "
    with pytest.raises(UserError, match=text):
        check_groups_present(split, one, NAMES)


def test_ids_out_of_range_are_named_by_their_rows():
    labels = np.array([0, 1, -4, 1, 0, 2])
    text = r"label -4 is out of range: .* 2 of 6 samples lie outside: rows 2, 5, counted from 0\."
    with pytest.raises(UserError, match=text):
        check(good()._replace(labels=labels))
    ids = good().group_ids.copy()
    ids[4] = 7
    with pytest.raises(UserError, match=r"group id 7 .* 1 of 6 samples lies outside: row 4, count"):
        check(good()._replace(group_ids=ids))
