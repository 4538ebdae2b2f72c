"""The golden files are read whole: every name in them is known, and every setting is applied."""

import pytest

from tests import golden_files
from tests.golden_files import ARRAY_KINDS, ENTRY_KINDS


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
