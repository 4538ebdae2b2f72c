"""A finished run is audited from the predictions that it kept."""

import json
import shutil

import numpy as np
import pytest

from bap_jax.audit.run_folder import read_run
from bap_jax.errors import UserError
from bap_jax.reporting.predictions import SplitPredictions, save_predictions


@pytest.fixture
def folder(tmp_path):
    """Six test samples in the groups of two attributes; the last one has no race."""
    label = np.zeros(6, np.int32)
    dense, sparse = np.array([0, 0, 1, 0, 0, 1]), np.array([0, 1, 0, 0, 1, 1])
    group = np.array([[0, 2], [0, 3], [1, 2], [1, 2], [0, 3], [-1, 3]])
    test = SplitPredictions(np.arange(6), label, group, dense, sparse, dense == 0, sparse == 0)
    train = SplitPredictions(*(leaf[:2] for leaf in test))
    names, attributes = ("a", "b", "x", "y"), ("race", "race", "gender", "gender")
    path = tmp_path / "predictions.npz"
    save_predictions(path, {"train": train, "test": test}, names, attributes)
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
    with pytest.raises(UserError, match=r"no split 'all'; write --split=train\|test"):
        read_run(folder, "all")


def test_a_folder_without_predictions(tmp_path):
    with pytest.raises(
        UserError, match=r"there is no predictions\.npz in .*; expected the folder of a"
    ):
        read_run(tmp_path, "test")


def test_files_that_are_broken(folder):
    with pytest.raises(UserError, match=r"is a file; --run=DIR names the folder"):
        read_run(folder / "predictions.npz", "test")
    for text in ("{", "[]"):
        (folder / "report.json").write_text(text)
        with pytest.raises(UserError, match=r"report\.json is no "):
            read_run(folder, "test")
    for content in (b"", b"no archive", (folder / "predictions.npz").read_bytes()[:-40]):
        (folder / "predictions.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
            read_run(folder, "test")


def test_a_workdir_with_one_run_or_several(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("workdir")
    first = workdir / "ceag-seed0"
    shutil.copytree(folder, first)
    assert read_run(workdir, "test").tolerance == 0.02
    shutil.copytree(folder, workdir / "nft-seed0")
    with pytest.raises(UserError, match=f"holds 2 runs; .* --run={first}. The others: .*nft-seed0"):
        read_run(workdir, "test")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 half a zip"])
def test_a_damaged_file(folder, content):
    (folder / "predictions.npz").write_bytes(content)
    with pytest.raises(UserError, match="is damaged: .*; repeat the run"):
        read_run(folder, "test")


def test_a_file_without_an_array(folder):
    path = folder / "predictions.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "test_sparse_correct"}
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="is damaged: .*test_sparse_correct"):
        read_run(folder, "test")
