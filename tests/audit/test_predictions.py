"""One table with both models' predictions: formats, columns, names of classes, missing values."""

import gzip
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bap_jax.audit.columns import Wanted
from bap_jax.audit.predictions import read_predictions
from bap_jax.errors import UserError
from tests.audit.prediction_files import write_table, write_text

FORMATS = (".csv", ".tsv", ".parquet", ".npz")
LABEL, DENSE, SPARSE = ["cat", "dog", "cat", "cow"], ["cat", "cat", "cat", "cow"], ["cat"] * 4
GROUP = ["a", "b", "a", "b"]
DENSE_CORRECT, SPARSE_CORRECT = [True, False, True, True], [True, False, True, False]


def read(path, **wanted):
    return read_predictions(path, Wanted(**wanted))


def check(samples, dense=DENSE_CORRECT, sparse=SPARSE_CORRECT, **groups):
    assert samples.dense_correct.tolist() == dense
    assert samples.sparse_correct.tolist() == sparse
    assert {name: column.tolist() for name, column in samples.groups.items()} == groups


@pytest.mark.parametrize("suffix", FORMATS)
def test_class_names(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    write_table(path, label=LABEL, dense=DENSE, sparse=SPARSE, group=GROUP)
    samples = read(path)
    check(samples, group=GROUP)
    assert samples.files == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    assert samples.source == f"{path}: label, dense, sparse"


@pytest.mark.parametrize("suffix", FORMATS)
def test_class_ids(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    write_table(path, y=[0, 1, 0, -2], dense_pred=[0, 0, 0, -2], pruned=[0, 0, 0, 0], group=GROUP)
    check(read(path), group=GROUP)


@pytest.mark.parametrize("suffix", FORMATS)
def test_ids_that_were_stored_as_fractions(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    write_table(path, label=[0, 1, 0, 2], dense=[0.0, 0.0, 0.0, 2.0], sparse=["0"] * 4, group=GROUP)
    check(read(path), group=GROUP)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", [bool, int, float])
def test_right_or_wrong_in_place_of_predictions(tmp_path, suffix, kind):
    path = tmp_path / f"p{suffix}"
    dense, sparse = list(map(kind, DENSE_CORRECT)), list(map(kind, SPARSE_CORRECT))
    write_table(path, dense_correct=dense, sparse_correct=sparse, group=GROUP)
    check(read(path), group=GROUP)


def test_one_model_by_predictions_and_the_other_by_right_or_wrong(tmp_path):
    path = tmp_path / "p.csv"
    write_table(path, label=LABEL, dense=DENSE, sparse_correct=SPARSE_CORRECT, group=GROUP)
    check(read(path), group=GROUP)


def test_right_or_wrong_comes_before_predictions_unless_these_are_named(tmp_path):
    path = write_table(
        tmp_path / "p.csv",
        label=LABEL,
        dense=DENSE,
        sparse=SPARSE,
        dense_correct=[0] * 4,
        sparse_correct=[0] * 4,
        group=GROUP,
    )
    check(read(path), [False] * 4, [False] * 4, group=GROUP)
    check(read(path, label="label"), group=GROUP)


SCORES = np.array([[3.0, 1, 2], [3, 1, 2], [1, 0, 0.5], [-9, -3, -2]])
TIED = np.array([[3.0, 3, 2], [3, 3, 3], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_scores_of_all_classes(tmp_path, suffix):
    """The first of several highest scores counts."""
    path, columns = tmp_path / f"p{suffix}", {"label": [0, 1, 0, 2], "group": GROUP}
    if suffix == ".npz":
        write_table(path, **columns, dense_logits=SCORES, sparse_logits=TIED)
    else:
        write_table(path, **columns, dense=SCORES.tolist(), sparse=TIED.tolist())
    check(read(path), group=GROUP)


def test_scores_with_class_names(tmp_path):
    classes = ["cat", "dog", "cow"]
    path = tmp_path / "p.npz"
    write_table(path, label=LABEL, dense=SCORES, sparse=[0] * 4, classes=classes, group=GROUP)
    check(read(path), group=GROUP)
    write_table(path, label=[0, 1, 0, 2], dense=SCORES, sparse=SPARSE, classes=classes, group=GROUP)
    check(read(path), group=GROUP)
    write_table(path, label=[0, 1, 0, 3], dense=SCORES, sparse=SPARSE, classes=classes, group=GROUP)
    with pytest.raises(UserError, match=r"'label' holds the class id 3; 'classes' names 3 classes"):
        read(path)
    write_table(path, label=LABEL, dense=SCORES, sparse=SPARSE, classes=classes[:2], group=GROUP)
    with pytest.raises(UserError, match=r"'dense' has shape \(4, 3\).* expected 2 classes"):
        read(path)


@pytest.mark.parametrize("form", ["dense_{}", "dense_logits_{}", "probs_dense_{}"])
def test_scores_in_columns(tmp_path, form):
    columns = {form.format(i): SCORES[:, i] for i in range(3)}
    path = write_table(
        tmp_path / "p.csv", label=[0, 1, 0, 2], **columns, sparse=[0] * 4, group=GROUP
    )
    check(read(path), group=GROUP)


@pytest.mark.parametrize("flag", ["d *", "d cat,d dog,d cow"])
def test_scores_in_columns_that_are_named(tmp_path, flag):
    columns = {f"d {name}": SCORES[:, i] for i, name in enumerate(["cat", "dog", "cow"])}
    path = write_table(tmp_path / "p.csv", label=LABEL, **columns, sparse=SPARSE, group=GROUP)
    check(read(path, dense=flag), group=GROUP)
    with pytest.raises(UserError, match=r"--dense=e\*: expected two columns or more"):
        read(path, dense="e*")


@pytest.mark.parametrize("suffix", FORMATS)
def test_groups(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    columns = {
        "label": LABEL,
        "dense": DENSE,
        "sparse": SPARSE,
        "race": GROUP,
        "age": [7, 7, -8, 7],
    }
    write_table(path, **columns)
    age = ["7", "7", "-8", "7"]
    check(read(path, group_by="race*age"), race=GROUP, age=age)
    check(read(path, group_by="race + age*race"), race=GROUP, age=age)
    check(read(path, groups=("age",)), age=age)
    check(read(path, group_by="label"), label=LABEL)
    with pytest.raises(
        UserError, match=r"name the columns .*race\*gender.* label, dense, sparse, r"
    ):
        read(path)
    with pytest.raises(UserError, match="no column 'rase' .did you mean 'race'.* label, dense"):
        read(path, group_by="rase*age")


@pytest.mark.parametrize("nothing", ["", " ", "NA", "NaN", "nan", "null", "<NA>", "None"])
def test_groups_without_a_value(tmp_path, nothing):
    path = write_text(
        tmp_path / "p.csv",
        f"dense_correct,sparse_correct,group\n1,1, a \n1,0,{nothing}\n0,0,b\n",
    )
    check(read(path), [True, True, False], [True, False, False], group=["a", None, "b"])


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_numbers_without_a_value(tmp_path, suffix):
    group = [1.0, np.nan, 2.0] if suffix == ".npz" else pa.array([1.0, None, float("nan")])
    path = tmp_path / f"p{suffix}"
    write_table(path, dense_correct=[1, 1, 0], sparse_correct=[1, 0, 0], group=group)
    found = ["1", None, "2"] if suffix == ".npz" else ["1", None, None]
    check(read(path), [True, True, False], [True, False, False], group=found)


def test_categories_of_parquet(tmp_path):
    path = tmp_path / "p.parquet"
    group = pa.array(["a", None, "b"]).dictionary_encode()
    write_table(path, dense_correct=[1, 1, 0], sparse_correct=[1, 0, 0], group=group)
    check(read(path), [True, True, False], [True, False, False], group=["a", None, "b"])


def test_compressed_csv(tmp_path):
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress(b"dense_correct,sparse_correct,group\n1,0,a\n"))
    check(read(path), [True], [False], group=["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "label,dense,sparse,group\nx,x,x,a\n,x,x,a\nx,x,x,b\nNA,x,x,a\n",
            r"the label has no value "
            r"in 2 of 4 samples \(line 3, line 5\); leave these samples out",
        ),
        (
            "label,dense,sparse,group\nx,x,nan,a\n",
            "prediction of the sparse model has no value in 1 "
            r"sample \(line 2\)",
        ),
        (
            "dense_correct,sparse_correct,group\n1,0.5,a\n1,1,b\n",
            r"the column 'sparse_correct' holds "
            r"'0.5' in 1 sample \(line 2\); expected 0 \(wrong\) or 1 \(right\)",
        ),
        (
            "dense_correct,sparse_correct,group\n1,2,a\n" + "1,2,b\n" * 9,
            r"in 10 of 10 samples "
            r"\(line 2, line 3, line 4, line 5, line 6 and 5 more\)",
        ),
        ("dense_correct,sparse_correct,group\n,1,a\n", "'dense_correct' has no value in 1 sample"),
        (
            "label,dense,sparse,group\ncat,0,cat,a\ndog,1,dog,b\n",
            "prediction of the dense model: no prediction is "
            "one of the labels: labels are cat, dog; predictions are 0, 1. Write both as",
        ),
        (
            "label,dense,group\ncat,cat,a\n",
            "no column with what the sparse model predicts.* "
            "--sparse=COLUMN or --sparse-correct=COLUMN; the columns are label, dense, group",
        ),
        ("dense,sparse,group\ncat,cat,a\n", "has no column of labels; name it by --label=COLUMN"),
        (
            "label,y,dense,sparse,group\n1,1,1,1,a\n",
            "several columns could be meant: label, y; write --label=label or --label=y",
        ),
        ("label,dense,sparse,group\n1,1,1,a\n1,1,1,a,b\n", "line 3 has 5 cells"),
        (
            "id,dense_correct,sparse_correct,group\n7,1,1,a\n8,1,1,a\n7,1,1,b\n",
            "1 id occurs more than once: 7; each sample must be there once. .*--id=''",
        ),
        (
            "id,dense_correct,sparse_correct,group\n7,1,1,a\n,1,1,a\n",
            "'id' has no value in 1 sample",
        ),
        (
            "label,dense_0,dense_1,sparse,group\n0,1,x,0,a\n",
            "the column 'dense_1' must hold numbers",
        ),
        ("label,dense_0,dense_1,sparse,group\n0,1,,0,a\n", r"'dense_1' has no value .*\(line 2\)"),
    ],
)
def test_mistakes_in_tables(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(write_text(tmp_path / "p.csv", text))


SINGLE = "label,dense,sparse_correct,group\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SINGLE + "1,0.87,1,a\n0,1.0,1,b\n",
            "holds 0.87, which is no class; .*threshold",
        ),
        (SINGLE + "1,-1e-3,1,a\n1,1,1,b\n", "dense model holds -1e-3, which is no class"),
        (
            "label,dense_1,dense_2,dense_3,sparse_correct,group\n17,17,4,5,1,a\n3,2,4,3,1,b\n",
            "there are scores of the classes 1, 2, 3, but none of the label '17'",
        ),
        ("label,dense_1,sparse_correct,group\n1,1,1,a\n", "no column with what the dense model"),
    ],
)
def test_predictions_of_another_kind_than_labels(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(write_text(tmp_path / "p.csv", text))


def test_classes_that_are_fractions(tmp_path):
    text = SINGLE + "0.5,0.5,1,a\n1.5,0.5,1,b\n"
    check(read(write_text(tmp_path / "p.csv", text)), [True, False], [True, True], group=["a", "b"])


def test_predictions_that_are_no_label_are_a_warning(tmp_path):
    rows = [f"cat,{'Cat' if i < 2 else 'cat'},1,{i}\n" for i in range(100)]
    [warning] = read(write_text(tmp_path / "p.csv", SINGLE + "".join(rows))).warnings
    assert "dense model: 2 of 100 predictions are classes that no label has: Cat; th" in warning
    rows = [f"cat,{'Cat' if i < 2 else 'cat'},1,{i}\n" for i in range(1000)]
    assert not read(write_text(tmp_path / "p.csv", SINGLE + "".join(rows))).warnings


def test_mistakes_in_names(tmp_path):
    path = tmp_path / "p.csv"
    write_table(path, label=LABEL, dense=DENSE, sparse=SPARSE, group=GROUP)
    with pytest.raises(
        UserError, match="--label: there is no column 'lable' .did you mean 'label'"
    ):
        read(path, label="lable")
    with pytest.raises(
        UserError, match="--sparse-correct: there is no column 'right'; the columns"
    ):
        read(path, sparse_correct="right")
    with pytest.raises(UserError, match="--id: there is no column 'key'"):
        read(path, id="key")
    with pytest.raises(
        UserError, match="the dense and the sparse model have the same column, dense"
    ):
        read(path, sparse="dense")
    with pytest.raises(UserError, match="there is no file nowhere.csv"):
        read(tmp_path.joinpath("nowhere.csv").relative_to(tmp_path))
    with pytest.raises(UserError, match=r"is of no kind that can be read; expected .*\.parquet"):
        read(write_text(tmp_path / "p.txt", ""))


def test_ids_may_be_negative_and_keep_their_zeros_and_may_be_ignored(tmp_path):
    columns = {"dense_correct": DENSE_CORRECT, "sparse_correct": SPARSE_CORRECT, "group": GROUP}
    path = write_table(tmp_path / "p.csv", id=["7", "007", "-7", "07"], **columns)
    check(read(path), group=GROUP)
    path = write_table(tmp_path / "q.csv", id=[7, 7, 8, 8], **columns)
    check(read(path, id=""), group=GROUP)
    with pytest.raises(UserError, match="2 ids occur more than once: 7, 8"):
        read(path)


def test_broken_files(tmp_path):
    for suffix, message in ((".npz", "no .npz file"), (".parquet", "is no Parquet file")):
        with pytest.raises(UserError, match=message):
            read(write_text(tmp_path / f"p{suffix}", "something else"))
        with pytest.raises(UserError, match=message):
            read(write_text(tmp_path / f"p{suffix}", ""))
    empty = pa.table({"dense_correct": pa.array([], pa.bool_())})
    pyarrow.parquet.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(UserError, match=r"empty\.parquet has no rows"):
        read(tmp_path / "empty.parquet")


def test_damaged_files(tmp_path):
    columns = {"dense_correct": [1, 0] * 500, "sparse_correct": [1, 1] * 500, "group": ["a"] * 1000}
    for suffix in (".npz", ".parquet", ".csv.gz"):
        path = tmp_path / f"p{suffix}"
        if suffix == ".csv.gz":
            path.write_bytes(gzip.compress(b"dense_correct,sparse_correct,group\n1,0,a\n"))
        else:
            write_table(path, **columns)
        data = bytearray(path.read_bytes())
        # Of a Parquet file the header of its first page, as zeros elsewhere may be valid values.
        start = {".npz": len(data) // 4, ".parquet": 4, ".csv.gz": 40}[suffix]
        data[start : start + 20] = bytes(20)
        path.write_bytes(data)
        with pytest.raises((UserError, OSError), match=r"damaged|corrupt|incorrect|data"):
            read(path)


def test_parquet_with_texts_that_are_none(tmp_path):
    path = tmp_path / "p.parquet"
    table = pa.table(
        {"dense_correct": [1, 0], "sparse_correct": [1, 1], "group": ["here", "there"]}
    )
    pyarrow.parquet.write_table(table, path, compression="none")
    path.write_bytes(path.read_bytes().replace(b"there", b"ther\xff"))
    with pytest.raises(UserError, match=r"p\.parquet is damaged: .*UTF8"):
        read(path)


def test_an_archive_with_another_version(tmp_path):
    path = write_table(tmp_path / "p.npz", dense_correct=[1], sparse_correct=[1], group=["a"])
    entry = path.read_bytes().index(b"PK\x01\x02") + 6  # of the list of contents: version needed
    path.write_bytes(path.read_bytes()[:entry] + b"\xf6" + path.read_bytes()[entry + 1 :])
    with pytest.raises(UserError, match=r"p\.npz is no \.npz file of arrays, or is damaged"):
        read(path)


def test_cells_that_hold_fields(tmp_path):
    path = tmp_path / "p.parquet"
    write_table(path, dense_correct=[1], sparse_correct=[1], group=[{"race": "a"}])
    with pytest.raises(UserError, match="the column 'group' is of type struct<race: string>"):
        read(path)


def test_arrays_that_do_not_fit(tmp_path):
    path = tmp_path / "p.npz"
    write_table(path, dense_correct=[1, 1], sparse_correct=[1, 1, 0], group=["a", "b"])
    with pytest.raises(UserError, match="got dense_correct 2, sparse_correct 3, group 2"):
        read(path)
    write_table(path, dense_correct=[1, 1], sparse_correct=[1, 1], group=[["a"], ["b"]])
    with pytest.raises(
        UserError, match=r"the column 'group' has shape \(2, 1\); expected one value"
    ):
        read(path)
    objects = np.array(["a", None], object)
    write_table(path, dense_correct=[1, 1], sparse_correct=[1, 1], group=objects)
    with pytest.raises(UserError, match="the array 'group' holds Python objects"):
        read(path)
    write_table(path, label=[0, 1], dense=[[1, np.nan], [0, 1]], sparse=[0, 0], group=["a", "b"])
    with pytest.raises(UserError, match=r"'dense' is NaN in 1 sample \(sample 0\)"):
        read(path)
    write_table(path, dense_correct=np.ones((2, 2, 2)), sparse_correct=[1, 1], group=["a", "b"])
    with pytest.raises(UserError, match=r"'dense_correct' has shape \(2, 2, 2\)"):
        read(path)
