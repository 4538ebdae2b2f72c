"""Every example of README and documentation runs, and prints what the page says."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from bap_jax.data.images import encode_jpeg
from tests.docs.pages import PAGES, ROOT, commands, examples, read, working_in, write_files

# Its example reads the workdir of a run; tests/test_outputs.py has one and runs the example.
ELSEWHERE = ("docs/outputs.md",)
WITH_EXAMPLES = [page for page in PAGES if examples(page) and page not in ELSEWHERE]
# From three seconds to more than ten, most of it compiling.
SLOW = (
    "README.md",
    "docs/constrained_optimization.md",
    "docs/extending.md",
    "docs/measures.md",
    "docs/own_data.md",
    "docs/pruning.md",
    "docs/quickstart.md",
    "docs/results/index.md",
    "docs/sweeps.md",
    "docs/training.md",
)
# Examples that are to stay short: lines that are not empty, by page and a word in the example.
SHORT = {
    ("README.md", "nnx.Module"): 25,
    ("docs/own_data.md", "nn.Sequential"): 25,
    ("docs/constrained_optimization.md", "load_breast_cancer"): 25,
    ("docs/pruning.md", "MagnitudePruning"): 25,
}
COUNT = 120
QUICK = "--config.dense.epochs=1 --config.pruning.epochs=1 --config.finetune_epochs=1 "
QUICK += "--config.batch_size=32 --config.data.validation_fraction=0.2"


def page_marks():
    return [
        pytest.param(page, marks=[pytest.mark.smoke] * (page in SLOW)) for page in WITH_EXAMPLES
    ]


@pytest.fixture
def workplace(tmp_path):
    """An empty folder in which modules are found."""
    with working_in(tmp_path):
        yield tmp_path


def run_examples(page, monkeypatch):
    """The names that a page's examples leave, and what each printed; files are written."""
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    outputs = []
    for example in examples(page):
        printed = io.StringIO()
        if example.file:
            Path(example.file).write_text(example.code)
        else:
            code = "\n" * example.line + example.code  # so that tracebacks show the page's line
            # As users run it: the tests' own setting of JAX would refuse `x @ w + b`.
            with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):
                exec(compile(code, page, "exec"), vars(module))
        outputs.append(printed.getvalue())
        if example.output is not None:
            assert printed.getvalue() == example.output, f"{page}, line {example.line}"
    return vars(module), outputs


@pytest.mark.parametrize("page", page_marks())
def test_examples_run_and_print_what_the_page_says(page, workplace, monkeypatch):
    names, outputs = run_examples(page, monkeypatch)
    if page in SAID:
        SAID[page](names, outputs)


def network_is_pruned(names, outputs):
    """The README's: of the weights that may go, as many as were asked for went."""
    zeros = float((names["result"].pruned.body.kernel[...] == 0).mean())
    verdict = names["result"].report["splits"]["test"]["verdict"]
    assert zeros == pytest.approx(0.9, abs=1e-3)
    assert outputs == [f"{names['result']}\nzeros: {zeros}\n"]
    assert outputs[0].startswith(f"{verdict.capitalize()} at ε = 1 point on 599 test samples")
    assert not (names["net"].body.kernel[...] == 0).any()


def constraint_is_met(names, outputs):
    missed = re.search(r"missed cancers ([\d.]+)", outputs[0]).group(1)
    assert float(missed) <= 0.01
    assert f"prints {missed};" in read("docs/constrained_optimization.md")


def shares_are_printed(names, outputs):
    shares = [float(share) for share in re.findall(r"0\.\d+", outputs[0])[:3]]
    text = "prints {:.1%} and {:.1%} zeros, {:.1%} in all".format(*shares)
    assert text.replace("%", " %") in read("docs/pruning.md")


def all_kinds_are_pruned(names, outputs):
    """The page on a user's own data: last a folder of images, before it Linen."""
    assert names["result"].data["splits"]["test"] == 30
    assert len(names["result"].report["splits"]["test"]["groups"]) == 4
    [zeros] = re.findall(r"zeros: ([\d.]+)", "".join(outputs))
    assert float(zeros) == pytest.approx(0.9, abs=1e-2)
    gaps = re.findall(r"max excess gap, test: (\S+)\n", "".join(outputs))
    assert len(gaps) == 2 and all(-1 < float(gap) < 1 for gap in gaps)
    assert re.search(r"refused: .*1797.*1796", "".join(outputs))
    assert "refused: augment computes something else each time" in "".join(outputs)


def gaps_are_in_the_table(names, outputs):
    """The page on results: what chance gives."""
    rows = re.findall(
        r"^\| ([\d.]+) \| ([\d. |]+) \|$", read("docs/results/index.md"), re.MULTILINE
    )
    table = {share: cells.split(" | ") for share, cells in rows}
    printed = re.findall(r"([\d.]+) of the samples change, largest gap ([\d.]+)", outputs[0])
    found = {share: [gap for other, gap in printed if other == share] for share, _ in printed}
    assert len(found) == 5 and found == table


SAID = {
    "README.md": network_is_pruned,
    "docs/constrained_optimization.md": constraint_is_met,
    "docs/pruning.md": shares_are_printed,
    "docs/own_data.md": all_kinds_are_pruned,
    "docs/results/index.md": gaps_are_in_the_table,
}


def test_pages_have_their_examples():
    assert set(SAID) | set(SLOW) <= set(WITH_EXAMPLES)


@pytest.mark.parametrize(("page", "word"), SHORT)
def test_short_examples_stay_short(page, word):
    code = next(example.code for example in examples(page) if word in example.code)
    assert len([line for line in code.splitlines() if line.strip()]) <= SHORT[page, word]


@pytest.fixture
def own_files(workplace):
    """What the commands on the page of a user's own data read."""
    Path("faces").mkdir()
    rows = ["path,label,race,gender"]
    for i in range(COUNT):
        pixels = np.full((12, 12, 3), 20 + i, np.uint8)
        Path(f"faces/{i}.jpg").write_bytes(encode_jpeg(pixels))
        rows.append(f"{i}.jpg,{i % 2},{'ab'[i // 2 % 2]},{'mf'[i // 4 % 2]}")
    Path("faces/labels.csv").write_text("\n".join(rows) + "\n")
    i = np.arange(COUNT)
    inputs = np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32)
    np.savez("mine.npz", inputs=inputs, label=i % 2, race=i // 2 % 2)
    tokens = np.stack([i % 3, 3 + i % 7], axis=1)
    np.savez("people.npz", inputs=tokens, label=i % 2, race=i // 2 % 2)
    write_files("docs/own_data.md")
    return workplace


def command_for(flag):
    """The page's command that has this flag."""
    [found] = [words for words in commands("docs/own_data.md") if flag in words]
    return found


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("flag", "groups"),
    [
        ("--config.data.name=images", 2),
        ("--data_dir=mine.npz", 2),
        ("--data_dir=people.npz", 2),
        ("--config.data.name=my_data:load", 4),
    ],
)
def test_commands_for_a_users_own_data(flag, groups, own_files):
    words = [word.replace("experiments/", f"{ROOT}/experiments/") for word in command_for(flag)]
    done = subprocess.run(
        [sys.executable, "-m", *words, *shlex.split(QUICK)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(own_files), str(ROOT)])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"Groups     {groups}\n" in done.stdout and "Excess: points lost" in done.stdout
    assert (own_files / "runs").is_dir()
