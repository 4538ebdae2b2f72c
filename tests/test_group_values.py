"""Values of groups and labels as people really have them: missing ones, bytes, mixed types."""

import datetime
import decimal
import json
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from flax import linen as nn

import bap_jax
from bap_jax import data, groups
from bap_jax.config import default_config, to_settings
from bap_jax.data.columns import attributes_of
from bap_jax.data.labels import as_labels, check_labels
from bap_jax.data.prepared import split_samples
from bap_jax.errors import UserError
from bap_jax.user_samples import read_samples

NAN = float("nan")
MISSING_ONE = {  # the second of three values is missing
    "NaN in a list": ["a", NAN, "b"],
    "None in a list": ["a", None, "b"],
    "NaN as NumPy writes it into texts": np.array(["a", np.nan, "b"]),
    "objects": np.array(["a", np.nan, "b"], object),
    "numbers": np.array([0.0, np.nan, 1.0]),
    "half precision": np.array([0.0, np.nan, 1.0], np.float16),
    "pandas' NA": ["a", pd.NA, "b"],
    "pandas' NaT": [datetime.date(2026, 1, 1), pd.NaT, datetime.date(2027, 1, 1)],
    "NumPy's NaT": np.array(["2026-01-01", "NaT", "2027-01-01"], "datetime64[D]"),
    "Decimal": [decimal.Decimal(1), decimal.Decimal("NaN"), decimal.Decimal(2)],
    "Series of objects": pd.Series(["a", None, "b"], dtype=object),
    "Series of texts": pd.Series(["a", None, "b"]),
    "Series of Int64": pd.Series([1, None, 2], dtype="Int64"),
    "Series of boolean": pd.Series([True, None, False], dtype="boolean"),
    "Series of categories": pd.Series(["a", None, "b"], dtype="category"),
    "Series of numbered categories": pd.Series([3, None, 1], dtype="category"),
    "Series of intervals": pd.cut(pd.Series([1, 99, 4]), [0, 2, 5]),
    "Categorical": pd.Categorical(["a", None, "b"]),
    "Index": pd.Index(["a", None, "b"]),
    "pyarrow": pa.array(["a", None, "b"]),
    "pyarrow, whole numbers": pa.array([1, None, 2]),
    "pyarrow, in chunks": pa.chunked_array([["a"], [None, "b"]]),
    "pyarrow, a dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "scalars of pyarrow": list(pa.array(["a", None, "b"])),
    "a mask": np.ma.masked_array(["a", "b", "b"], [False, True, False]),
    "a mask of numbers": np.ma.masked_array([0, 1, 2], [False, True, False]),
    "masked in a list": ["a", np.ma.masked, "b"],
    "an empty text": ["a", "", "b"],
    "a blank": ["a", " ", "b"],
    "empty bytes": np.array([b"a", b"", b"b"]),
    "NULL": ["a", "NULL", "b"],
    "nan": ["a", "nan", "b"],
    "NaN": ["a", "NaN", "b"],
    "<NA>": np.array(["a", "<NA>", "b"]),
    "N/A": ["a", "N/A", "b"],
    "None": np.array(["a", None, "b"]).astype(str),
}
each = pytest.mark.parametrize("values", MISSING_ONE.values(), ids=MISSING_ONE)


@each
def test_a_missing_value_is_an_error_that_names_its_row(values):
    text = r"group names: some samples have no group name .*: 1 of 3 \(row 1, counted from 0\)"
    with pytest.raises(UserError, match=text + r"\. Give every sample a name, .* missing='group'"):
        groups.encode(values)


@each
def test_a_missing_value_may_be_a_group_that_comes_last(values):
    found = groups.encode(values, missing="group")
    assert len(found.names) == 3 and found.names[-1] == "missing"
    assert found.ids[:, 0].tolist() in ([0, 2, 1], [1, 2, 0])


@pytest.mark.parametrize("values", [["b", "a", " a", "a "], np.array(["a", "b", "a\t"])], ids=str)
def test_names_that_differ_in_blanks_stay_apart_with_a_warning(values):
    with pytest.warns(
        UserWarning,
        match=r"only in the blanks around them.*: 'a', 'a\\t'\. If|: ' a', 'a', 'a '\. If",
    ):
        found = groups.encode(values)
    assert set(found.names) == set(values)


def test_blanks_within_names_are_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups.encode(["a b", "ab", " c"])


