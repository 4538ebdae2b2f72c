"""Two tables, one a model: joined by ids in any order, and refused where they do not fit."""

import numpy as np
import pytest

from bap_jax.audit.columns import Wanted
from bap_jax.audit.joining import read_two_tables
from bap_jax.audit.predictions import read_predictions
from bap_jax.errors import UserError
from tests.audit.prediction_files import write_table, write_text

IDS = ["007", "7", "-7", "x"]
LABEL, DENSE, SPARSE = ["cat", "dog", "cat", "cow"], ["cat", "cat", "cat", "cow"], ["cat"] * 4
GROUP = ["a", "b", "a", "b"]
DENSE_CORRECT, SPARSE_CORRECT = [True, False, True, True], [True, False, True, False]


def read(folder, **wanted):
    found = [next(folder.glob(f"{name}.*")) for name in ("dense", "sparse")]
    return read_two_tables(*found, Wanted(**wanted))


def write(folder, dense, sparse, suffix=".csv"):
    write_table(folder / f"dense{suffix}", **dense)
    write_table(folder / f"sparse{suffix}", **sparse)


def check(samples, **groups):
    assert samples.dense_correct.tolist() == DENSE_CORRECT
    assert samples.sparse_correct.tolist() == SPARSE_CORRECT
    assert {name: column.tolist() for name, column in samples.groups.items()} == groups


def backwards(**columns):
    return {name: column[::-1] for name, column in columns.items()}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_the_order_may_differ(tmp_path, suffix):
    common = {"sample_id": IDS, "label": LABEL, "group": GROUP}
    dense = {**common, "prediction": DENSE}
    write(tmp_path, dense, backwards(**common, prediction=SPARSE), suffix)
    samples = read(tmp_path)
    check(samples, group=GROUP)
    assert len(samples.files) == 2
    assert samples.source.endswith("joined by sample_id")


def test_label_and_groups_may_be_in_one_file_only(tmp_path):
    dense = {"key": IDS, "gold": LABEL, "pred": DENSE}
    sparse = backwards(key=IDS, age=[1, 2, 1, 2], race=GROUP, pruned=SPARSE)
    write(tmp_path, dense, sparse)
    check(
        read(tmp_path, id="key", label="gold", group_by="race*age"),
        race=GROUP,
        age=["1", "2", "1", "2"],
    )


def test_right_or_wrong(tmp_path):
    dense = {"id": IDS, "correct": DENSE_CORRECT, "group": GROUP}
    write(tmp_path, dense, backwards(id=IDS, sparse_correct=SPARSE_CORRECT))
    check(read(tmp_path), group=GROUP)


def test_numbers_as_ids_in_files_of_different_kinds(tmp_path):
    write_table(tmp_path / "dense.csv", id=[7, -8, 9, 0], correct=DENSE_CORRECT, group=GROUP)
    columns = {"id": [7.0, -8.0, 9.0, 0.0], "correct": SPARSE_CORRECT}
    write_table(tmp_path / "sparse.parquet", **backwards(**columns))
    check(read(tmp_path), group=GROUP)


def test_joining_shuffled_halves_gives_the_table_they_come_from(tmp_path):
    random = np.random.default_rng(0)
    label, dense, sparse = random.integers(0, 3, (3, 200))
    columns = {"id": np.arange(200) - 100, "label": label, "group": random.integers(0, 4, 200)}
    whole = read_predictions(
        write_table(tmp_path / "whole.csv", **columns, dense=dense, sparse=sparse), Wanted()
    )
    order = random.permutation(200)
    shuffled = {name: column[order] for name, column in columns.items()}
    write(tmp_path, {**columns, "pred": dense}, {**shuffled, "pred": sparse[order]})
    samples = read(tmp_path)
    np.testing.assert_array_equal(samples.dense_correct, whole.dense_correct)
    np.testing.assert_array_equal(samples.sparse_correct, whole.sparse_correct)
    np.testing.assert_array_equal(samples.groups["group"], whole.groups["group"])


DENSE_CSV = "id,label,pred,group\n1,x,x,a\n2,y,y,b\n3,x,y,a\n"


@pytest.mark.parametrize(
    ("sparse", "message"),
    [
        (
            "id,pred\n3,x\n4,x\n5,x\n1,x\n",
            "same samples; ids 1 only in .*dense.csv: 2; 2 only in .*sparse.csv: 4, 5",
        ),
        ("id,pred\n2,x\n1,x\n", "ids 1 only in .*dense.csv: 3.$"),
        ("id,pred\n1,x\n2,y\n3,x\n2,y\n", "sparse.csv: 1 id occurs more than once: 2"),
        (
            "id,label,pred\n3,x,x\n2,x,y\n1,x,x\n",
            "the label differs between the two files in 1 of 3 "
            "samples; the first is id 2: 'y' in .*dense.csv, line 3, and 'x' in .*line 3",
        ),
        (
            "id,pred,group\n3,x,a\n2,x,b\n1,x,b\n",
            "the column 'group' differs .* the first is id 1: "
            "'a' in .*dense.csv, line 2, and 'b' in .*sparse.csv, line 4",
        ),
        ("key,pred\n3,x\n", "two files are joined by an id .* --id=COLUMN; both files have pred"),
        ("id,pred\n3,x\n2,\n1,x\n", r"prediction of the sparse model has no value .*\(line 3\)"),
        ("id,other\n3,x\n2,y\n1,x\n", "found no column with what the sparse model predicts"),
    ],
)
def test_files_that_do_not_fit(tmp_path, sparse, message):
    write_text(tmp_path / "dense.csv", DENSE_CSV)
    write_text(tmp_path / "sparse.csv", sparse)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_no_labels_anywhere_and_unknown_columns(tmp_path):
    write(tmp_path, {"id": [1], "pred": ["x"]}, {"id": [1], "pred": ["x"], "group": ["a"]})
    with pytest.raises(UserError, match="has no labels; name their column by --label=COLUMN"):
        read(tmp_path)
    with pytest.raises(UserError, match="--label: there is no column .gold.; the columns"):
        read(tmp_path, label="gold")
    with pytest.raises(UserError, match="no column 'race'; the columns are id, pred, group"):
        read(tmp_path, group_by="race")
    with pytest.raises(UserError, match="--id: there is no column 'key'"):
        read(tmp_path, id="key")
