"""Compiled programs on disk: where, and that the next process finds them."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from bap_jax.compilation import cache_folder, keep_programs

CODE = """
import json, sys
import jax
from bap_jax.compilation import keep_programs

seen = []
jax.monitoring.register_event_listener(lambda event, **kwargs: seen.append(event))
folder = keep_programs(sys.argv[1])
jax.jit(lambda x: (x * x).sum())(2.0)
hits, misses = (
    sum(event == f"/jax/compilation_cache/cache_{kind}" for event in seen)
    for kind in ("hits", "misses")
)
print(json.dumps({"folder": folder and str(folder), "hits": hits, "misses": misses}))
"""


@pytest.fixture
def environment(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def in_process(chosen):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(chosen)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def programs(folder):
    """Names of the programs in a folder; beside them lie times of their use."""
    return {path.name for path in folder.rglob("*") if path.name.endswith("-cache")}


def test_where_programs_are_kept(environment, tmp_path):
    assert cache_folder() == tmp_path / ".cache" / "bap_jax"
    environment.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/bap_jax")
    environment.setenv("JAX_COMPILATION_CACHE_DIR", "/from/environment")
    assert cache_folder() == Path("/from/environment")
    assert cache_folder("/chosen") == Path("/chosen")


def test_nowhere(environment):
    assert cache_folder("none") is None
    environment.setenv("JAX_COMPILATION_CACHE_DIR", "none")
    assert cache_folder() is None
    assert cache_folder("/chosen") == Path("/chosen")


def test_none_keeps_nothing(environment, tmp_path):
    before = jax.config.jax_enable_compilation_cache
    try:
        assert keep_programs("none") is None
        assert not jax.config.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
    assert not list(tmp_path.rglob("*-cache"))


def test_the_next_process_finds_them(environment, tmp_path):
    folder = tmp_path / "made" / "where_missing"
    first = in_process(folder)
    kept = programs(folder)
    assert kept and first["folder"] == str(folder) and first["misses"] > 0
    second = in_process(folder)
    assert second["misses"] == 0 and second["hits"] > 0
    assert programs(folder) == kept


def test_none_in_a_process_leaves_no_file(environment, tmp_path):
    environment.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    found = in_process("none")
    assert found["folder"] is None and found["hits"] == found["misses"] == 0
    assert not list(tmp_path.rglob("*-cache"))
