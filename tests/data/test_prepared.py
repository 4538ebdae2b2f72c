"""From a source to splits and their summary."""

import numpy as np
import pytest

from bap_jax import data, groups
from bap_jax.data.prepared import Samples, require_one_split, samples_of, split_samples
from bap_jax.errors import UserError
from bap_jax.types import Dataset

SPLIT = {"test_indices": np.array([0, 1, 8]), "validation_indices": np.array([2, 3, 9])}


def source(**changes):
    attributes = {
        "label": groups.encode(["no", "yes"] * 6),
        "site": groups.encode(["a"] * 8 + ["b"] * 4),
    }
    inputs = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 3), np.uint8)
    scale = data.PixelScale((0.5,) * 3, (0.25,) * 3)
    return data.Source(inputs, attributes, "label", scale=scale)._replace(**changes)


def test_a_source_becomes_splits_and_a_summary():
    samples = samples_of(source(skipped=["x.jpg: torn"], converted=2), "site", augmentation="flip")
    assert samples.class_names == ("no", "yes") and samples.group_names == ("a", "b")
    assert samples.preprocess is not None
    prepared = split_samples(samples, 2, **SPLIT)
    for name, indices in prepared.indices.items():
        split = getattr(prepared.splits, name)
        np.testing.assert_array_equal(split.inputs[:, 0, 0, 0], indices)
    summary = prepared.summary()
    assert summary["splits"] == {"train": 6, "validation": 3, "test": 3}
    assert [row["name"] for row in summary["labels"]] == ["no", "yes"]
    assert summary["skipped"] == ["x.jpg: torn"] and summary["converted"] == 2


def test_another_label():
    samples = samples_of(source(), "label", target="site")
    assert samples.class_names == ("a", "b") and samples.group_names == ("no", "yes")


def test_digests_of_a_source_find_duplicates():
    digests = np.arange(12, dtype=np.uint64)
    digests[8] = digests[11]  # a test and a training sample
    prepared = split_samples(samples_of(source(digests=digests), "site"), 2, **SPLIT)
    assert prepared.summary()["duplicates"]["test_in_train"] == 1
    without = split_samples(samples_of(source(), "site"), 2, **SPLIT)
    assert without.summary()["duplicates"]["test_in_train"] == 0


@pytest.mark.parametrize(
    ("known", "names"),
    [((), ["0", "1", "2"]), (("no", "yes"), ["no", "yes", "2"])],
)
def test_classes_without_a_name_are_called_by_their_ids(known, names):
    """As where a network has more logits than the data have classes."""
    whole = samples_of(source(), "site")
    prepared = split_samples(Samples(whole.data, whole.group_names, known), 3, **SPLIT)
    assert [row["name"] for row in prepared.summary()["labels"]] == names


def test_names_beyond_the_classes_are_left_out():
    labels = np.array([0, 1] * 6)
    samples = Dataset(np.zeros((12, 2)), labels, np.zeros((12, 1), int))
    prepared = split_samples(Samples(samples, ("all",), ("no", "yes", "maybe")), 2, **SPLIT)
    assert [row["name"] for row in prepared.summary()["labels"]] == ["no", "yes"]


def test_a_split_is_defined_exactly_once():
    texts = {"if_both": "two splits", "if_neither": "no split"}
    with pytest.raises(UserError, match="two splits"):
        require_one_split(np.arange(2), 0.5, **texts)
    with pytest.raises(UserError, match="no split"):
        require_one_split(None, None, **texts)
    require_one_split(np.arange(2), None, **texts)
    require_one_split(None, 0.5, **texts)
