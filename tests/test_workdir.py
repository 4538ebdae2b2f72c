"""Who may use a workdir, and files that are written as a whole."""

import json
import os
import re
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


def finish(workdir, config, **report):
    """A report of a run with this config, in the folder that it has."""
    folder = workdir.run_folder(config["method"], config["seed"], config)
    folder.mkdir()
    whole = {"config": config, "method": config["method"], "seed": config["seed"], **report}
    for path in (folder, workdir.root):
        (path / "report.json").write_text(json.dumps(whole))
    return folder.name


def test_runs_that_share_a_config_differ_in_method_and_seed(tmp_path):
    workdir = open_workdir(tmp_path / "w", config_with(method="nft"))
    recorded = json.loads(workdir.config.read_text())
    assert "method" not in recorded and "seed" not in recorded and recorded["tolerance"] == 0.01
    assert finish(workdir, config_with(method="nft")) == "nft-seed0"
    open_workdir(workdir.root, config_with(method="ceag", seed=3))
    assert json.loads(workdir.config.read_text()) == recorded
    assert workdir.run_folder("ceag", 3, config_with(method="ceag", seed=3)).name == "ceag-seed3"


def test_a_config_takes_the_place_of_one_of_which_no_run_has_finished(tmp_path):
    workdir = open_workdir(tmp_path, config_with(tolerance=0.5))
    (tmp_path / "ceag-seed0").mkdir()
    (tmp_path / "ceag-seed0" / "metrics.jsonl").write_text("")
    open_workdir(tmp_path, config_with())
    assert json.loads(workdir.config.read_text())["tolerance"] == 0.01
    assert workdir.run_folder("ceag", 0, config_with()).name == "ceag-seed0"


