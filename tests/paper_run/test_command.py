"""The command, killed and repeated."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.paper_run.modules import ROOT

COMMAND = [sys.executable, "benchmarks/accelerator.py", "--paper", "--dry-run", "--save_seconds=0"]
KILLED = """
import os, runpy, signal, sys
sys.path.insert(0, "benchmarks")
from accelerator_parts import paper_files
save, saves = paper_files.StateFiles.save, []

def save_and_die(self, about, states):
    save(self, about, states)
    saves.append(about.epoch)
    if len(saves) == {saves}:
        os.kill(os.getpid(), signal.SIGKILL)

paper_files.StateFiles.save = save_and_die
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


FAILS = """
import runpy, sys, threading, time
sys.path.insert(0, "benchmarks")
import jax
from accelerator_parts import paper, paper_ahead
is_lowered = threading.Event()

def many_products(x):
    for i in range(1500):
        x = jax.numpy.sin(x @ x) + i
    return x

def compile_slowly():
    lowered = jax.jit(many_products).lower(jax.numpy.ones((32, 32)))
    is_lowered.set()
    return lowered.compile()

def run(*arguments):
    paper_ahead.CompiledAhead({{"job": compile_slowly}}).start()
    is_lowered.wait()
    time.sleep(0.5)  # the compiler is at work
    raise {error}

paper.run = run
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(*flags, killed_after=None):
    """Runs the command, or kills it after some saves; returns what it prints."""
    argv = [*COMMAND, *flags]
    if killed_after:
        argv = [sys.executable, "-c", KILLED.format(saves=killed_after, argv=argv[1:])]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == (-signal.SIGKILL if killed_after else 0), done.stderr
    return done.stdout


@pytest.mark.smoke
def test_a_command_that_was_killed_twice_ends_like_a_whole_one(tmp_path):
    whole = command(f"--out={tmp_path / 'whole'}")
    out = f"--out={tmp_path / 'cut'}"
    command(out, killed_after=2)  # in the second epoch of the dense network
    command(out, killed_after=3)  # in the second epoch of the first sparse ones
    again = command(out)
    assert "nft-0.925-seed0 … nft-0.95-seed0: 2 epochs were saved" in again
    assert again.split("mostly chance")[1] == whole.split("mostly chance")[1]
    for name in ("dense.npz", "predictions.npz"):
        with np.load(tmp_path / "whole" / name) as one, np.load(tmp_path / "cut" / name) as other:
            assert set(one) == set(other)
            for key in set(one) - {"about"}:
                np.testing.assert_array_equal(one[key], other[key])
    files = {path.name for path in (tmp_path / "cut").iterdir()}
    assert files == {"dense.npz", "predictions.npz", "results.jsonl"}
    before = (tmp_path / "cut" / "predictions.npz").read_bytes()
    late = command(out, "--minutes=0")
    assert "Not finished" not in late
    assert (tmp_path / "cut" / "predictions.npz").read_bytes() == before


@pytest.mark.smoke
def test_without_time_the_command_says_how_to_go_on(tmp_path):
    out = command(f"--out={tmp_path}", "--minutes=0", "--methods=nft")
    assert "Not finished: the same command with the same --out and --data goes on." in out
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl"}


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [
        ("MemoryError('too much')", True),
        ("__import__('bap_jax').types.UserError('too much')", False),
    ],
)
def test_an_error_while_a_thread_compiles_is_reported(tmp_path, error, has_traceback):
    program = FAILS.format(error=error, argv=[*COMMAND[1:], f"--out={tmp_path}"])
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1 and "too much" in done.stderr
    assert ("Traceback" in done.stderr) == has_traceback
