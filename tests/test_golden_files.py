"""The golden files are read whole: every name in them is known, and every setting is applied."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import golden_files
from tests.golden_files import ARRAY_KINDS, ENTRY_KINDS

TESTS = Path(__file__).parent


def test_every_array_and_every_entry_is_of_a_known_kind():
    assert golden_files.unknown(golden_files.ARRAYS, ARRAY_KINDS) == []
    assert golden_files.unknown(golden_files.SETTINGS, ENTRY_KINDS) == []


@pytest.mark.parametrize("kind", ARRAY_KINDS, ids=lambda kind: kind[0][:20])
def test_the_default_folder_holds_every_kind(kind):
    if golden_files.FOLDER != golden_files.DEFAULT_FOLDER:
        pytest.skip("another folder may lack a kind")
    of_other_kinds = golden_files.unknown(golden_files.ARRAYS, [kind])
    assert len(of_other_kinds) < len(golden_files.ARRAYS)


def test_a_setting_that_nobody_takes_fails_by_its_name():
    values = {"lr": 0.1, "primal": {"momentum": 0.9, "nesterov": True}}
    with (
        pytest.raises(AssertionError, match="c/run/primal: unknown setting `nesterov` = True"),
        golden_files.Settings("c/run", values) as settings,
    ):
        assert settings.take("lr") == 0.1
        with settings.part("primal") as primal:
            assert primal.take("momentum") == 0.9


def test_a_setting_may_have_a_default_and_is_missed_by_its_name_where_it_has_none():
    with golden_files.Settings("c/run", {}) as settings:
        assert settings.take("nesterov", False) is False
        assert "momentum" not in settings.part("primal")
    with pytest.raises(AssertionError, match="c/run: no setting `lr`"):
        golden_files.Settings("c/run", {}).take("lr")


def test_an_error_of_the_test_itself_is_not_hidden_by_settings_not_yet_taken():
    with pytest.raises(ZeroDivisionError), golden_files.Settings("c/run", {"lr": 1}):
        1 / 0  # noqa: B018


def test_a_kind_that_is_missing_is_no_case_and_no_error(monkeypatch):
    kept = {name: value for name, value in golden_files.ARRAYS.items() if name[:2] == "b/"}
    monkeypatch.setattr(golden_files, "ARRAYS", kept)
    assert golden_files.cases("a/", "sample_acc") == golden_files.cases("d/", "weight0") == []
    assert golden_files.unknown(kept, ARRAY_KINDS) == []


@pytest.mark.parametrize(
    "name",
    ["g/run/W", "a/new/sums", "c/new/momentum", "c/new/loss", "c/new", "d/gmp/new/kept", "f/mlp/z"],
)
def test_what_no_test_finds_is_unknown(name, monkeypatch):
    """Also where only the array by which its case is found is missing."""
    kept = {key: value for key, value in golden_files.ARRAYS.items() if "d/gmp" not in key}
    monkeypatch.setattr(golden_files, "ARRAYS", kept)
    assert golden_files.unknown([name], ARRAY_KINDS) == [name]
    assert golden_files.unknown([name], ENTRY_KINDS) == [name]


@pytest.mark.smoke
def test_a_folder_with_two_runs_alone(tmp_path):
    """Of one of them a setting is unknown; of all other kinds there is nothing."""
    name, settings = next(item for item in golden_files.SETTINGS.items() if "adam" in item[1])
    entries = {f"{name}_known": settings, f"{name}_other": settings | {"anchor": 3}}
    arrays = {
        f"{run}/{key}": array for run in entries for key, array in golden_files.case(name).items()
    }
    np.savez(tmp_path / "reference.npz", **arrays)
    (tmp_path / "reference.json").write_text(json.dumps(entries))
    readers = [path for path in TESTS.rglob("test_*.py") if "golden_files" in path.read_text()]
    collected = run_tests(tmp_path, *readers, "--collect-only")
    assert collected.returncode == 0, collected.stdout
    played = run_tests(tmp_path, TESTS / "training/test_golden.py", "-k", "toy_problem")
    assert "1 failed, 1 passed" in played.stdout
    assert f"{name}_other: unknown setting `anchor` = 3" in played.stdout


def run_tests(folder, *arguments):
    """pytest in a process of its own, which reads its golden numbers from `folder`."""
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-v"]
    return subprocess.run(
        [*command, *arguments],
        cwd=TESTS.parent,
        env=os.environ | {"BAP_GOLDEN": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
