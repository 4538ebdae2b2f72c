"""Who follows a run: from Python in one call, and by the config of a command or a sweep."""

import io
import json

import pytest
from flax import nnx

import bap_jax
from bap_jax import experiment, live_line, pipeline, sweep
from bap_jax.errors import UserError
from tests.test_api import QUICK, TEST, Net, arrays
from tests.test_experiment import tiny
from tests.test_live_line import Terminal
from tests.test_metric_writers import Own

pytestmark = pytest.mark.usefixtures("wide_terminal")


def run(**options):
    options = {"test_indices": TEST, "settings": QUICK} | options
    return bap_jax.prune_and_tune(Net(nnx.Rngs(0)), *arrays(), **options)


def test_one_call_with_all_of_them(monkeypatch):
    monkeypatch.setattr(live_line.sys, "stderr", terminal := Terminal())
    epochs, writer = [], Own()
    result = run(on_epoch=epochs.append, log=[writer])
    assert [row["epoch"] for row in epochs] == [0, 1, 2, 3]
    keys = {"sparsity", "validation_accuracy", "validation_max_excess_gap", "sum_multipliers"}
    assert all(keys <= row.keys() for row in epochs)
    assert epochs[-1]["sparsity"] == pytest.approx(result.report["sparsity"]["prunable"])
    assert [row for row in writer.rows if "step" not in row] == epochs
    assert len(writer.rows) == 4 * (1 + 1) and writer.closed == 1  # one step an epoch
    assert "4/4" in terminal.getvalue() and "Σλ" in terminal.getvalue()


class OwnError(Exception):
    pass


def test_what_on_epoch_raises_ends_the_run_and_closes_writers(monkeypatch):
    """With nothing lost in silence: the error is the user's own, and what was written stays."""
    monkeypatch.setattr(live_line.sys, "stderr", terminal := Terminal())
    writer = Own()

    def stop(row):
        if row["epoch"] == 1:
            raise OwnError("enough")

    with pytest.raises(OwnError, match="enough"):
        run(on_epoch=stop, log=writer)
    assert writer.closed == 1
    assert [row["epoch"] for row in writer.rows if "step" not in row] == [0, 1]
    assert terminal.getvalue().endswith("\r")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"progress": "yes"}, "progress must be True, False or None; got 'yes'"),
        ({"on_epoch": [print]}, "on_epoch must be a function of one row, a dict; got"),
        ({"on_epoch": lambda epoch, row: None}, "on_epoch must be a function of one row, a dict"),
        ({"on_epoch": lambda: None}, "on_epoch must be a function of one row, a dict; got"),
        (
            {"log": "metrics.jsonl"},
            r"log= takes a writer with write\(row\) and close\(\), .*got 'metrics.jsonl'\.",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_evaluated(options, text, monkeypatch):
    monkeypatch.setattr(pipeline, "make_context", lambda *_: pytest.fail("evaluated"))
    with pytest.raises(UserError, match=text):
        run(**options)


MADE = []


def make_own(description):
    MADE.append(Own(description))
    return MADE[-1]


LOG = "json,tests.test_watching:make_own"


def short(**changes):
    """Two epochs."""
    return tiny(**{"finetune_epochs": 1, "dense.epochs": 1, "pruning.epochs": 1, **changes})


@pytest.mark.smoke
def test_a_command_writes_what_its_config_names(tmp_path, monkeypatch):
    """Another `log` is no other experiment: the workdir, its dense network and results stay."""
    MADE.clear()
    first = experiment.run_experiment(short(log=LOG), tmp_path)
    [own] = MADE
    lines = (tmp_path / "ceag-seed0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(own.rows))
    assert own.run.folder == tmp_path / "ceag-seed0" and own.run.config["log"] == LOG
    assert own.closed == 1 and "log" not in json.loads((tmp_path / "config.json").read_text())
    monkeypatch.setattr(pipeline, "train_dense", lambda *_, **__: pytest.fail("trained again"))
    again = experiment.run_experiment(short(), tmp_path)
    assert again["params_sha256"] == first["params_sha256"] and len(MADE) == 1


@pytest.mark.smoke
def test_each_member_of_a_sweep_has_its_own_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(live_line.sys, "stderr", terminal := Terminal())
    MADE.clear()
    config = short(log=LOG)
    quiet = {"on_progress": lambda line: None}
    rows = sweep.run_sweep(config, tmp_path, {"seed": "0:2"}, **quiet)
    assert [own.run.config["seed"] for own in MADE] == [0, 1]
    for own in MADE:
        assert own.run.folder.name == own.run.name and (own.run.folder / "report.json").exists()
        assert [row["epoch"] for row in own.rows if "step" not in row] == [0, 1] and own.closed == 1
    assert MADE[0].rows != MADE[1].rows
    shown = terminal.getvalue()
    assert "program 1/1" in shown and "2 runs" in shown and "2/2" in shown
    # Without the writer nothing has to run again.
    config.log = "json"
    monkeypatch.setattr(pipeline, "make_tuner", lambda *_: pytest.fail("run again"))
    assert sweep.run_sweep(config, tmp_path, {"seed": "0:2"}, **quiet) == rows


def test_what_is_shown_is_no_axis(tmp_path):
    with pytest.raises(UserError, match="axis log would change no result; write --config.log="):
        sweep.run_sweep(tiny(), tmp_path / "w", {"log": ["json", "wandb"]})


def test_without_a_terminal_nothing_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(live_line.sys, "stderr", io.StringIO())
    assert live_line.LiveLine("ceag", 3)._bar is None
