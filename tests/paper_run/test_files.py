"""The state of a program is kept in few, small files, and a kill leaves them whole."""

import os

import jax
import numpy as np
import pytest

from tests.paper_run.modules import module, same


def about(name="a", settings=None, epoch=2):
    return module("paper_files").About(name, settings or {"x": 1}, epoch)


def store(folder, lines=None):
    return module("paper_files").StateFiles(folder, [].append if lines is None else lines.append)


def tree(scale=1.0):
    return {
        "a": scale * np.arange(12, dtype=np.float32).reshape(2, 6),
        "b": np.arange(2, dtype=np.int32),
        "c": np.full(3, scale, np.float32),
        "k": jax.random.split(jax.random.key(7), 2),
    }


@pytest.fixture
def small_files(monkeypatch):
    """Files that hold one array each."""
    monkeypatch.setattr(module("paper_files"), "LARGEST_FILE", 1100)


def test_a_state_is_cut_into_small_files(tmp_path, small_files):
    store(tmp_path).save(about(), tree())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"state-{i}.npz" for i in range(4)]
    epoch, found = store(tmp_path).load("a", {"x": 1}, jax.eval_shape(tree))
    assert epoch == 2 and same(found, tree())
    store(tmp_path).clear()
    assert not list(tmp_path.iterdir())


def test_a_smaller_state_leaves_no_old_files(tmp_path, small_files):
    store(tmp_path).save(about(), tree())
    store(tmp_path).save(about(epoch=3), {"a": np.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["state-0.npz"]


def test_a_state_that_needs_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module("paper_files"), "MOST_FILES", 3)
    monkeypatch.setattr(module("paper_files"), "LARGEST_FILE", 1100)
    with pytest.raises(ValueError, match="the state of a takes 4 files"):
        store(tmp_path).save(about(), tree())


@pytest.mark.parametrize("break_it", ["missing", "damaged", "older"])
def test_a_state_that_is_not_whole_counts_as_lost(tmp_path, small_files, break_it):
    store(tmp_path).save(about(epoch=1), tree())
    old = (tmp_path / "state-1.npz").read_bytes()
    store(tmp_path).save(about(), tree(2.0))
    path = tmp_path / "state-1.npz"
    if break_it == "missing":
        path.unlink()
    elif break_it == "damaged":
        content = path.read_bytes()
        assert tree()["b"].tobytes() in content
        path.write_bytes(content.replace(tree()["b"].tobytes(), bytes(8)))
    else:
        path.write_bytes(old)
    lines = []
    assert store(tmp_path, lines).load("a", {"x": 1}, jax.eval_shape(tree)) == (0, None)
    assert lines == ["the saved state is not complete; its program starts again"]


def test_a_kill_while_files_are_written_leaves_the_old_state(tmp_path, small_files, monkeypatch):
    store(tmp_path).save(about(), tree())

    def killed(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store(tmp_path).save(about(epoch=3), tree(2.0))
    assert len(list(tmp_path.glob("*.new"))) == 4
    epoch, found = store(tmp_path).load("a", {"x": 1}, jax.eval_shape(tree))
    assert epoch == 2 and same(found, tree())
    assert not list(tmp_path.glob("*.new"))


def test_the_state_of_another_program_is_left_behind(tmp_path):
    store(tmp_path).save(about(), tree())
    lines = []
    assert store(tmp_path, lines).load("b", {"x": 1}, jax.eval_shape(tree)) == (0, None)
    assert lines == ["the saved state of a is left behind"]


def test_a_network_of_another_size_cannot_go_on(tmp_path):
    store(tmp_path).save(about(), tree())
    like = jax.eval_shape(lambda: {**tree(), "b": np.zeros(2)})
    with pytest.raises(ValueError, match="does not fit this network: array 1"):
        store(tmp_path).load("a", {"x": 1}, like)
