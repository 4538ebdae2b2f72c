"""Rows, sweep.csv, the table for the terminal, the figure."""

import csv
import io
import json

import pytest

from bap_jax import reporting
from bap_jax.reporting.sweep_rows import rows_by_setting
from bap_jax.sweep import format_rows
from bap_jax.sweep.results import to_csv, write_all
from bap_jax.sweep.runner import run_in_process
from tests.sweep.fakes import make_sweep


def quiet(text):
    del text


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(tmp_path / "w", "tolerance=0.01,0.02", "seed=0,4,13", "model.hidden=(8,)")


@pytest.fixture
def rows(sweep):
    return run_in_process(sweep, quiet)


def test_rows_are_in_the_order_of_the_axes(sweep, rows):
    assert json.loads(sweep.folder.results.read_text()) == {"rows": rows}
    assert [row["config"] for row in rows] == [member.overrides for member in sweep.members]
    assert rows[0]["report"]["config"] == sweep.members[0].plain and "error" not in rows[0]
    assert rows[2]["report"] is None and rows[2]["error"] == "loss is nan at step 3"


def test_the_csv_file(sweep, rows):
    text = sweep.folder.table.read_text()
    assert text == to_csv(rows)
    lines = list(csv.DictReader(io.StringIO(text)))
    columns = list(lines[0])
    assert columns[:4] == ["tolerance", "seed", "model.hidden", "method"]
    assert columns[4:7] == ["sparsity.prunable", "epoch", "train_sparse_accuracy"]
    assert columns[-2:] == ["last_test_pairwise_disparity", "error"]
    assert len(columns) == 6 + 2 * 3 * 4 + 1
    assert lines[1]["tolerance"] == "0.01" and lines[1]["model.hidden"] == "8"
    assert float(lines[1]["test_sparse_accuracy"]) == pytest.approx(0.94)
    assert lines[2]["error"] == "loss is nan at step 3" and lines[2]["epoch"] == ""


def test_the_table_of_a_sweep_that_diverged_everywhere(tmp_path):
    sweep = make_sweep(tmp_path / "w", "seed=13")
    rows = run_in_process(sweep, quiet)
    assert to_csv(rows) == "seed,error\n13,loss is nan at step 3\n"
    assert not sweep.folder.figure.exists()
    assert "diverged" in format_rows(rows)


def test_the_printed_table_has_means_over_seeds(rows):
    lines = format_rows(rows).splitlines()
    (line,) = [line for line in lines if line.startswith("tolerance=0.02")]
    # Seeds 0 and 4: accuracies 90 and 94, gaps 2.0 and 2.4 points.
    assert line.split() == ["tolerance=0.02,model.hidden=8", "2"] + 2 * [
        *("92.00", "±", "2.83"),
        *("2.20", "±", "0.28"),
    ]
    assert "2 of 6 diverged:" in lines
    assert lines[-1] == "  tolerance=0.02,seed=13,model.hidden=8: loss is nan at step 3"


def test_the_printed_table_says_how_networks_were_chosen(tmp_path):
    rows = run_in_process(make_sweep(tmp_path / "w", "seed=0,1"), quiet)
    assert format_rows(rows).startswith("PRUNED NETWORKS (selection=last); percent")
    rows = run_in_process(make_sweep(tmp_path / "v", "selection=last,best"), quiet)
    assert format_rows(rows).startswith("PRUNED NETWORKS (chosen as selection= says); percent")


def test_one_seed_has_no_spread(tmp_path):
    rows = run_in_process(make_sweep(tmp_path / "w", "method=nft,ceag"), quiet)
    assert "±" not in format_rows(rows).split("\n", 3)[-1]


def test_rows_are_grouped_by_everything_but_the_seed(rows):
    settings, first = rows_by_setting(rows), "tolerance=0.01,model.hidden=8"
    assert list(settings) == [first, "tolerance=0.02,model.hidden=8"]
    assert [row["config"]["seed"] for row in settings[first]] == [0, 4, 13]
    assert list(rows_by_setting([{"config": {"seed": 1}, "report": None}])) == ["all seeds"]


@pytest.mark.parametrize(
    "axes",
    [
        ["seed=0"],
        ["seed=0:3"],
        ["tolerance=0.0,0.01", "seed=0:3"],
        ["method=nft,ceag", "seed=12:14"],
        ["dual.rule=ascent", "dual.learning_rate=1:40"],
    ],
)
def test_the_figure_is_drawn(axes, tmp_path):
    sweep = make_sweep(tmp_path / "w", *axes)
    run_in_process(sweep, quiet)
    assert sweep.folder.figure.read_bytes().startswith(b"\x89PNG")
    write_all(sweep.folder, [])  # leaves the figure
    assert not list(sweep.folder.root.glob(".*"))


def test_a_figure_that_fails_is_a_warning(sweep, monkeypatch):
    def fails(rows, path):
        path.write_text("half a figure")
        raise RuntimeError("no such font")

    monkeypatch.setattr(reporting, "draw_tradeoff", fails)
    warnings = []
    assert len(run_in_process(sweep, quiet, warnings.append)) == 6
    text = "sweep.png could not be made, all other results are kept: RuntimeError: no such font"
    assert warnings == [text]
    assert sweep.folder.table.exists() and not list(sweep.folder.root.glob("*.png*"))
