"""The command for accelerators keeps what it has measured, whatever fails.

No time is checked here: the clock of these tests moves when a part says so.
"""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KEYS = {"part", "case", "status", "device", "jax", "date", "small", "at"}


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def module(name):
    return importlib.import_module(f"accelerator_parts.{name}")


class Clock:
    """Seconds that only `wait` moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def run(parts, folder, seconds=100, clock=None):
    """The rows of the file after these parts."""
    results = module("part").Results(folder, small=True)
    parts = [module("part").Part(name, "", share, run) for name, share, run in parts]
    module("runner").run(parts, results, seconds, None, clock or Clock())
    return rows_of(folder)


def rows_of(folder):
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_part_that_fails_is_reported_and_the_rest_goes_on(tmp_path):
    def fails(recorder):
        recorder.row("before", ratio=2.0)
        raise MemoryError("out of memory")

    def works(recorder):
        recorder.row("after", ratio=1.0, goal=1.02)

    rows = run([("a", 1, fails), ("b", 1, works)], tmp_path)
    assert [(row["part"], row["case"], row["status"]) for row in rows] == [
        ("a", "before", "ok"),
        ("a", "all", "failed"),
        ("b", "after", "ok"),
    ]
    assert rows[1]["error"] == "MemoryError: out of memory"
    assert "in fails" in rows[1]["traceback"]
    assert all(row.keys() >= KEYS for row in rows)
    table = (tmp_path / "table.md").read_text()
    assert "| a | all |  |  | FAILED: MemoryError: out of memory |" in table
    assert "| b | after | 1.000 | ≤ 1.02 |  |" in table


@pytest.mark.smoke
def test_a_case_that_fails_is_reported_and_the_next_one_is_measured(tmp_path):
    def part(recorder):
        done = [
            recorder.attempt("one", lambda size: {"ratio": 1 / size}, 0),
            recorder.attempt("two", lambda size: {"ratio": 1 / size}, 2),
        ]
        assert done == [False, True]

    rows = run([("a", 1, part)], tmp_path)
    assert [(row["case"], row["status"]) for row in rows] == [("one", "failed"), ("two", "ok")]
    assert rows[0]["error"].startswith("ZeroDivisionError")
    assert rows[1]["ratio"] == 0.5


@pytest.mark.parametrize(
    ("ratio", "small", "met"), [(1.02, False, True), (1.03, False, False), (1.0, True, None)]
)
def test_a_goal_is_met_by_at_most_its_value_and_not_judged_in_a_dry_run(
    tmp_path, ratio, small, met
):
    results = module("part").Results(tmp_path, small)
    module("part").Recorder("a", results, 100).row("x", ratio=ratio, goal=1.02)
    [row] = rows_of(tmp_path)
    assert row["goal"] == 1.02 and row.get("met") is met


def test_time_that_a_part_leaves_goes_to_those_after_it(tmp_path):
    clock, left = Clock(), []

    def part(seconds):
        def wait(recorder):
            left.append(recorder.seconds_left())
            clock.wait(seconds)

        return wait

    parts = [("a", 2, part(10)), ("b", 1, part(60)), ("c", 1, part(5))]
    run(parts, tmp_path, 100, clock)
    assert left == [50, 45, 30]


def test_parts_and_cases_without_time_say_so(tmp_path):
    clock = Clock()

    def part(recorder):
        clock.wait(200)
        assert not recorder.attempt("late", lambda: {"ratio": 1.0})

    def never(recorder):
        raise AssertionError

    rows = run([("a", 1, part), ("b", 1, never)], tmp_path, 100, clock)
    assert [(row["part"], row["case"], row["status"]) for row in rows] == [
        ("a", "late", "skipped"),
        ("b", "all", "skipped"),
    ]
    assert all("no time left" in row["why"] for row in rows)
    assert (tmp_path / "table.md").read_text().count("no time left") == 2


def test_numbers_of_any_kind_become_json(tmp_path):
    import jax.numpy as jnp
    import numpy as np

    numbers = {"a": np.float32(0.5), "b": jnp.int32(3), "c": float("nan"), "d": [np.int64(1)]}
    [row] = run([("x", 1, lambda recorder: recorder.row("y", **numbers))], tmp_path)
    assert [row[name] for name in "abcd"] == [0.5, 3, None, [1]]


def test_a_long_table_is_cut_to_what_an_output_keeps(tmp_path):
    rows = [
        {"part": "steps", "case": f"case {i}", "status": "ok", "ratio": 1.0, "note": "x" * 300}
        for i in range(400)
    ]
    text = module("table").short(rows)
    assert 10_000 < len(text) <= module("table").LONGEST
    assert text.endswith("rows in table.md")


def test_the_members_that_fit_follow_the_last_two_programs():
    """10 bytes a member after 100: 20 members take 300, and 1000 bytes hold 90."""
    most = module("sweep").most_members
    assert most({5: 150, 10: 200, 20: 300}, 1000) == 90
    assert most({10: 200}, 1000) == 50
    assert most({10: 200, 20: 300}, 300) == 20


def test_peaks_are_found_by_part_of_the_name():
    peaks = module("peaks")
    assert peaks.peak_of("NVIDIA H100 80GB HBM3").bfloat16 == 989e12
    assert peaks.peak_of("NVIDIA H100 PCIe").bfloat16 == 756e12
    assert peaks.peak_of("TPU v5 lite").tf32 is None
    assert peaks.peak_of("cpu") is None


def test_a_row_measured_before_is_found_by_later_parts(tmp_path):
    found = []

    def second(recorder):
        found.extend(recorder.earlier("a", case) for case in ("x", "y"))

    run([("a", 1, lambda recorder: recorder.row("x", ms=2.0)), ("b", 1, second)], tmp_path)
    assert found[0]["ms"] == 2.0 and found[1] is None


def test_a_killed_command_leaves_whole_lines(tmp_path):
    program = f"""
