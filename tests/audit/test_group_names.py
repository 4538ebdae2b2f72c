import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bap_jax._tables import names
from bap_jax.audit.group_names import encode_names
from bap_jax.errors import UserError


def named(values):
    """The name of each sample's group, and how many samples have none."""
    grouping, missing = encode_names(values)
    assert grouping.ids.shape == (len(values), 1)
    assert set(grouping.ids[:, 0]) == set(range(len(grouping.names)))
    return [grouping.names[i] for i in grouping.ids[:, 0]], missing


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["b", "a", "b"], ["b", "a", "b"]),
        (np.array(["b", "a", "b"]), ["b", "a", "b"]),
        (np.array([b"b", b"\xc3\xa4", b"b"]), ["b", "ä", "b"]),
        ([b"b", "b"], ["b", "b"]),
        ([3, -1, 3], ["3", "-1", "3"]),
        (np.array([3, -1, 3], np.int8), ["3", "-1", "3"]),
        (np.array([True, False, True]), ["True", "False", "True"]),
        (np.array([0.5, 1.0, 0.5]), ["0.5", "1.0", "0.5"]),
        ([1, "1", 1.0, True, np.int64(1)], ["1", "1", "1", "True", "1"]),
        ([(1, 2), (1, 2)], ["(1, 2)", "(1, 2)"]),
        (np.array(["2026-01-02", "2025-01-02"], "datetime64[D]"), ["2026-01-02", "2025-01-02"]),
        (pd.Series(["b", "a", "b"], dtype="category"), ["b", "a", "b"]),
        (pd.Series(["b", "a", "b"], dtype="string"), ["b", "a", "b"]),
    ],
    ids=str,
)
def test_names_are_text(values, expected):
    assert named(values) == (expected, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", None, "", "  ", float("nan"), np.nan], ["a", *5 * ["missing"]]),
        (["a", pd.NA, pd.NaT], ["a", *2 * ["missing"]]),
        (np.array(["a", ""]), ["a", "missing"]),
        (np.array([2.0, np.nan, 1.0]), ["2", "missing", "1"]),
        ([2, None, 1], ["2", "missing", "1"]),
        (np.array(["2026-01-02", "NaT"], "datetime64[D]"), ["2026-01-02", "missing"]),
        (pd.Series([2, None, 1]), ["2", "missing", "1"]),
        (pd.Series([2, None, 1], dtype="Int64"), ["2", "missing", "1"]),
        (pd.Series(["a", None], dtype="string"), ["a", "missing"]),
        (pd.Series(["a", None], dtype="category"), ["a", "missing"]),
        (np.ma.masked_array(["a", "b", "a"], [False, True, False]), ["a", "missing", "a"]),
        (np.ma.masked_array([1, 2, 1], [True, False, False]), ["missing", "2", "1"]),
        (["missing", None], ["missing", "missing (no value)"]),
        (pa.array(["a", None, "b"]), ["a", "missing", "b"]),
        (pa.chunked_array([["a"], [None]]), ["a", "missing"]),
    ],
    ids=str,
)
def test_samples_without_a_name_are_a_group_and_counted(values, expected):
    found, missing = named(values)
    assert found == expected
    assert missing == sum(name in ("missing", "missing (no value)") for name in expected) - (
        "missing (no value)" in expected
    )


def test_names_that_look_like_missing_ones_are_names():
    assert named(["nan", "None", "NA", "<NA>"]) == (["nan", "None", "NA", "<NA>"], 0)


def test_names_are_sorted_and_missing_is_last():
    assert encode_names(["z", None, "a", "missings"])[0].names == ("a", "missings", "z", "missing")


@given(st.lists(st.text(max_size=30).filter(lambda text: "\0" not in text), min_size=1))
def test_text_arrays_are_as_lists(values):
    assert named(np.array(values)) == named(values)


def test_two_texts_of_one_hash_are_two_groups(monkeypatch):
    monkeypatch.setattr(names, "_hashes", lambda array: np.zeros(len(array), np.uint64))
    assert named(np.array(["b", "a", "b"])) == (["b", "a", "b"], 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], r"one group name for each sample, shape \(sample,\); got shape \(0,\)"),
        (np.zeros((2, 3)), r"got shape \(2, 3\). Pass several attributes as a dict of columns"),
        ("abc", r"got shape \(\)"),
        ([b"caf\xe9"], r"race holds b'caf\\xe9', which is not UTF-8; decode it"),
        (["a", ["b"]], r"race must hold one group name for each sample; row 1 .* holds \['b'\]"),
    ],
)
def test_what_is_no_column_of_names_is_an_error(values, expected):
    with pytest.raises(UserError, match=expected):
        encode_names(values, "race")
