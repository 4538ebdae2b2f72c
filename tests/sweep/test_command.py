"""`python -m bap_jax.sweep`: mistakes cost nothing. tests/sweep/test_runner.py has the rest."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bap_jax import compare
from bap_jax.sweep.__main__ import main
from tests.commands import error_of

ROOT = Path(__file__).parents[2]


def command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "bap_jax.sweep", "--config=experiments/digits.py", *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.smoke
def test_a_sweep_that_was_cut_off_goes_on(tmp_path):
    flags = [f"--workdir={tmp_path}", "--config.model.hidden=(8,)", "--sweep=seed=0:2", "--jobs=1"]
    flags += [f"--config.{key}=1" for key in ("dense.epochs", "pruning.epochs", "finetune_epochs")]
    first = command(*flags)
    assert first.returncode == 0, first.stderr
    report, left = sorted(tmp_path.glob("members/*/report.json"))
    at = report.stat().st_mtime_ns
    left.unlink()
    again = command(*flags)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 members are finished" in again.stderr
    assert left.exists() and report.stat().st_mtime_ns == at
    first_word, *words = shlex.split(again.stdout.splitlines()[-1])
    assert first_word == "verdict" and words[:3] == ["python", "-m", "bap_jax.compare"]
    assert compare.main([*words[3:], "--resamples=100"]) == 0
    assert (tmp_path / "compare.html").is_file()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "error: a sweep needs an axis; write --sweep=KEY=VALUE"),
        (["--sweep=sede=1"], "error: unknown config key config.sede; known keys: "),
        (
            ["--sweep=method=nft,ceag", "--one_program"],
            "error: the sweep needs 2 programs, because its members differ in method (nft, ceag)",
        ),
        (
            ["--sweep=dual.learning_rate=0.1,0.3"],
            "error: member dual.learning_rate=0.1 of the sweep: dual.learning_rate has no effect: "
            "the multipliers move by dual.rule='auto', which does not read it. Add "
            "--config.dual.rule=ascent, or leave dual.learning_rate out.",
        ),
        (
            ["--sweep=method=el,ceag", "--config.dual.learning_rate=0.3"],
            "error: dual.learning_rate has no effect: the multipliers move by dual.rule='auto'",
        ),
        (["--sweep=data.name=digits,mnist"], "error: unknown data set 'mnist'; known data sets"),
    ],
)
def test_mistakes_cost_nothing(flags, text, tmp_path):
    config = f"--config={ROOT / 'experiments' / 'digits.py'}"
    assert text in error_of(main, config, f"--workdir={tmp_path / 'w'}", *flags)
    assert not (tmp_path / "w").exists()


def test_a_mistake_is_one_line_and_exit_code_1(tmp_path):
    done = command(f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 1 and not (tmp_path / "w").exists()
    assert done.stderr.startswith("error: a sweep needs an axis") and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
