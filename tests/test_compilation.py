"""Compiled programs on disk: where, and that the next process finds them."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bap_jax import models
from bap_jax.compilation import cache_folder, jit_once, keep_programs
from bap_jax.models.linen import from_linen

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


@pytest.mark.smoke
def test_a_kept_dense_network_needs_no_other_programs(environment, tmp_path):
    """The first command trains the dense network, the second one reads it."""
    command = [sys.executable, "-m", "bap_jax.main", "--config=experiments/digits.py:smoke"]
    command += [f"--workdir={tmp_path / 'run'}", f"--compilation_cache={tmp_path / 'programs'}"]
    environment.chdir(Path(__file__).parents[1])
    kept = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        kept.append(programs(tmp_path / "programs"))
    assert len(kept[0]) > 5  # so that an empty folder would not pass
    assert kept[1] - kept[0] == set()


def test_a_program_that_runs_once_has_the_same_results():
    network = models.MLP((32, 10))
    key, inputs = jax.random.key(0), np.zeros((1, 8, 8), np.float32)
    at_once = jit_once(from_linen(network).init)(key, inputs)
    # What `jit_once` asks for does not depend on how tests are compiled; this does.
    options = {"xla_backend_optimization_level": 3}
    usual = jax.jit(from_linen(network).init, compiler_options=options)(key, inputs)
    jax.tree.map(np.testing.assert_array_equal, at_once, usual)


@pytest.mark.parametrize(
    "within", [jax.jit, jax.vmap, lambda function: jax.jit(jax.vmap(function))]
)
def test_a_program_that_runs_once_may_be_part_of_another(within):
    double = jit_once(lambda x: 2 * x)
    np.testing.assert_array_equal(within(double)(np.arange(3.0)), [0, 2, 4])
    assert jax.eval_shape(double, np.arange(3.0)).shape == (3,)
    assert within(lambda x: x + double(1.0))(np.zeros(3)).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("backend", "has_options"), [("cpu", True), ("gpu", False)])
def test_only_a_cpu_compiles_with_less_optimisation(backend, has_options, monkeypatch):
    used = []

    def jit(function, compiler_options=None):
        return lambda *args: used.append(compiler_options) or function(*args)

    monkeypatch.setattr(jax, "jit", jit)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert jit_once(lambda x: 2 * x)(3) == 6
    assert [options is not None for options in used] == [has_options]
