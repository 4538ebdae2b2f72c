"""The folder of a sweep: who may use it, what is finished, and what a kill leaves."""

import json

import pytest

from bap_jax.config import default_config
from bap_jax.errors import UserError
from bap_jax.sweep.axes import parse_axis
from bap_jax.sweep.folder import MemberOutcome, open_sweep_folder
from bap_jax.sweep.plan import make_members
from tests.test_workdir import as_version_02


def member_of(*axes, **changes):
    config = default_config()
    config.update_from_flattened_dict(changes)
    return make_members(config, [parse_axis(axis) for axis in axes])[0]


def finish(folder, member):
    report = {"config": member.plain}
    (folder.begin(member) / "report.json").write_text(json.dumps(report))
    return report


def test_a_workdir_is_created_and_recognised(tmp_path):
    folder = open_sweep_folder(tmp_path / "a" / "b")
    assert json.loads(folder.results.read_text()) == {"rows": []}
    folder.results.write_text('{"rows": [1]}')
    assert open_sweep_folder(folder.root).results.read_text() == '{"rows": [1]}'


def test_a_folder_with_files_that_would_be_overwritten_is_refused(tmp_path):
    (tmp_path / "log.txt").write_text("of a scheduler")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds config.json, which would be overwritten, and no sw"):
        open_sweep_folder(tmp_path)
    with pytest.raises(UserError, match="is a file; name a folder"):
        open_sweep_folder(tmp_path / "config.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "log.txt"]
    (tmp_path / "config.json").unlink()
    assert open_sweep_folder(tmp_path).results.exists()


def members_of(*axes, **changes):
    config = default_config()
    config.update_from_flattened_dict(changes)
    return make_members(config, [parse_axis(axis) for axis in axes])


def test_sweeps_that_share_a_folder_agree_in_what_none_varies(tmp_path):
    first = members_of("seed=0:2")
    finish(open_sweep_folder(tmp_path, first), first[0])
    open_sweep_folder(tmp_path, members_of("seed=0:3", "tolerance=0.0,0.1"))  # a further axis
    with pytest.raises(
        UserError, match=r"config.batch_size is 128 in the workdir and 64 now.*make the key an"
    ):
        open_sweep_folder(tmp_path, members_of("seed=0:2", batch_size=64))
    open_sweep_folder(tmp_path, members_of("seed=0:2", tolerance=0.3))  # some axis changed it
    open_sweep_folder(tmp_path, members_of("batch_size=64"))


def test_a_sweep_of_which_no_member_has_ended_may_be_corrected(tmp_path):
    open_sweep_folder(tmp_path, members_of("seed=0:2"))
    open_sweep_folder(tmp_path, members_of("seed=0:2", batch_size=64))
    shared = json.loads((tmp_path / "config.json").read_text())
    assert shared["batch_size"] == 64


def test_a_start_that_was_interrupted_is_no_obstacle(tmp_path):
    (tmp_path / ".sweep.json.tmp").write_text("{")
    assert open_sweep_folder(tmp_path).results.exists()


def test_keys_that_were_added_later_change_no_member(tmp_path):
    """The folder and the record of a member that an earlier version finished are found again."""
    folder, member = open_sweep_folder(tmp_path), member_of("seed=3")
    plain = as_version_02(json.loads(json.dumps(member.plain)))
    assert member._replace(plain=plain).name == member.name
    assert folder.dense(plain) == folder.dense(member.plain)
    finish(folder, member._replace(plain=plain))
    assert folder.outcome(member) is not None
    other = member_of("seed=3", **{"optimizer.name": "adam", "dense.optimizer.warmup": 0.1})
    assert other.name != member.name and folder.outcome(other) is None
    assert folder.dense(other.plain) != folder.dense(plain)


def test_a_finished_member_is_known_by_its_config(tmp_path):
    folder, member = open_sweep_folder(tmp_path), member_of("seed=3")
    assert folder.outcome(member) is None
    report = finish(folder, member)
    assert folder.outcome(member) == MemberOutcome(report, None)
    (folder.member(member) / "report.json").write_text(json.dumps(report)[:-20])
    assert folder.outcome(member) is None  # torn
    other = json.dumps({"config": {**member.plain, "seed": 4}})
    (folder.member(member) / "report.json").write_text(other)
    assert folder.outcome(member) is None


def test_a_member_with_an_infinite_number_is_recognised(tmp_path):
    folder, member = open_sweep_folder(tmp_path), member_of("dual.bound=inf")
    report = finish(folder, member)
    assert folder.outcome(member) == MemberOutcome(report, None)
    assert folder.outcome(member).report["config"]["dual"]["bound"] == float("inf")


def test_a_member_is_found_under_the_label_of_another_sweep(tmp_path):
    folder = open_sweep_folder(tmp_path)
    first, second = member_of("seed=3"), member_of("tolerance=0.01", "seed=3")
    assert first.plain == second.plain and first.name != second.name
    finish(folder, first)
    folder = open_sweep_folder(tmp_path)
    assert folder.outcome(second) == folder.outcome(first) is not None
    assert folder.member(second) == folder.member(first)


def test_a_run_that_diverged_is_finished(tmp_path):
    folder, member = open_sweep_folder(tmp_path), member_of("seed=3")
    folder.begin(member)
    folder.fail(member, "loss is nan")
    assert folder.outcome(member) == MemberOutcome(None, "loss is nan")
    (folder.member(member) / "failed.json").unlink()
    assert folder.outcome(member) is None


def test_leftovers_are_removed(tmp_path):
    folder, member = open_sweep_folder(tmp_path), member_of("seed=3")
    (folder.begin(member) / "metrics.jsonl").write_text("half")
    assert not any(folder.begin(member).iterdir())


def test_dense_models_are_shared_by_those_with_their_data_and_network(tmp_path):
    folder = open_sweep_folder(tmp_path)
    dense = folder.dense(member_of("seed=0").plain)
    assert dense == folder.dense(member_of("seed=1", method="nft").plain)
    changes = ("data.test_seed=1", "model.hidden=(8,)", "dense.optimizer.learning_rate=1")
    assert len({dense, *(folder.dense(member_of(axis).plain) for axis in changes)}) == 4
    plain = member_of("seed=0").plain
    assert folder.dense({**plain, "precision": "bf16"}) != folder.dense(
        {**plain, "precision": "f32"}
    )