def test_a_column_of_a_source_warns_of_names_that_differ_in_blanks():
    columns = {"label": np.arange(3) % 2, "site": np.array(["a", "a ", "b"])}
    with pytest.warns(UserWarning, match="the column 'site' hold.*'a', 'a '"):
        attributes_of(columns, "mine.npz")


KNOWN = ["never", "b", "a", "missing"]


def read(values, known, missing="error"):
    x = np.zeros((len(values), 2), np.float32)
    options = {"group_by": "", "missing": missing, "known_groups": known}
    return read_samples(x, np.zeros(len(values), int), values, "", "none", **options)


def test_known_groups_without_any_sample_are_left_out_with_a_warning():
    text = (
        "no sample at all is in group 'never', 'missing'; left out. .* without: 0 is 'b', 1 is 'a'"
    )
    with pytest.warns(UserWarning, match=text):
        found = read(["a", "b", "a"], KNOWN)
    assert found.group_names == ("b", "a")
    assert found.data.group_ids[:, 0].tolist() == [1, 0, 1]


def test_known_groups_that_all_occur_keep_their_order_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(["a", "b", "a"], ["b", "a"]).group_names == ("b", "a")


def test_a_known_group_that_is_missing_in_one_split_stays_an_error():
    samples = read(["a", "b", "a", "a", "a"], ["a", "b"])
    split = {"test_indices": np.array([0, 1]), "validation_indices": np.array([2])}
    with pytest.raises(UserError, match="no sample of group 'b' in the train split"):
        split_samples(samples, 2, **split)


def test_the_first_rows_are_named_and_the_others_counted():
    values = ["a", *7 * [None], "b"]
    with pytest.raises(
        UserError, match=r"7 of 9 \(rows 1, 2, 3, 4, 5 and 2 more, counted from 0\)"
    ):
        groups.encode(values)


@pytest.mark.parametrize(
    ("values", "called", "order"),
    [
        ([b"b", b"a"], ["b", "a"], "ascending"),
        (np.array([b"b", b"\xc3\xa4"]), ["b", "ä"], "as given"),
        ([b"a", "a"], ["a", "a"], "one"),
        (np.array([1.0, 0.0]), ["1", "0"], "ascending"),
        (np.array([1.0, 0.0], np.float32), ["1", "0"], "ascending"),
        (np.array([10.0, 2.5]), ["10.0", "2.5"], "ascending"),
        ([10, 9], ["10", "9"], "ascending"),
        ([10, 9.0], ["10", "9"], "ascending"),
        ([jnp.array(1), jnp.array(0)], ["1", "0"], "ascending"),
        (jnp.array([1, 0]), ["1", "0"], "ascending"),
        (pd.Series([10, 9], dtype="Int64"), ["10", "9"], "ascending"),
        (pd.Series([10, 9], index=[7, 8]), ["10", "9"], "ascending"),
        (pd.Series(pd.Categorical(["b", "a"])), ["b", "a"], "ascending"),
        (pa.array([2**60 + 1, 5]), [str(2**60 + 1), "5"], "ascending"),
        (np.ma.masked_array(["a", "b"], [False, False]), ["a", "b"], "as given"),
        ([datetime.date(2027, 1, 1), datetime.date(2026, 1, 1)], ["2027-01-01", "2026-01-01"], ""),
        (["nano", "Nancy"], ["nano", "Nancy"], ""),
        (["none", "?"], ["none", "?"], ""),
        (["a\nb", "<b>$5_a^2\\&"], ["a\nb", "<b>$5_a^2\\&"], ""),
    ],
    ids=str,
)
def test_what_groups_are_called(values, called, order):
    found = groups.encode(values)
    assert [found.names[i] for i in found.ids[:, 0]] == called
    expected = {"one": called[:1], "as given": called}.get(order, called[::-1])
    assert list(found.names) == expected


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (np.array([1, "a"], object), ("1", "a")),
        ([1, "a", "1"], ("1", "a")),
        ([True, 1, "True"], ("1", "True")),
        ([1.0, "1"], ("1",)),
        ([b"1", 1], ("1",)),
        ([datetime.date(2026, 1, 1), "a"], ("2026-01-01", "a")),
    ],
    ids=str,
)
def test_mixed_types_are_compared_as_text_with_a_warning(values, names):
    with pytest.warns(UserWarning, match="mix values of different types .* compared as text"):
        assert groups.encode(values).names == names


def test_missing_ones_are_no_mixture():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert groups.encode([1, None, NAN, pd.NA], missing="group").names == ("1", "missing")


