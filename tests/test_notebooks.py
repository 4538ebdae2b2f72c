"""Notebooks are whole, hold no outputs, and run from end to end on a tiny setting."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bap_jax.training import DualSettings
from tests.xla_flags import COMPILE_FAST

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIELDS = {
    "markdown": {"cell_type", "id", "metadata", "source"},
    "code": {"cell_type", "id", "metadata", "source", "execution_count", "outputs"},
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    found = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def script(path):
    return "\n\n\n".join(cells(path, "code"))


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == [
        "prune_your_own_model",
        "sweep_in_one_program",
        "the_papers_experiment",
    ]


@each_notebook
def test_structure(path):
    notebook = json.loads(path.read_text())
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["accelerator"] in ("GPU", "TPU")
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    for cell in notebook["cells"]:
        assert set(cell) == FIELDS[cell["cell_type"]]
        *lines, last = cell["source"]
        assert all(line.endswith("\n") for line in lines) and not last.endswith("\n")


@each_notebook
def test_no_traces_of_a_run(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
        assert cell["metadata"] == {}


@each_notebook
def test_the_file_is_as_jupyter_writes_it(path):
    text = path.read_text()
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"


@each_notebook
def test_no_absolute_paths(path):
    text = "\n".join(cells(path, "code") + cells(path, "markdown"))
    assert not re.search(r"(?<![\w./])/(home|root|tmp|work|content|Users|mnt)\b", text)
    assert not re.search(r"[A-Z]:\\", text)


@each_notebook
def test_every_code_cell_is_plain_python(path):
    for source in cells(path, "code"):
        compile(source, path.name, "exec")  # fails on lines of `%` and `!`


def test_all_are_set_up_alike():
    assert len({tuple(cells(path, "code")[:2]) for path in NOTEBOOKS}) == 1


@each_notebook
def test_only_public_names(path):
    for node in ast.walk(ast.parse(script(path))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("bap_jax"):
            assert not any(part.startswith("_") for part in node.module.split("."))
            assert not any(alias.name.startswith("_") for alias in node.names)
        if isinstance(node, ast.Attribute):
            assert not re.match(r"_[^_]", node.attr)


@pytest.mark.parametrize("name", ["the_papers_experiment", "sweep_in_one_program"])
def test_config_is_the_digits_experiments(name):
    [source] = [
        text for text in cells(ROOT / "notebooks" / f"{name}.ipynb", "code") if "config =" in text
    ]
    notebook, experiment = {"TINY": False}, {}
    exec(source, notebook)
    exec((ROOT / "experiments" / "digits.py").read_text(), experiment)
    expected = experiment["get_config"]()
    if name == "the_papers_experiment":
        expected.dual.rule, expected.constraint.el_absolute = "ascent", True
    else:  # without the rate, which its rule does not read
        expected.dual.learning_rate = DualSettings.learning_rate
    assert notebook["config"].to_dict() == expected.to_dict()


def run(path, folder):
    return subprocess.run(
        [sys.executable, "-c", script(path)],
        env={**os.environ, "BAP_TINY": "1", "XLA_FLAGS": COMPILE_FAST},
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


EXPECTED = {
    "prune_your_own_model": (
        ["Excess: points lost", "heavy", "90.0% zeros"],
        ["own_model/report.json", "own_model/disparity.png", "own_model/network/digest.json"],
    ),
    "the_papers_experiment": (
        ["ceag, seed 0:", "within 1.2 points in", "dense "],
        ["the_papers_experiment/disparity.png", "the_papers_experiment/el-seed0/report.json"],
    ),
    "sweep_in_one_program": (
        ["18 members, 1 program", "sparsity 0.98", "18 times the work in"],
        ["sweep_in_one_program/sweep.png", "sweep_in_one_program/sweep.csv"],
    ),
}


@each_notebook
@pytest.mark.smoke
def test_runs_from_end_to_end(path, tmp_path):
    done = run(path, tmp_path)
    assert done.returncode == 0, done.stderr
    texts, files = EXPECTED[path.stem]
    for text in ["CPU: ", *texts]:
        assert text in done.stdout, text
    for name in files:
        assert (tmp_path / "runs" / name).stat().st_size > 0, name
    assert [place.name for place in tmp_path.iterdir()] == ["runs"]
    if path.stem == "prune_your_own_model":
        loaded, report = re.search(r"loaded ([\d.]+)%, report ([\d.]+)%", done.stdout).groups()
        assert loaded == report
