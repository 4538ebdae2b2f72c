"""A finished run is audited from the predictions that it kept."""

import json

import numpy as np
import pytest

from bap_jax.audit.run_folder import read_run
from bap_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Six test samples in the groups of two attributes; the last one has no race."""
    np.savez(
        tmp_path / "predictions.npz",
        test_id=np.arange(6),
        test_label=np.zeros(6, int),
        test_dense=np.array([0, 0, 1, 0, 0, 1]),
        test_sparse=np.array([0, 1, 0, 0, 1, 1]),
        test_group=np.array([[0, 2], [0, 3], [1, 2], [1, 2], [0, 3], [-1, 3]]),
        test_dense_correct=np.array([1, 1, 0, 1, 1, 0], bool),
        test_sparse_correct=np.array([1, 0, 1, 1, 0, 0], bool),
        train_group=np.array([[0, 2], [1, 3]]),
        train_dense_correct=np.ones(2, bool),
        train_sparse_correct=np.zeros(2, bool),
        group_names=np.array(["a", "b", "x", "y"]),
        attribute_of_group=np.array(["race", "race", "gender", "gender"]),
    )
    (tmp_path / "report.json").write_text(json.dumps({"tolerance": 0.02}))
    return tmp_path


def test_a_split(folder):
    run = read_run(folder, "test")
    assert run.tolerance == 0.02
    assert run.samples.dense_correct.tolist() == [True, True, False, True, True, False]
    assert run.samples.sparse_correct.tolist() == [True, False, True, True, False, False]
    groups = {name: column.tolist() for name, column in run.samples.groups.items()}
    assert groups == {
        "race": ["a", "a", "b", "b", "a", None],
        "gender": ["x", "y", "x", "x", "y", "y"],
    }
    assert [name.rpartition("/")[2] for name in run.samples.files] == ["predictions.npz"]


def test_another_split_and_no_report(folder):
    (folder / "report.json").unlink()
    run = read_run(folder, "train")
    assert run.tolerance is None and len(run.samples.dense_correct) == 2
    with pytest.raises(UserError, match=r"no split 'all'; write --split=test\|train"):
        read_run(folder, "all")


def test_a_folder_without_predictions(tmp_path):
    with pytest.raises(
        UserError, match=r"there is no .*predictions\.npz; expected the folder of a"
    ):
        read_run(tmp_path, "test")