def test_a_group_that_is_called_missing_is_another_one():
    found = groups.encode(["missing", None], missing="group")
    assert found.names == ("missing", "missing (no value)")
    assert groups.encode([None, "a"], ("missing", "a"), missing="group").ids.tolist() == [[0], [1]]


def test_known_names_say_what_is_a_name():
    assert groups.encode(["None", "mild"], ("None", "mild")).ids.tolist() == [[0], [1]]
    with pytest.raises(UserError, match="If 'None' is a name, list it with the others in known_g"):
        groups.encode(["None", "mild"])
    assert groups.encode(["a", None], ("a", "b"), missing="group").names == ("a", "b", "missing")
    assert groups.encode([0.0, 1.0], ("0.0", "1.0")).ids.tolist() == [[0], [1]]
    assert groups.encode([0.0, 1.0], (1, 0)).ids.tolist() == [[1], [0]]
    with pytest.raises(UserError, match="known names must not hold None"):
        groups.encode(["a"], ("a", None))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"a"}, "must hold one name for each sample, in order; got {"),
        ([("a", "x"), ("b", "y")], "hold tuples; pass several attributes as a dict of columns"),
        (pd.DataFrame({"a": [1, 2]}), r"got shape \(2, 1\)\. Pass several attributes as a dict"),
        ([["a"], ["b"]], r"row 0 \(from 0\) holds \['a'\]"),
        ([b"caf\xe9"], r"holds b'caf\\xe9', which is not UTF-8; decode it"),
        (["a\0", "a"], r"the name 'a\\x00' holds a NUL character"),
    ],
    ids=str,
)
def test_what_is_no_column_of_names(values, text):
    with pytest.raises(UserError, match=text):
        groups.encode(values)


def test_the_option_has_two_values():
    with pytest.raises(UserError, match="missing must be 'error' or 'group'; got 'drop'"):
        groups.encode(["a"], missing="drop")
    config = json.loads(default_config().to_json())
    config["data"]["missing"] = "drop"
    with pytest.raises(UserError, match="config.data.missing must be error or group; got 'drop'"):
        to_settings(config)


@pytest.mark.parametrize(
    "labels",
    [
        [0, None, 1],
        [0, NAN, 1],
        np.array([0, np.nan, 1]),
        pd.Series([0, None, 1], dtype="Int64"),
        pa.array([0, None, 1]),
        np.ma.masked_array([0, 1, 1], [False, True, False]),
        np.array(["0", "nan", "1"]),
        np.array([[0, 1], [np.nan, 1], [1, 1]]),
        np.ma.masked_array([[0, 1], [1, 1], [1, 1]], [[False, False], [True, False], [False] * 2]),
    ],
    ids=str,
)
def test_a_missing_label_is_an_error_that_names_its_row(labels):
    with pytest.raises(UserError, match=r"labels are missing .* in 1 of 3 samples: row 1, counted"):
        check_labels(as_labels(labels), 2)


@pytest.mark.parametrize(
    "labels",
    [
        [2, 0],
        np.array([2, 0], object),
        pd.Series([2, 0], dtype="Int64"),
        pa.array([2, 0]),
        np.ma.masked_array([2, 0]),
        jnp.array([2, 0]),
        [jnp.array(2), jnp.array(0)],
    ],
    ids=str,
)
def test_whole_labels_of_any_library_are_integers(labels):
    found = as_labels(labels)
    assert found.dtype.kind == "i" and found.tolist() == [2, 0]


def load_npz(folder, **columns):
    count = len(next(iter(columns.values())))
    arrays = {"inputs": np.zeros((count, 2)), "label": np.arange(count) % 2, **columns}
    np.savez(folder / "mine.npz", **arrays)
    return data.load("npz", data.Request(str(folder / "mine.npz")))


@pytest.mark.parametrize(
    "column",
    [np.array(["a", "nan", "b"]), np.array([b"a", b"", b"b"]), np.array([0.0, np.nan, 1.0])],
    ids=str,
)
def test_arrays_in_a_file(column, tmp_path):
    found = load_npz(tmp_path, race=column, sex=np.array(["m", "f", "m"]))
    with pytest.raises(UserError, match=r"mine.npz: the column 'race': .* 1 of 3 \(sample 1\)"):
        found.grouped_by("sex+race")
    assert found.grouped_by("race", missing="group")[1][-1] == "missing"
    assert found.grouped_by("sex")[1] == ("f", "m")