def test_a_run_with_another_config_has_a_folder_that_says_so(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    finish(workdir, config_with())
    changed = config_with(**{"pruning.sparsity": 0.9, "tolerance": 0.5})
    open_workdir(tmp_path, changed)
    assert json.loads(workdir.config.read_text())["tolerance"] == 0.01
    name = finish(workdir, changed)
    assert re.fullmatch(r"ceag-seed0-pruning.sparsity=0.9,tolerance=0.5-[0-9a-f]{8}", name)
    assert workdir.run_folder("ceag", 0, changed).name == name
    assert workdir.run_folder("ceag", 0, config_with()).name == "ceag-seed0"
    other = config_with(**{"pruning.sparsity": 0.9, "tolerance": 0.6})
    assert workdir.run_folder("ceag", 0, other).name not in (name, "ceag-seed0")
    moved = config_with(**{"data.dir": "elsewhere"})
    assert workdir.run_folder("ceag", 0, moved).name == "ceag-seed0"


def test_a_long_difference_makes_a_name_that_file_systems_take(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    folder = workdir.run_folder("ceag", 0, config_with(**{"pruning.prunable": 60 * "a/b*é"}))
    folder.mkdir()
    assert len(folder.name) < 160 and folder.name.isascii() and "/" not in folder.name


def test_runs_are_named_by_what_differs(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    for changes in ({"seed": 1}, {}, {"method": "nft"}, {"tolerance": 0.5}):
        finish(workdir, config_with(**changes))
    names = {name: [r["seed"] for r in runs] for name, runs in workdir.reports().items()}
    assert names == {
        "nft, tolerance=0.01": [0],
        "ceag, tolerance=0.01": [0, 1],
        "ceag, tolerance=0.5": [0],
    }


def test_runs_on_other_groups_are_left_out(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    for group, method in (("a", "nft"), ("b", "ceag"), ("b", "el")):
        splits = {"test": {"groups": [{"name": group, "n": 3}]}}
        finish(workdir, config_with(method=method, **{"data.group_by": group}), splits=splits)
    assert set(workdir.reports()) == {"el", "ceag"}


def test_a_key_of_another_release_is_a_difference(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    finish(workdir, config_with())
    recorded = json.loads(workdir.config.read_text())
    del recorded["tolerance"], recorded["data"]["missing"]  # that one has a known former value
    workdir.config.write_text(json.dumps({**recorded, "margin": 1}))
    name = workdir.run_folder("ceag", 0, config_with()).name
    assert name.startswith("ceag-seed0-margin=None,tolerance=0.01-")


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
    finish(workdir, config_with())
    workdir.config.write_text(json.dumps(as_version_02(json.loads(workdir.config.read_text()))))
    assert workdir.run_folder("ceag", 0, config_with()).name == "ceag-seed0"
    assert workdir.run_folder("ceag", 0, {**config_with(), "log": "none"}).name == "ceag-seed0"
    changed = config_with(**{"optimizer.name": "adam"})
    assert "-optimizer.name=adam-" in workdir.run_folder("ceag", 0, changed).name


def test_a_run_of_version_02_is_found_again(tmp_path):
    """Its multipliers moved by ascent, estimates came from a buffer, and EL's were absolute."""
    ascent = config_with(**{"dual.rule": "ascent"})
    workdir = open_workdir(tmp_path, ascent)
    finish(workdir, ascent)
    recorded = as_version_02(json.loads(workdir.config.read_text()))
    recorded["constraint"] |= {"estimator": "plain", "el_absolute": True}
    workdir.config.write_text(json.dumps(recorded))
    assert workdir.run_folder("ceag", 0, ascent).name == "ceag-seed0"
    now = workdir.run_folder("ceag", 0, config_with()).name
    assert now.startswith("ceag-seed0-constraint.estimator=auto,dual.rule=auto-")
    for absolute, expected in (
        (True, "el-seed0"),
        (False, "el-seed0-constraint.el_absolute=false-"),
    ):
        changes = {"method": "el", "dual.rule": "ascent", "constraint.el_absolute": absolute}
        found = workdir.run_folder("el", 0, config_with(**changes)).name
        assert found.startswith(expected) and len(found) - len(expected) in (0, 8)


def test_what_one_method_reads_names_no_other(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    finish(workdir, config_with(method="ceag"))
    finish(workdir, config_with(method="el"))
    assert list(workdir.reports()) == ["el", "ceag"]
    finish(workdir, config_with(method="el", **{"constraint.el_absolute": True}))
    finish(workdir, config_with(method="ceag", seed=1, **{"constraint.el_absolute": True}))
    expected = ["el, constraint.el_absolute=false", "el, constraint.el_absolute=true", "ceag"]
    assert sorted(workdir.reports()) == sorted(expected)
    assert len(workdir.reports()["ceag"]) == 2


def test_el_absolute_is_of_el_alone(tmp_path):
    workdir = open_workdir(tmp_path, config_with())
    finish(workdir, config_with())
    for method, same in (("ceag", True), ("nft", True), ("mine:build", False)):
        changed = config_with(method=method, **{"constraint.el_absolute": True})
        assert (workdir.run_folder(method, 0, changed).name == f"{method}-seed0") == same


def test_a_check_writes_nothing(tmp_path):
    check_workdir(tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("name", ["thesis.txt", ".gitkeep", "log.txt", "slurm-17.out", "figures"])
def test_other_files_may_lie_in_a_workdir(name, tmp_path):
    (tmp_path / "data_cache").mkdir()
    (tmp_path / ".config.json.tmp").write_text("{")
    (tmp_path / name).mkdir() if name == "figures" else (tmp_path / name).write_text("precious")
    open_workdir(tmp_path, config_with())
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["config.json", "dense", "report.json", "disparity.png"])
def test_what_would_be_overwritten_is_refused(name, tmp_path):
    (tmp_path / name).write_text('{"precious": 1}')
    with pytest.raises(UserError, match=f"holds {name}, which would be overwritten, and no run of"):
        open_workdir(tmp_path, config_with())
    with pytest.raises(UserError, match="is a file; name a folder by --workdir"):
        check_workdir(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_does_not_use_the_folder_of_a_sweep(tmp_path):
    open_sweep_folder(tmp_path)
    with pytest.raises(UserError, match="holds a sweep; use a separate --workdir for single runs"):
        check_workdir(tmp_path)


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
