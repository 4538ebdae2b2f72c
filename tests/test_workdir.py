"""Who may use a workdir, and files that are written as a whole."""

import json
import os
from pathlib import Path

import pytest

from bap_jax.config import default_config
from bap_jax.config_identity import ADDED, WITHOUT_EFFECT
from bap_jax.errors import UserError
from bap_jax.sweep.folder import open_sweep_folder
from bap_jax.workdir import (
    Workdir,
    check_workdir,
    flatten_config,
    open_workdir,
    read_json,
    write_atomically,
)


def config_with(**changes):
    config = default_config()
    config.update_from_flattened_dict(changes)
    return json.loads(config.to_json())


def test_runs_that_share_a_workdir_differ_in_method_and_seed(tmp_path):
    workdir = open_workdir(tmp_path / "w", config_with(method="nft"))
    recorded = json.loads(workdir.config.read_text())
    assert "method" not in recorded and "seed" not in recorded and recorded["tolerance"] == 0.01
    open_workdir(workdir.root, config_with(method="ceag", seed=3))
    assert json.loads(workdir.config.read_text()) == recorded


def test_the_keys_that_differ_are_shown(tmp_path):
    open_workdir(tmp_path, config_with())
    changed = config_with(**{"pruning.sparsity": 0.9, "tolerance": 0.5})
    with pytest.raises(
        UserError,
        match=r"holds runs with another config: config.pruning.sparsity is 0.95 in the workdir and "
        r"0.9 now; config.tolerance is 0.01 in the workdir and 0.5 now. Use a separate --workdir",
    ):
        check_workdir(tmp_path, changed)


def test_a_key_of_another_release_is_a_difference(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    recorded = json.loads(workdir.config.read_text())
    del recorded["tolerance"]
    workdir.config.write_text(json.dumps({**recorded, "margin": 1}))
    with pytest.raises(
        UserError, match=r"margin is 1 in the workdir and None now; config.tolerance is None"
    ):
        check_workdir(tmp_path, config_with())


KEYS_OF_02 = Path(__file__).with_name("config_keys_of_0.2.txt").read_text().split()


def as_version_02(plain):
    """A config as version 0.2 wrote it."""
    old = {}
    for key in KEYS_OF_02:
        *sections, name = key.split(".")
        value, place = plain, old
        for section in sections:
            value, place = value[section], place.setdefault(section, {})
        if name in value:  # `config.json` has neither method nor seed
            place[name] = value[name]
    return old


def test_every_key_says_what_earlier_versions_did():
    """A key that is new belongs to `config_identity`; else old workdirs and sweeps start anew."""
    values = flatten_config(config_with())
    new = values.keys() - set(KEYS_OF_02) - set(WITHOUT_EFFECT)
    assert {key: values[key] for key in new} == {
        key: value for key, value in ADDED.items() if key in values
    }
    assert set(KEYS_OF_02) <= values.keys()


def test_a_workdir_without_added_keys_is_that_of_what_earlier_versions_did(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    workdir.config.write_text(json.dumps(as_version_02(json.loads(workdir.config.read_text()))))
    check_workdir(tmp_path, config_with())
    with pytest.raises(UserError, match="config.optimizer.name is sgd in the workdir and adam now"):
        check_workdir(tmp_path, config_with(**{"optimizer.name": "adam"}))


def test_a_check_writes_nothing(tmp_path):
    check_workdir(tmp_path / "w", config_with())
    assert not (tmp_path / "w").exists()


def test_other_files_are_refused_and_leftovers_are_not(tmp_path):
    (tmp_path / "data_cache").mkdir()
    (tmp_path / ".config.json.tmp").write_text("{")
    check_workdir(tmp_path, config_with())
    (tmp_path / "thesis.tmp").write_text("precious")
    with pytest.raises(UserError, match="is not empty and holds no run .* a separate --workdir"):
        open_workdir(tmp_path, config_with())
    with pytest.raises(UserError, match="holds no run"):
        check_workdir(tmp_path / "thesis.tmp", config_with())
    assert not (tmp_path / "config.json").exists()


def test_a_run_does_not_use_the_folder_of_a_sweep(tmp_path):
    open_sweep_folder(tmp_path)
    with pytest.raises(UserError, match="holds a sweep; use a separate --workdir for single runs"):
        check_workdir(tmp_path, config_with())


def test_a_file_is_whole_whenever_the_writer_is_stopped(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def stop(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_atomically(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.json"]


@pytest.mark.parametrize("text", ["", '{"a": 1', "[1]", "3"])
def test_a_file_without_an_object_is_read_as_none(text, tmp_path):
    path = tmp_path / "file.json"
    assert read_json(path) is None
    path.write_text(text)
    assert read_json(path) is None
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}


def test_reports_are_in_the_order_of_registration_and_of_seeds(tmp_path):
    runs = [("zeta", 0), ("ceag", 1), ("ceag", 0), ("alpha", 0), ("nft", 0), ("el", 0)]
    for method, seed in runs:
        folder = Workdir(tmp_path).run_folder(method, seed)
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps({"method": method, "seed": seed}))
    reports = Workdir(tmp_path).reports()
    assert list(reports) == ["nft", "el", "ceag", "alpha", "zeta"]
    assert [report["seed"] for report in reports["ceag"]] == [0, 1]
