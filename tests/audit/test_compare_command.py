"""python -m bap_jax.compare: finished runs on the same samples."""

import html
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bap_jax import compare
from bap_jax.audit import compare_methods
from bap_jax.audit.comparison import Interval, MethodDifference
from bap_jax.audit.comparison_html import render_comparison
from bap_jax.audit.comparison_text import differences
from bap_jax.audit.several_runs import read_runs
from bap_jax.errors import UserError

NAMES = ("left", "right", "up")


def write_run(folder, method, seed, *, n=300, order=None, flips=0.1, changes=None, **config):
    """A run whose arrays depend on method and seed; `changes` replaces arrays."""
    rng = np.random.default_rng([seed, *map(ord, method)])
    dense = np.random.default_rng(0).random(n) < 0.9
    sparse = np.where(rng.random(n) < flips, ~dense, dense)
    arrays = {
        "id": np.arange(n) + 1000,
        "label": np.arange(n) % 4,
        "group": (np.arange(n) % 3)[:, None],
        "dense_correct": dense,
        "sparse_correct": sparse,
    } | (changes or {})
    order = np.arange(len(arrays["id"])) if order is None else order
    folder.mkdir(parents=True)
    np.savez(
        folder / "predictions.npz",
        **{f"test_{name}": values[order] for name, values in arrays.items()},
        group_names=np.array(NAMES),
        attribute_of_group=np.array(["way"] * 3),
    )
    config = {"method": method, "seed": seed, "data": {"dir": str(folder)}, **config}
    report = {"method": method, "seed": seed, "tolerance": 0.02, "config": config}
    (folder / "report.json").write_text(json.dumps(report))
    return sparse


@pytest.fixture
def workdir(tmp_path):
    for method in ("ceag", "nft"):
        for seed in range(2):
            write_run(tmp_path / "runs" / f"{method}-seed{seed}", method, seed)
    return tmp_path / "runs"


def test_runs_of_a_workdir_by_method_and_seed(workdir):
    runs = read_runs([workdir])
    assert {name: rows.shape for name, rows in runs.correct.items()} == {
        "ceag": (2, 300),
        "nft": (2, 300),
    }
    assert runs.seeds == {"ceag": [0, 1], "nft": [0, 1]} and runs.tolerance == 0.02
    assert runs.dense_correct.shape == (300,) and len(runs.files) == 4
    assert list(runs.groups) == ["way"] and list(runs.groups["way"][:4]) == [*NAMES, "left"]
    folders = [workdir / "ceag-seed1", workdir, workdir / "nft-seed0"]
    assert read_runs(folders).seeds == {"ceag": [0, 1], "nft": [0, 1]}


def test_members_of_a_sweep_are_named_by_what_differs(tmp_path):
    for epsilon in (0.01, 0.03):
        write_run(tmp_path / "members" / f"t{epsilon}", "ceag", 0, dual={"rate": epsilon})
    assert list(read_runs([tmp_path]).correct) == ["ceag, dual.rate=0.01", "ceag, dual.rate=0.03"]


def test_the_order_of_samples_does_not_matter(tmp_path):
    write_run(tmp_path / "a", "nft", 0)
    order = np.random.default_rng(1).permutation(300)
    sparse = write_run(tmp_path / "b", "ceag", 0, order=order)
    runs = read_runs([tmp_path / "a", tmp_path / "b"])
    np.testing.assert_array_equal(runs.correct["ceag"][0], sparse)


def test_each_seed_may_have_its_own_dense_network(tmp_path):
    for seed in range(2):
        dense = {"dense_correct": np.random.default_rng(seed).random(300) < 0.8}
        for method in ("ceag", "nft"):
            write_run(tmp_path / f"{method}{seed}", method, seed, changes=dense)
    assert read_runs([tmp_path]).dense_correct.shape == (2, 300)
    write_run(tmp_path / "other", "el", 0, changes={"dense_correct": np.ones(300, bool)})
    with pytest.raises(UserError, match="different dense networks"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": np.arange(300)}, "same samples.*300 of .*a are not in .*b, such as id 1000"),
        ({"label": np.zeros(300, int)}, "other labels for the same sample ids"),
        ({"group": np.zeros((300, 1), int)}, "put the same samples into other groups"),
    ],
)
def test_runs_on_other_data_are_refused(changes, message, tmp_path):
    write_run(tmp_path / "a", "nft", 0)
    write_run(tmp_path / "b", "ceag", 0, changes=changes)
    with pytest.raises(UserError, match=message):
        read_runs([tmp_path])


def test_other_mistakes(tmp_path, workdir, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    write_run(tmp_path / "again", "nft", 1)
    write_run(tmp_path / "unfinished", "nft", 7)
    (tmp_path / "unfinished" / "report.json").unlink()
    for arguments, message in (
        ([empty], "no finished runs in"),
        ([workdir, tmp_path / "again"], "twice with the same seed"),
        ([tmp_path / "unfinished"], "has not finished; leave it out"),
        ([workdir, "--split=train"], r"no split 'train'; write --split=test"),
        ([workdir, "--baseline=el"], "no method is called 'el'"),
        ([workdir, "--alpha=much"], "invalid float value"),
        ([workdir, "--seed=-1"], "seed must be at least 0"),
        ([], "required: RUN"),
    ):
        assert compare.main(list(map(str, arguments))) == 3
        error = capsys.readouterr().err
        assert re.match(f"error: .*{message}", error, re.DOTALL), error


class _Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.texts, self.alts = [], []

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attrs):
        self.alts += [value for name, value in attrs if name == "aria-label"]


