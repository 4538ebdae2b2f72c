"""python -m bap_jax.audit: exit codes, files, errors, and what it loads."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bap_jax.audit import command
from tests.audit.prediction_files import write_table, write_text

ROOT = Path(__file__).parents[2]
SATISFIED, VIOLATED, UNDECIDED, NO_VERDICT = range(4)
QUICK = "--permutations=50"


@pytest.fixture
def table(tmp_path):
    """900 samples in three groups of 300; the sparse model loses 0, 0 and 60 of them."""
    right, group = np.ones(900, int), np.repeat(["a", "b", "c"], 300)
    sparse = np.where(np.arange(900) < 840, right, 0)
    path = tmp_path / "p.csv"
    return write_table(path, dense_correct=right, sparse_correct=sparse, group=group)


def run(*arguments):
    return command.main([*map(str, arguments), QUICK])


def error(capsys, *arguments):
    """What the command writes to stderr when it ends without a verdict."""
    assert run(*arguments) == NO_VERDICT
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("tolerance", "undecided", "code", "first"),
    [
        (0.5, "fail", SATISFIED, "Satisfied"),
        (0.01, "fail", VIOLATED, "Violated"),
        (0.01, "pass", VIOLATED, "Violated"),
        (0.14, "fail", UNDECIDED, "Undecided"),
        (0.14, "pass", SATISFIED, "Undecided"),
    ],
)
def test_exit_codes(table, capsys, tolerance, undecided, code, first):
    assert run(table, f"--tolerance={tolerance}", f"--on-undecided={undecided}") == code
    assert capsys.readouterr().out.startswith(f"{first} at ε = ")


def test_the_files_that_it_writes(table, tmp_path, capsys):
    page, numbers = tmp_path / "new" / "audit.html", tmp_path / "audit.json"
    arguments = (table, "--tolerance=.5", f"--report={page}", f"--json={numbers}")
    assert run(*arguments) == SATISFIED
    assert capsys.readouterr().out
    found = json.loads(numbers.read_text())
    assert found["verdict"] == "satisfied" and found["overall"]["n"] == 900
    assert [group["name"] for group in found["groups"]] == ["c", "a", "b"]
    assert numbers.read_text().count("\n") < 30
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    assert found["hashes"] == {str(table): digest}
    assert found["command"] == " ".join(["python -m bap_jax.audit", *map(str, arguments), QUICK])
    assert {"python", "numpy", "scipy", "bap_jax"} == set(found["versions"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", found["date"])
    html = page.read_text()
    for text in (digest, "--tolerance=.5", found["versions"]["scipy"], found["date"]):
        assert text in html, text


def test_all_flags_reach_the_audit(tmp_path, capsys):
    random = np.random.default_rng(0)
    label, dense, sparse = random.integers(0, 2, (3, 400))
    columns = {"key": np.arange(400), "gold": label, "big": dense, "small": sparse}
    columns |= {"race": random.integers(0, 2, 400), "age": ["old", "young"] * 200}
    path = write_table(tmp_path / "p.parquet", **columns)
    names = ["--id=key", "--label=gold", "--dense=big", "--sparse=small"]
    output = [f"--json={tmp_path / 'a.json'}", "--tolerance=0.3", "--alpha=0.01"]
    groups = ["--group-by=race*age+age", "--min-group-size=2", "--seed=3"]
    run(path, *names, *output, *groups, "--verbose")
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["alpha"], found["min_group_size"]) == (0.01, 2)
    assert found["chance"]["permutations"] == 50
    assert len(found["groups"]) == 6
    assert {group["attribute"] for group in found["groups"]} == {"race*age", "age"}
    run(path, *names, *output, "--groups=race,age")
    found = json.loads((tmp_path / "a.json").read_text())
    assert sorted(group["name"] for group in found["groups"]) == ["0", "1", "old", "young"]


def test_missing_values_are_counted(tmp_path, capsys):
    rows = ["1,1,a"] * 40 + ["1,1,b"] * 40 + ["1,0,"] * 40
    text = "\n".join(["dense_correct,sparse_correct,group", *rows])
    path, numbers = write_text(tmp_path / "p.csv", text), tmp_path / "a.json"
    assert run(path, "--tolerance=0.1", f"--json={numbers}") == VIOLATED
    found = json.loads(numbers.read_text())
    assert found["missing"] == {"group": 40} and found["deciding_group"] == "missing"


def test_two_tables(tmp_path, capsys):
    right, group = np.ones(100, int), ["a", "b"] * 50
    ids = np.arange(100)
    dense = write_table(tmp_path / "d.csv", id=ids, correct=right, group=group)
    sparse = write_table(tmp_path / "s.npz", id=ids[::-1], correct=right)
    # Flags may stand between the two.
    assert run(dense, "--tolerance=0.19", sparse, "--id=id") == SATISFIED
    out = capsys.readouterr().out
    assert "100 " in out


def test_language_models(tmp_path, capsys):
    for model in ("dense", "sparse"):
        (tmp_path / model).mkdir()
        for task in ("law", "history"):
            lines = [
                {"doc_id": i, "doc": {"question": i}, "prompt_hash": model, "acc": 1.0}
                for i in range(50)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            write_text(tmp_path / model / f"samples_{task}_2026-01-01T00-00-00.jsonl", text)
    folders = (tmp_path / "dense", tmp_path / "sparse")
    assert run(*folders, "--tolerance=0.2") == SATISFIED
    out, err = capsys.readouterr()
    assert "history" in out and "law" in out
    assert err.startswith("warning: task history: 50 of 50 prompts differ")
    assert "no score 'f1'" in error(capsys, *folders, "--tolerance=0.2", "--metric=f1")
    assert "name two" in error(capsys, folders[0], "--tolerance=0.2")


def test_a_finished_run(tmp_path, capsys):
    np.savez(
        tmp_path / "predictions.npz",
        test_group=np.repeat([0, 1], 50)[:, None],
        test_dense_correct=np.ones(100, bool),
        test_sparse_correct=np.ones(100, bool),
        group_names=np.array(["a", "b"]),
        attribute_of_group=np.array(["label", "label"]),
    )
    run_flag = f"--run={tmp_path}"
    assert "a tolerance is missing; write --tolerance=0.01" in error(capsys, run_flag)
    write_text(tmp_path / "report.json", '{"tolerance": 0.2}')
    assert run(run_flag) == SATISFIED
    assert run(run_flag, "--tolerance=0.0001") == UNDECIDED
    capsys.readouterr()
    assert "no split 'dev'; write --split=test" in error(capsys, run_flag, "--split=dev")
    assert "takes the place of files" in error(capsys, "p.csv", run_flag)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a tolerance is missing; write --tolerance=0.01"),
        (["--tolerance=1%"], "expected a fraction, 0.01 for one percentage point; got '1%'"),
        (["--tolerance=-0.1"], "tolerance must be a fraction in"),
        (["--tolerance=1"], "--tolerance=1 is 100 percentage points, which every model satisfies"),
        (["--tolerance=nan"], "tolerance must be a fraction in"),
        (["--tolerance=.1", "--alpha=1"], "alpha must be"),
        (
            ["--tolerance=.1", "--group-by=race"],
            "no column 'race'.*dense_correct, sparse_correct, g",
        ),
        (
            ["--tolerance=.1", "--group-by=race, age"],
            r"write --group-by='race\+age' .*='race\*age' for",
        ),
        (["--tolerance=.1", "--groups=race"], "--groups: there is no column 'race'"),
        (["--tolerance=.1", "--on-undecided=maybe"], "invalid choice: 'maybe'"),
        (["--tolerance=.1", "--tol=.1"], "unrecognized arguments: --tol=.1"),
        (["--tolerance=.1", "--min-group-size=400"], "min_group_size=400"),
        (["--tolerance=.1", "b.csv", "c.csv"], "expected one file .* or two, .* got 3"),
        (["--tolerance=.1", "--seed=-1"], "seed must be at least 0; got -1"),
    ],
)
def test_mistakes(table, capsys, arguments, message):
    assert re.search(message, error(capsys, table, *arguments))


@pytest.mark.parametrize("flag", ["report", "json"])
def test_the_verdict_is_not_lost_with_a_file_that_cannot_be_written(table, capsys, flag):
    for path in ("/proc/nowhere/a", table.parent, table / "a"):
        assert run(table, "--tolerance=.1", f"--{flag}={path}") == NO_VERDICT
        out, err = capsys.readouterr()
        assert out.startswith("Violated at ε = 10 points")
        assert err.startswith(f"error: --{flag}={path} cannot be written: ") and "\n" in err


def test_numbers_alone_on_the_standard_output(table, capsys):
    assert run(table, "--tolerance=.1", "--json=-") == VIOLATED
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "violated" and err.startswith("Violated at ε")


def test_names_of_groups_do_not_steer_the_terminal(tmp_path, capsys):
    path = write_table(
        tmp_path / "p.csv",
        dense_correct=[1, 0] * 100,
        sparse_correct=[1, 1] * 100,
        group=["\x1b[31mred\ttab", "\u202eback"] * 100,
    )
    page = tmp_path / "a.html"
    assert run(path, "--tolerance=.1", f"--report={page}") in (SATISFIED, VIOLATED, UNDECIDED)
    out = capsys.readouterr().out
    assert r"\x1b[31mred\ttab" in out and r"\u202eback" in out
    for text in (out, page.read_text()):
        assert not any(sign in text for sign in ("\x1b", "\u202e", "\t"))


def test_a_name_with_half_a_character(tmp_path, capsys):
    for model in ("dense", "int8"):
        (tmp_path / model).mkdir()
        docs = [
            {"doc_id": i, "doc": {"x": "\ud800" if i % 2 else "b"}, "metrics": ["acc"], "acc": 1}
            for i in range(80)
        ]
        write_text(tmp_path / model / "samples_t.jsonl", "\n".join(map(json.dumps, docs)))
    page = tmp_path / "a.html"
    flags = ["--group-by=x", "--tolerance=.5", f"--report={page}"]
    assert run(tmp_path / "dense", tmp_path / "int8", *flags) == SATISFIED
    assert r"\ud800" in capsys.readouterr().out and r"\ud800" in page.read_text()


def test_a_folder_beside_a_table(table, tmp_path, capsys):
    folder = tmp_path / "samples"
    folder.mkdir()
    for files in ((folder, table), (table, folder)):
        message = error(capsys, *files, "--tolerance=.1")
        assert f"{table} is no such file; name two tables, or two folders" in message


def test_a_file_that_is_named_twice(table, capsys):
    again = table.parent / ".." / table.parent.name / table.name
    assert "p.csv is named twice" in error(capsys, table, again, "--tolerance=.1")


def test_a_tolerance_that_may_have_been_meant_in_points(table, capsys):
    assert run(table, "--tolerance=0.5") == SATISFIED
    assert capsys.readouterr().err == "warning: a tolerance of 0.5 is 50 percentage points.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["p.csv", "--metric=acc"], "--metric is for samples of language models, not for tables"),
        (["p.csv", "--split=test"], "--split is for a finished run, not for tables"),
        (["--run=x", "--label=y"], "--label is for tables, not for a finished run"),
        (["a.jsonl", "b.jsonl", "--id=y"], "--id is for tables, not for samples of language"),
        (
            ["--run=x", "--groups=race"],
            "--groups is for tables and samples of language models, not",
        ),
    ],
)
def test_flags_that_would_have_no_effect(capsys, arguments, message):
    assert message in error(capsys, "--tolerance=.1", *arguments)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_greek_letters_changes_no_exit_code(table, encoding):
    words = [sys.executable, "-m", "bap_jax.audit", str(table), "--tolerance=0.01", QUICK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (VIOLATED, b"")
    assert done.stdout.startswith(b"Violated at ")


def test_no_file_and_a_missing_file(capsys):
    assert "expected one file with both models' predictions" in error(capsys, "--tolerance=.1")
    assert "there is no file nowhere.csv" in error(capsys, "nowhere.csv", "--tolerance=.1")


def test_a_failure_of_the_program_itself_is_no_verdict(table, capsys, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(command, "read", fail)
    assert run(table, "--tolerance=.1") == NO_VERDICT
    assert "ZeroDivisionError" in capsys.readouterr().err


def process(*arguments, **others):
    words = [sys.executable, "-m", "bap_jax.audit", *map(str, arguments), QUICK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, env=environment, **others)


def test_the_process_ends_with_the_exit_code(table, tmp_path):
    violated = process(table.name, "--tolerance=0.01", cwd=tmp_path)
    assert (violated.returncode, violated.stderr) == (VIOLATED, "")
    assert violated.stdout.startswith("Violated")
    wrong = process(table.name, "--tolerence=0.01", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (NO_VERDICT, "")
    assert wrong.stderr.startswith("error: ")
    described = process("--help", cwd=tmp_path)
    assert described.returncode == 0 and "Exit code: 0 satisfied, 1 violated" in described.stdout


def test_a_closed_pipe_changes_no_exit_code(table):
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "bap_jax.audit", str(table), "--tolerance=0.01", QUICK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(write)
    assert (done.returncode, done.stderr) == (VIOLATED, "")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_it_loads_none_of_the_slow_libraries(tmp_path, suffix):
    columns = {"label": ["x", "y"] * 50, "dense": ["x", "y"] * 50, "sparse": ["x", "x"] * 50}
    group = [f"group {i % 3}" for i in range(100)]
    table = write_table(tmp_path / f"p{suffix}", **columns, id=range(100), group=group)
    report = tmp_path / "a.html"
    arguments = [str(table), "--tolerance=0.9", QUICK, f"--report={report}", "--json=/dev/null"]
    code = (
        "import sys\nfrom bap_jax.audit.command import main\n"
        f"assert main({arguments}) == {SATISFIED}\nprint(*sys.modules, file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    loaded = set(done.stderr.split())
    assert {"numpy", "pyarrow", "jinja2", "scipy.special"} <= loaded and report.is_file()
    slow = {"jax", "jaxlib", "flax", "matplotlib", "pandas", "statsmodels", "scipy.stats"}
    assert not loaded & (slow | {"sklearn", "absl", "ml_collections"})
    assert ("pyarrow.parquet" in loaded) == (suffix == ".parquet")
