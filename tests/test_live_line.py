"""The line that shows where a run is."""

import io
import sys
import types

import pytest

from bap_jax import live_line
from bap_jax.errors import UserError
from bap_jax.live_line import LiveLine, describe

pytestmark = pytest.mark.usefixtures("wide_terminal")


class Terminal(io.StringIO):
    """Text that is written to a terminal."""

    def isatty(self):
        return True


def row(epoch, gap=0.013, sum_multipliers=0.214, **others):
    numbers = {
        "epoch": epoch,
        "sparsity": 0.25 * (epoch + 1),
        "validation_accuracy": 0.942,
        "validation_max_excess_gap": gap,
        "sum_multipliers": sum_multipliers,
    }
    return {**numbers, **others}


def follow(file, rows, show=None, **options):
    with LiveLine("ceag", 2, show, file=file, **options) as line:
        for each in rows:
            line.update({"step": 0, "epoch": each["epoch"]})
            line.update(each)
    return file.getvalue()


def test_a_terminal_shows_every_number_and_is_left_clean():
    text = follow(Terminal(), [row(0), row(1, gap=-0.002)])
    expected = "sparsity 25.0 %, accuracy 94.2 %, largest gap 1.3 points, Σλ 0.21"
    assert expected in text and "1/2" in text and "ceag:" in text
    assert "2/2" in text and "sparsity 50.0 %" in text and "largest gap -0.2 points" in text
    assert "\n" not in text and text.endswith("\r")
    assert text.rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_a_file_shows_nothing_unless_asked():
    assert follow(io.StringIO(), [row(0)]) == ""
    assert follow(Terminal(), [row(0)], show=False) == ""
    lines = follow(io.StringIO(), [row(0), row(1)], show=True).splitlines()
    assert lines[0].startswith(
        "ceag: 1/2 epochs, sparsity 25.0 %, accuracy 94.2 %, largest gap 1.3"
    )
    assert len(lines) == 2 and lines[1].startswith("ceag: 2/2 epochs, sparsity 50.0 %")


def test_several_runs_share_the_line():
    """The second of two runs diverges in the second epoch."""
    rows = [row(0), row(0, gap=0.05, sum_multipliers=0.0), row(1)]
    lines = follow(io.StringIO(), rows, show=True, runs=2).splitlines()
    assert lines[0].endswith("accuracy 94.2 %, largest gap 5.0 points, Σλ 0.11, 2 runs")
    assert len(lines) == 2 and lines[1].startswith("ceag: 2/2 epochs")
    text = follow(Terminal(), rows, runs=2)
    assert "2 runs" in text and "2/2" in text


def test_what_is_not_known_is_left_out():
    known = {"epoch": 0, "sparsity": 0.5, "validation_accuracy": float("nan")}
    assert describe([known]) == "sparsity 50.0 %"
    assert describe([known | {"validation_max_excess_gap": None}]) == "sparsity 50.0 %"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ZMQInteractiveShell", True), ("Shell", True), ("TerminalInteractiveShell", False)],
)
def test_a_notebook_is_known_by_its_shell(name, expected, monkeypatch):
    module = types.ModuleType("IPython")
    module.get_ipython = type(name, (), {})
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert live_line.in_notebook() == expected
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # where a notebook shows it
    with LiveLine("ceag", 2) as line:
        line.update(row(0))
    assert ("largest gap" in sys.stdout.getvalue()) == expected


def test_one_process_shows_it(monkeypatch):
    monkeypatch.setattr(live_line.sharding, "is_first_process", lambda: False)
    assert follow(Terminal(), [row(0)], show=True) == ""


@pytest.mark.parametrize("show", [1, "yes", [True]])
def test_progress_is_true_false_or_none(show):
    with pytest.raises(UserError, match="progress must be True, False or None; got"):
        LiveLine("ceag", 2, show)