def test_the_command_prints_and_writes_what_the_library_finds(workdir, tmp_path, capsys):
    page, numbers = tmp_path / "c.html", tmp_path / "c.json"
    flags = [f"--out={page}", f"--json={numbers}", "--resamples=200"]
    assert compare.main([str(workdir), *flags]) == 0
    runs = read_runs([workdir])
    expected = compare_methods(
        runs.correct,
        runs.dense_correct,
        runs.groups,
        tolerance=0.02,
        baseline="nft",
        resamples=200,
    )
    assert capsys.readouterr().out == f"{expected.to_text()}\n\npage  {page}\n"
    found = json.loads(numbers.read_text())
    assert {key: found[key] for key in expected.to_dict()} == json.loads(
        json.dumps(expected.to_dict())
    )
    assert found["command"].startswith(f"python -m bap_jax.compare {workdir}")
    parser = _Texts()
    parser.feed(page.read_text())
    text = " ".join(" ".join(parser.texts).split())
    for needed in ("ceag against nft", "Differences from nft", "left · ceag", found["date"]):
        assert needed in text, needed
    assert any("Intervals of differences" in alt for alt in parser.alts)


def test_the_text_is_printed_even_if_a_file_cannot_be_written(workdir, tmp_path, capsys):
    flags = ["--resamples=100", f"--json={tmp_path / 'new' / 'c.json'}", f"--out={workdir}"]
    assert compare.main([str(workdir), *flags]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("On 300 samples") and f"error: --out={workdir} cannot be" in err
    assert json.loads((tmp_path / "new" / "c.json").read_text())["n"] == 300


def test_a_run_whose_predictions_are_damaged(workdir, capsys):
    (workdir / "nft-seed1" / "predictions.npz").write_bytes(b"no archive")
    assert compare.main([str(workdir)]) == 3
    assert "nft-seed1/predictions.npz is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_greek_letters(workdir, encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert compare.main([str(workdir), "--resamples=100"]) == 0
    assert stream.buffer.getvalue().startswith(b"On 300 samples")


def test_names_are_shown_literally(tmp_path):
    write_run(tmp_path / "a", "<script>alert(1)</script>", 0)
    write_run(tmp_path / "b", "nft", 0)
    assert compare.main([str(tmp_path), f"--out={tmp_path / 'c.html'}", "--resamples=100"]) == 0
    page = (tmp_path / "c.html").read_text()
    assert "<script" not in page and html.escape("<script>alert(1)") in page


def test_a_terminal_and_a_locale_without_greek_letters(workdir, tmp_path):
    """Pages are UTF-8 wherever they are made, and the folders they lie in are made."""
    page = tmp_path / "new" / "c.html"
    command = [sys.executable, "-X", "utf8=0", "-m", "bap_jax.compare", str(workdir)]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    environment |= {
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONPATH": str(Path(compare.__file__).parents[1]),
    }
    done = subprocess.run(
        [*command, "--resamples=100", f"--out={page}"], capture_output=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "ε" in page.read_text(encoding="utf-8")


def test_one_method_alone(tmp_path, capsys):
    for seed in range(3):
        write_run(tmp_path / str(seed), "nft", seed)
    assert compare.main([str(tmp_path), f"--out={tmp_path / 'c.html'}", "--resamples=100"]) == 0
    assert "nothing to compare it with" in capsys.readouterr().out
    assert "figure-differences" not in (tmp_path / "c.html").read_text()


def test_small_differences_have_decimals():
    def value(estimate):
        return Interval(estimate, estimate - 0.0002, estimate + 0.0002)

    row = MethodDifference("a", "b", *[value(0.00031)] * 4)
    assert next(words for _, words, _ in differences(row, [])) == "+0.031 points (0.011 to 0.051)"


def test_two_spreads_of_0_have_no_ratio():
    groups, number = np.repeat(np.arange(4), 50), np.arange(200)
    correct = {"a": number % 10 > 0, "b": number % 10 > 1}  # all groups are harmed alike
    dense = np.ones(200, bool)
    found = compare_methods(correct, dense, groups, tolerance=0.02, resamples=100)
    assert [row.spread.estimate for row in found.methods] == [0, 0]
    line = "  spread over groups  both estimated as 0: no difference"
    assert line in found.to_text().splitlines()
    assert "both estimated as 0" in render_comparison(found, {})
    one, other = found.methods
    methods = (one, other._replace(spread=Interval(0.1, 0.0, 0.2)))
    assert differences(found.differences[0], methods)[-1][1].startswith("× ")


def test_many_groups_show_both_ends():
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(100), 30)
    dense = rng.random(3000) < 0.9
    correct = {name: rng.random(3000) < 0.9 for name in "ab"}
    found = compare_methods(correct, dense, groups, tolerance=0.02, resamples=100)
    page = render_comparison(found, {})
    assert "… 70 groups between the worst and the best …" in page
    assert page.count('class="row"') == 2 * 30 + 3


def test_no_jax_is_loaded(workdir, tmp_path):
    code = (
        "import sys\nfrom bap_jax.compare import main\n"
        f"assert main([{str(workdir)!r}, '--resamples=100', '--out={tmp_path / 'c.html'}']) == 0\n"
        "heavy = {'jax', 'flax', 'matplotlib', 'statsmodels', 'pandas', 'pyarrow'}\n"
        "print(heavy & {name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
