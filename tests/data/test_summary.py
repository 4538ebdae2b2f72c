"""The summary of the data before anything is trained."""

import numpy as np
import pytest

from bap_jax import data
from bap_jax.errors import UserError
from bap_jax.types import Dataset


def splits_of(inputs, labels, ids, names=("a", "b"), **options):
    samples = Dataset(inputs, np.asarray(labels, np.int32), np.asarray(ids, np.int32)[:, None])
    return data.make_splits(samples, 2, names, **options)


INPUTS = np.arange(12, dtype=np.float32)[:, None] * np.ones(3, np.float32)
LABELS = [0, 1] * 6
IDS = [0] * 8 + [1] * 4
SPLIT = {"test_indices": np.array([0, 1, 8]), "validation_indices": np.array([2, 3, 9])}


def test_counts_by_hand():
    found = data.summarize(splits_of(INPUTS, LABELS, IDS, **SPLIT), ("no", "yes"))
    assert found["splits"] == {"train": 6, "validation": 3, "test": 3}
    assert found["groups"] == [
        {"name": "a", "train": 4, "validation": 2, "test": 2},
        {"name": "b", "train": 2, "validation": 1, "test": 1},
    ]
    assert found["labels"][1] == {"name": "yes", "train": 3, "validation": 2, "test": 1}
    assert found["label_by_group"] == [[4, 2], [4, 2]]
    assert found["smallest_groups"] == ["b", "a"]
    assert found["duplicates"]["test_in_train"] == 0


def test_copies_are_found_wherever_they_are():
    inputs = INPUTS.copy()
    inputs[0] = inputs[5]  # test and train
    inputs[2] = inputs[6]  # validation and train
    inputs[3] = inputs[1]  # validation and test
    inputs[7] = inputs[10]  # both train
    found = data.summarize(splits_of(inputs, LABELS, IDS, **SPLIT), ("no", "yes"))["duplicates"]
    assert (found["test_in_train"], found["validation_in_train"]) == (1, 1)
    assert found["test_in_validation"] == 1
    assert found["within"] == {"train": 1, "validation": 0, "test": 0}


def test_digests_stand_for_inputs():
    splits = splits_of(INPUTS, LABELS, IDS, **SPLIT)
    digests = np.arange(12, dtype=np.uint64)
    digests[8] = digests[11]
    indices = data.split_indices(np.array(IDS)[:, None], **SPLIT)
    found = data.summarize(splits, ("no", "yes"), digests=digests, indices=indices)
    assert found["duplicates"]["test_in_train"] == 1


def test_what_is_not_in_memory_is_not_searched():
    records = data.Records(lambda row: INPUTS[row], np.arange(12), (3,), np.dtype(np.float32))
    found = data.summarize(splits_of(records, LABELS, IDS, **SPLIT), ("no", "yes"))
    assert found["duplicates"] is None
    assert "not looked for" in data.format_summary(found)


def test_labels_that_a_split_lacks_are_named():
    labels = [0, 0] + [0, 1] * 5
    found = data.summarize(splits_of(INPUTS, labels, IDS, **SPLIT), ("no", "yes"))
    text = data.format_summary(found)
    assert "Missing    label yes in the test split" in text and "in the train split" not in text


def test_the_text_tells_all():
    splits = splits_of(INPUTS, LABELS, IDS, **SPLIT)
    found = data.summarize(
        splits, ("no", "yes"), skipped=["x.jpg: torn", "y", "z", "w"], converted=3
    )
    text = data.format_summary(found)
    for split in (
        "train 6, validation 3, test 3",
        "             no         yes\n  a           4           4\n  b           2           2\n",
        "b (2), a (4) training samples",
        "3 images were grey",
        "4 samples: x.jpg: torn; y; z …",
    ):
        assert split in text


def test_wide_letters_take_two_columns():
    splits = splits_of(INPUTS, LABELS, IDS, **SPLIT)
    lines = data.format_summary(data.summarize(splits, ("no", "はい"))).splitlines()
    assert "             no        はい" in lines
    assert "  はい         " in "\n".join(lines) and "  no           " in "\n".join(lines)


def test_labels_that_are_the_groups_are_not_listed_twice():
    splits = splits_of(INPUTS, LABELS, LABELS, ("no", "yes"), **SPLIT)
    text = data.format_summary(data.summarize(splits, ("no", "yes")))
    assert "Labels     the same as the groups\nGroups     2\n" in text
    assert text.count("  yes ") == 1
    crossed = splits_of(INPUTS, LABELS, [1, 0] * 6, ("no", "yes"), **SPLIT)
    assert data.format_summary(data.summarize(crossed, ("no", "yes"))).count("  yes ") == 3


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (
            {**SPLIT, "validation_indices": np.array([0, 3])},
            "sample 0 is in the validation and in the test split; splits must not share",
        ),
        ({**SPLIT, "validation_indices": np.array([3, 3])}, "validation indices must be distinct"),
        (
            {**SPLIT, "validation_indices": np.array([12])},
            r"validation indices must lie in \[0, 11\]",
        ),
        (
            {**SPLIT, "validation_indices": np.setdiff1d(np.arange(12), [0, 1, 8])},
            "all samples are validation or test samples; no training sample is left",
        ),
    ],
)
def test_splits_share_no_sample(split, text):
    with pytest.raises(UserError, match=text):
        splits_of(INPUTS, LABELS, IDS, **split)


def test_a_group_with_one_sample():
    with pytest.raises(UserError, match="no sample of group 'b' in the validation split"):
        splits_of(INPUTS, LABELS, [0] * 11 + [1], test_indices=np.array([0, 1]))