import sys, time
sys.path.insert(0, "benchmarks")
from accelerator_parts.part import Part, Results
from accelerator_parts.runner import run
def part(recorder):
    for i in range(3):
        recorder.row(f"case {{i}}", ratio=1.0)
    time.sleep(600)
run([Part("a", "", 1, part)], Results({str(tmp_path)!r}, True), 900)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for i in range(3):
            assert f"case {i}" in process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [row["case"] for row in rows_of(tmp_path)] == ["case 0", "case 1", "case 2"]


def test_a_part_that_cannot_be_imported_fails_when_it_runs(tmp_path):
    [part] = module("runner").load([], ["missing"])
    assert "No module named 'accelerator_parts.missing'" in part.what
    rows = run([(part.name, part.share, part.run)], tmp_path)
    assert [(row["case"], row["status"]) for row in rows] == [("all", "failed")]


def command(*arguments):
    """Runs the command where packages are missing that a lent machine lacks."""
    missing = ["grain", "ml_collections", "tensorflow_datasets", "array_record"]
    missing += ["matplotlib", "PIL", "safetensors", "sklearn", "tqdm"]
    program = f"""
        import runpy, sys
        for name in {missing}:
            sys.modules[name] = None
        sys.path.insert(0, "benchmarks")
        sys.argv = {["accelerator.py", *arguments]}
        runpy.run_path("benchmarks/accelerator.py", run_name="__main__")
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)


def test_unknown_parts_are_errors_that_list_the_known():
    done = command("--only=steps,stairs")
    assert done.returncode != 0
    assert "unknown parts stairs; known: steps, epoch" in done.stdout + done.stderr


def test_the_list_says_what_each_part_measures():
    done = command("--list")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()][:3] == ["steps", "epoch", "sweep"]
    assert "cannot be imported" not in done.stdout


@pytest.mark.smoke
def test_every_part_runs_on_tiny_sizes(tmp_path):
    done = command("--dry-run", "--minutes=60", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path)
    assert all(row.keys() >= KEYS and row["small"] for row in rows)
    others = [row["part"] for row in rows if row["status"] != "ok"]
    assert others == ([] if importlib.util.find_spec("torch") else ["torch_steps"])
    names = [line.split()[0] for line in command("--list").stdout.splitlines()]
    assert {row["part"] for row in rows} == {"machine", *names}
    for row in rows:
        if "/" in row["case"]:  # a comparison
            assert row["lower_quartile"] <= row["ratio"] <= row["upper_quartile"]
            assert row["ms"] > 0 and row["against_ms"] > 0
    throughputs = [row for row in rows if row["case"].endswith("throughput")]
    assert throughputs and all(row["model_flops_of_a_step"] > 0 for row in throughputs)
    table = (tmp_path / "table.md").read_text()
    assert table.count("\n") == 2 + len(rows)
    last = rf"{rows[-1]['part']} +{re.escape(rows[-1]['case'])} "
    assert len(re.findall(last, done.stdout)) == 2  # when it came, and in the last table
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl", "table.md"}
