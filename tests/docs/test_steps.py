"""Steps of CONTRIBUTING.md, and files and commands of docs/extending.md, done as written."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, commands, examples, inline_code, read

QUICK = "--config.dense.epochs=1 --config.pruning.epochs=1 --config.finetune_epochs=1 --jobs=1"
EXTENDING = commands("docs/extending.md")
PYTHON = ".venv/bin/python -m "


def run(words, folder):
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def with_files(tmp_path):
    """A folder with the files that the page shows."""
    for example in examples("docs/extending.md"):
        if example.file:
            (tmp_path / example.file).write_text(example.code)
    return tmp_path


@pytest.mark.smoke
@pytest.mark.parametrize("words", EXTENDING, ids=[words[-1] for words in EXTENDING])
def test_commands_for_extensions(words, with_files):
    words = [word.replace("experiments/", f"{ROOT}/experiments/") for word in words]
    quick = [flag for flag in QUICK.split() if "jobs" not in flag or words[0] == "bap_jax.sweep"]
    done = run([sys.executable, "-m", *words, *quick], with_files)
    assert done.returncode == 0, done.stderr
    [workdir] = [word.partition("=")[2] for word in words if word.startswith("--workdir=")]
    results = "sweep.json" if words[0] == "bap_jax.sweep" else "report.json"
    assert (with_files / workdir / results).is_file()


def test_every_kind_of_extension_has_a_command():
    used = " ".join(" ".join(words) for words in EXTENDING)
    for flag in ("config.method=my_methods", "config=my_experiment.py", "clinics:", "leaves.py"):
        assert flag in used


def test_the_targets_of_contributing_exist():
    targets = re.findall(r"`make ([\w-]+)`|^    make ([\w-]+)", read("CONTRIBUTING.md"), re.M)
    names = {first or second for first, second in targets}
    assert names >= {"install", "test", "test-smoke", "test-slow", "docs"}
    for name in names:
        done = run(["make", "--dry-run", name], ROOT)
        assert done.returncode == 0, f"make {name}: {done.stderr}"


@pytest.mark.smoke
def test_the_commands_of_contributing_run():
    lines = [code.removeprefix(PYTHON) for code in inline_code("CONTRIBUTING.md") if PYTHON in code]
    assert any(line.startswith("pytest ") for line in lines)
    for line in lines:
        program, *rest = shlex.split(line)
        check = ["--check"] if line.startswith("ruff format") else []  # nothing is rewritten
        done = run([sys.executable, "-m", program, *rest, *check], ROOT)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def test_the_script_that_checks_changes_runs_what_contributing_says():
    script = (ROOT / ".ci/run").read_text()
    for target in ("test", "test-smoke", "docs"):
        assert re.search(rf"^make {target}$", script, re.M), target
