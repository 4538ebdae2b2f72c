"""Writers of rows: files, the calls that TensorBoard and Weights & Biases get, and mistakes."""

import json
import sys
import types

import pytest

import bap_jax
from bap_jax import metric_writers
from bap_jax.config import to_settings
from bap_jax.errors import UserError
from bap_jax.metric_writers import (
    WRITERS,
    JsonLines,
    RunDescription,
    TensorBoard,
    WeightsAndBiases,
    check_writers,
    find_writers,
    make_writers,
    writing,
)
from tests.test_experiment import tiny

ROWS = [
    {"step": 0, "epoch": 0, "loss": 1.5, "max_violation": None, "violation": [None, 0.5]},
    {"step": 1, "epoch": 0, "loss": 1.25, "max_violation": 0.25, "violation": [0.25, -1.0]},
    {"epoch": 0, "sparsity": 0.5, "multipliers": [0.0, 0.25], "staleness": {"mean": 2.0, "max": 3}},
    {"step": 2, "epoch": 1, "loss": 0.5, "max_violation": -0.5, "violation": [-0.5, -1.0]},
    {"epoch": 1, "sparsity": 0.75, "multipliers": [0.5, 0.25]},
]
OF_EPOCHS = [
    {
        "epoch/sparsity": 0.5,
        "epoch/multipliers/0": 0.0,
        "epoch/multipliers/1": 0.25,
        "epoch/staleness/mean": 2.0,
        "epoch/staleness/max": 3,
    },
    {"epoch/sparsity": 0.75, "epoch/multipliers/0": 0.5, "epoch/multipliers/1": 0.25},
]


class Calls:
    """Writes down what is called on it; `run` of wandb and writer of tensorboardX at once."""

    def __init__(self, *arguments, **options):
        self.calls = [("made", arguments, options)]

    def __getattr__(self, name):
        return lambda *arguments, **options: self.calls.append((name, arguments, options))


@pytest.fixture
def packages(monkeypatch):
    """Made-up tensorboardX and wandb; a list of all writers and runs that were made."""
    made = []

    def make(*arguments, **options):
        made.append(Calls(*arguments, **options))
        return made[-1]

    for name, function in (("tensorboardX", "SummaryWriter"), ("wandb", "init")):
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(name=name)  # as of a package that is installed
        setattr(module, function, make)
        monkeypatch.setitem(sys.modules, name, module)
    return made


def write_all(*writers):
    with writing(writers) as write:
        for row in ROWS:
            write(row)


def test_json_lines_hold_the_rows_and_can_be_followed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    for row in ROWS[:3]:
        writer.write(row)
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS[:3]
    writer.close()
    write_all(JsonLines(path))
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS


def test_what_tensorboard_gets(packages, tmp_path):
    write_all(TensorBoard(tmp_path / "events"))
    [writer] = packages
    assert writer.calls[0] == ("made", (str(tmp_path / "events"),), {})
    added = {arguments for name, arguments, _ in writer.calls if name == "add_scalar"}
    expected = {("step/loss", row["loss"], row["step"]) for row in ROWS if "step" in row}
    expected |= {("step/max_violation", 0.25, 1), ("step/max_violation", -0.5, 2)}
    for epoch, values in enumerate(OF_EPOCHS):
        expected |= {(name, value, epoch) for name, value in values.items()}
    assert added == expected
    assert [name for name, *_ in writer.calls].count("flush") == 2
    assert writer.calls[-1][0] == "close"


def test_what_weights_and_biases_gets(packages):
    """Numbers of an epoch come at its last step, as steps may not go back."""
    write_all(WeightsAndBiases(name="mine", project="faces"))
    [run] = packages
    options = {"name": "mine", "project": "faces", "reinit": "create_new"}
    assert run.calls[0] == ("made", (), options)
    logged = [(arguments[0], options) for name, arguments, options in run.calls if name == "log"]
    assert logged[0] == ({"step/loss": 1.5, "epoch": 0}, {"step": 0})
    assert [options["step"] for _, options in logged] == [0, 1, 1, 2, 2]
    assert [values for values, _ in logged if "epoch/sparsity" in values] == [
        values | {"epoch": epoch} for epoch, values in enumerate(OF_EPOCHS)
    ]
    assert run.calls[-1][0] == "finish"


def test_long_lists_stay_in_the_json(monkeypatch):
    monkeypatch.setattr(metric_writers, "LISTED", 1)
    assert metric_writers.scalars(ROWS[4]) == {"sparsity": 0.75}


class Own:
    """A writer of a user, made by `module:function` or handed over."""

    def __init__(self, run=None):
        self.run, self.rows, self.closed = run, [], 0

    def write(self, row):
        self.rows.append(row)

    def close(self):
        self.closed += 1