def test_bytes_and_whole_floats_in_a_file(tmp_path):
    columns = {"race": np.array([b"b", b"a", b"b"]), "label": np.array([0.0, 2.0, 2.0])}
    found = load_npz(tmp_path, **columns, split=np.array([b"train", b"test", b"validation"]))
    assert found.attributes["race"].names == ("a", "b")
    assert found.labelled()[0].tolist() == [0, 2, 2] and found.labelled()[1] == ("0", "1", "2")
    assert found.test_indices.tolist() == [1]


def sample(race, label=0):
    return {"inputs": np.zeros(2), "label": label, "race": race}


@pytest.mark.parametrize("race", [None, NAN, "", "NULL", b"", pd.NA, np.ma.masked], ids=str)
def test_an_object(race):
    found = data.source_from([sample("a"), sample(race, 1), sample(b"b")])
    with pytest.raises(UserError, match=r"the object: the column 'race': .* 1 of 3 \(sample 1\)"):
        found.grouped_by("race")
    assert found.grouped_by("race", missing="group")[1] == ("a", "b", "missing")


def test_labels_of_an_object():
    for label in (None, NAN, "nan"):
        with pytest.raises(
            UserError, match=r"column 'label': .*\(sample 1\)\. Give every sample a la"
        ):
            data.source_from([sample("a"), sample("a", label)])
    boxed = data.source_from([sample("a", jnp.array(0)), sample("a", jnp.array(2))])
    assert boxed.labelled()[0].tolist() == [0, 2]
    with pytest.warns(UserWarning, match="the column 'race' mix values of different types"):
        assert data.source_from([sample("a"), sample(1, 1)]).attributes["race"].names == ("1", "a")
    with pytest.raises(UserError, match=r"column 'split': .*\(sample 1\)\. Fill it"):
        data.source_from([sample("a") | {"split": "train"}, sample("a") | {"split": None}])


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(4)(x)))


def arguments(**changes):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    group_names = np.array(["a", "b", None] * 20)
    variables = {"params": {}}
    whole = {"labels": np.arange(60) % 2, "group_names": group_names, "variables": variables}
    return {"network": Net(), "inputs": x, "test_indices": np.arange(0, 60, 4), **whole, **changes}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "group names: some samples have no group name .*20 of 60"),
        (
            {"group_names": {"race": ["a", NAN] * 30, "sex": ["m", "f"] * 30}},
            r"group_names\['race'\]: some samples",
        ),
        ({"labels": [0, 1, None] * 20, "missing": "group"}, "labels are missing .* in 20 of 60"),
        ({"missing": "drop"}, "missing must be 'error' or 'group'"),
    ],
)
def test_prune_and_tune_refuses_what_is_missing(changes, text):
    with pytest.raises(UserError, match=text):
        bap_jax.prune_and_tune(**arguments(**changes))


@pytest.mark.parametrize("table", [pd.DataFrame, pa.table])
def test_group_names_may_be_a_table(table):
    columns = {"race": ["a", "b"] * 30, "sex": ["m", "f", "f"] * 20, "unused": [None] * 60}
    options = {"group_by": "race+sex", "missing": "error", "known_groups": None}
    samples = read_samples(np.ones((60, 3)), [0] * 60, table(columns), "", "none", **options)
    assert samples.group_names == ("a", "b", "f", "m")
    assert samples.data.group_ids[:3].tolist() == [[0, 3], [1, 2], [0, 2]]


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (["no", "yes"], r"np\.unique\(labels, return_inverse=True\)\[1\]"),
        ([b"0", b"1"], r"np\.unique"),
        ([0.0, 1.0], r"float64 of shape \(2,\)\. Write labels\.astype\(int\)\. For labels of"),
        ([False, True], r"Write labels\.astype\(int\)"),
        ([0.5, 1.0], r"float64 of shape \(2,\)\. For labels of another kind"),
    ],
)
def test_labels_of_one_class_each_that_are_no_class_ids(labels, advice):
    with pytest.raises(UserError, match=advice):
        check_labels(as_labels(np.array(labels)), 2)


def test_a_column_that_nobody_groups_by_may_miss_values():
    """Then the error is about what comes next: the network has no weights."""
    columns = {"race": ["a", NAN] * 30, "sex": ["m", "f"] * 30}
    with pytest.raises(UserError) as error:
        bap_jax.prune_and_tune(**arguments(group_names=columns, group_by="sex"))
    assert "the network cannot be applied" in str(error.value)
