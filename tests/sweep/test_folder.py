"""The folder of a sweep: whose it is, what is finished, and what a kill leaves."""

import json
import os

import pytest

from bap_jax.config import default_config
from bap_jax.sweep import claim_sweep, make_members, parse_axis
from bap_jax.sweep.folder import MemberOutcome, write_whole
from bap_jax.types import UserError


def member_of(*axes, **changes):
    config = default_config()
    config.update_from_flattened_dict(changes)
    return make_members(config, [parse_axis(axis) for axis in axes])[0]


def finish(folder, member):
    report = {"config": member.plain}
    (folder.begin(member) / "report.json").write_text(json.dumps(report))
    return report


def test_a_workdir_is_made_and_known_again(tmp_path):
    folder = claim_sweep(tmp_path / "a" / "b")
    assert json.loads(folder.results.read_text()) == {"rows": []}
    folder.results.write_text('{"rows": [1]}')
    assert claim_sweep(folder.root).results.read_text() == '{"rows": [1]}'


def test_a_workdir_is_not_somebody_elses_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not empty and holds no sweep .* another --workdir"):
        claim_sweep(tmp_path)
    file = tmp_path / "config.json"
    with pytest.raises(UserError, match="holds no sweep"):
        claim_sweep(file)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_sweeps_of_one_folder_agree_in_what_none_changes(tmp_path):
    def members(*axes, **changes):
        config = default_config()
        config.update_from_flattened_dict(changes)
        return make_members(config, [parse_axis(axis) for axis in axes])

    claim_sweep(tmp_path, members("seed=0:2"))
    claim_sweep(tmp_path, members("seed=0:3", "tolerance=0.0,0.1"))  # a further axis
    with pytest.raises(UserError, match=r"config.batch_size is 128 there and 64 here.*make it an"):
        claim_sweep(tmp_path, members("seed=0:2", batch_size=64))
    claim_sweep(tmp_path, members("seed=0:2", tolerance=0.3))  # some axis changed it before
    claim_sweep(tmp_path, members("batch_size=64"))


def test_a_claim_that_was_cut_off_is_no_obstacle(tmp_path):
    (tmp_path / ".sweep.json.tmp").write_text("{")
    assert claim_sweep(tmp_path).results.exists()


def test_a_finished_member_is_known_by_its_config(tmp_path):
    folder, member = claim_sweep(tmp_path), member_of("seed=3")
    assert folder.outcome(member) is None
    report = finish(folder, member)
    assert folder.outcome(member) == MemberOutcome(report, None)
    (folder.member(member) / "report.json").write_text(json.dumps(report)[:-20])
    assert folder.outcome(member) is None  # torn
    other = json.dumps({"config": {**member.plain, "seed": 4}})
    (folder.member(member) / "report.json").write_text(other)
    assert folder.outcome(member) is None


def test_infinite_numbers_come_back(tmp_path):
    folder, member = claim_sweep(tmp_path), member_of("dual.bound=inf")
    finish(folder, member)
    assert folder.outcome(member)


def test_a_member_is_found_under_the_label_of_another_sweep(tmp_path):
    folder = claim_sweep(tmp_path)
    first, second = member_of("seed=3"), member_of("tolerance=0.01", "seed=3")
    assert first.plain == second.plain and first.name != second.name
    finish(folder, first)
    folder = claim_sweep(tmp_path)
    assert folder.outcome(second) and folder.member(second) == folder.member(first)


def test_a_run_that_diverged_is_finished(tmp_path):
    folder, member = claim_sweep(tmp_path), member_of("seed=3")
    folder.begin(member)
    folder.fail(member, "loss is nan")
    assert folder.outcome(member) == MemberOutcome(None, "loss is nan")
    (folder.member(member) / "failed.json").unlink()
    assert folder.outcome(member) is None


def test_leftovers_are_removed(tmp_path):
    folder, member = claim_sweep(tmp_path), member_of("seed=3")
    (folder.begin(member) / "metrics.jsonl").write_text("half")
    assert not any(folder.begin(member).iterdir())


def test_dense_models_are_shared_by_those_with_their_data_and_network(tmp_path):
    folder = claim_sweep(tmp_path)
    dense = folder.dense(member_of("seed=0").plain)
    assert dense == folder.dense(member_of("seed=1", method="nft").plain)
    changes = ("data.test_seed=1", "model.hidden=(8,)", "dense.optimizer.learning_rate=1")
    assert len({dense, *(folder.dense(member_of(axis).plain) for axis in changes)}) == 4
    plain = member_of("seed=0").plain
    assert folder.dense({**plain, "precision": "bf16"}) != folder.dense(
        {**plain, "precision": "f32"}
    )


def test_a_file_is_whole_whenever_the_writer_is_stopped(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_whole(path, "old")

    def stop(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_whole(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.json"]