def test_a_run_has_the_writers_that_it_names(packages, tmp_path):
    run = RunDescription(tmp_path, "ceag-seed0", {"seed": 0})
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events of an earlier run").touch()
    names = "tensorboard, tests.test_metric_writers:Own,wandb"
    lines, board, own, wandb = make_writers(names, run)
    assert isinstance(lines, JsonLines) and own.run == run
    write_all(lines, board, own, wandb)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == len(ROWS)
    assert own.rows == ROWS and own.closed == 1
    assert packages[0].calls[0][1] == (str(tmp_path / "tensorboard"),)
    assert not (tmp_path / "tensorboard").exists()
    options = packages[1].calls[0][2]
    assert options["name"] == "ceag-seed0" and options["dir"] == str(tmp_path)
    assert options["config"] == {"seed": 0} and options["project"] == "bap_jax"


def test_other_processes_write_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(metric_writers.sharding, "is_first_process", lambda: False)
    assert make_writers("json", RunDescription(tmp_path, "ceag-seed0", {})) == []


def test_a_writer_may_be_registered(monkeypatch):
    monkeypatch.setattr(metric_writers, "WRITERS", dict(WRITERS))
    metric_writers.register_writer("own", Own)
    metric_writers.register_writer("own", Own)
    assert find_writers("own")["own"] is Own
    with pytest.raises(UserError, match="writer 'json' exists already; .*register_writer"):
        metric_writers.register_writer("json", Own)


@pytest.mark.parametrize(
    ("log", "text"),
    [
        ("jsonl", "unknown log 'jsonl'; known: json, tensorboard, wandb, joined by commas"),
        ("json;wandb", "unknown log 'json;wandb'"),
        ("no_such:f", "log 'no_such:f': No module named"),
        ("tests.test_metric_writers:ROWS", "log 'tests.*' must be a function; got "),
        (["json"], r"config.log must be names joined by commas; got \['json'\]"),
    ],
)
def test_mistakes_in_a_config(log, text):
    plain = tiny().to_dict()
    with pytest.raises(UserError, match=text):
        to_settings({**plain, "log": log})


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_an_error_before_anything_runs(name, package, monkeypatch):
    monkeypatch.setattr(metric_writers.importlib.util, "find_spec", lambda name: None)
    text = (
        rf"log '{name}' needs {package}, which is not installed; write pip install 'bap_jax\[{name}"
    )
    with pytest.raises(UserError, match=text):
        to_settings({**tiny().to_dict(), "log": f"json,{name}"})
    with pytest.raises(UserError, match=text):
        TensorBoard("w") if name == "tensorboard" else WeightsAndBiases()


@pytest.mark.parametrize("log", ["json", JsonLines, [Own(), print], {"a": 1}])
def test_mistakes_of_who_calls_from_python(log):
    with pytest.raises(UserError, match=r"log= takes a writer with write\(row\) and close\(\), "):
        check_writers(log)


def test_every_writer_is_closed_whatever_fails(caplog):
    """One that cannot be closed costs neither the run nor the error that ended it."""
    first, last = Own(), Own()
    broken = Own()
    broken.close = lambda: 1 / 0
    with caplog.at_level("WARNING"), writing([first, broken, last]) as write:
        write(ROWS[0])
    assert "could not be closed: ZeroDivisionError" in caplog.text
    with pytest.raises(KeyError), writing([first, broken, last]):
        raise KeyError
    assert (first.closed, last.closed) == (2, 2) and first.rows == [ROWS[0]]


def test_on_epoch_gets_copies_of_the_rows_of_epochs():
    seen, own = [], Own()

    def on_epoch(row):
        seen.append(dict(row))
        row.clear()

    with writing([own], on_epoch) as write:
        for row in ROWS:
            write(row)
    assert seen == [ROWS[2], ROWS[4]] and own.rows == ROWS


def read_events(path):
    """Tags, values and steps of an event file: records of a length, a checksum, and a message."""
    from tensorboardX.proto.event_pb2 import Event

    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + length])
        found += [(value.tag, value.simple_value, event.step) for value in event.summary.value]
        at += 12 + length + 4
    return found


def test_real_tensorboard_files(tmp_path):
    pytest.importorskip("tensorboardX")
    write_all(TensorBoard(tmp_path))
    found = read_events(next(tmp_path.glob("events*")))
    assert ("step/loss", 0.5, 2) in found and ("epoch/sparsity", 0.75, 1) in found


def test_real_offline_runs_of_weights_and_biases(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    runs = [RunDescription(tmp_path / name, name, {"seed": 0}) for name in ("a", "b")]
    for run in runs:
        run.folder.mkdir()
    write_all(*(writer for run in runs for writer in make_writers("wandb", run)))
    for run in runs:
        assert len(list(run.folder.glob("wandb/offline-run-*/*.wandb"))) == 1


def test_the_public_names_are_those_of_the_module():
    assert bap_jax.metric_writers.JsonLines is JsonLines
