"""The figure of a sweep: where its marks are, and what the legend says."""

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from bap_jax import reporting

SPLITS = ("train", "test")


def report(gap, accuracy, tolerance=0.01, selection="best"):
    """Numbers of the training split; 0.1 more on the test split, 0.2 more for the last iterate."""

    def splits(shift):
        return {
            split: {"max_excess_gap": gap + shift + i / 10, "sparse_accuracy": accuracy}
            for i, split in enumerate(SPLITS)
        }

    own = {"tolerance": tolerance, "selection": selection}
    return {**own, "splits": splits(0), "last": {"splits": splits(0.2)}}


def draw(rows, tmp_path, monkeypatch):
    figures, save = [], Figure.savefig

    def spy(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    reporting.draw_tradeoff(rows, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    return figures[0]


def marks(panel, hollow):
    """`(x, y)` of the marks in percent, filled or hollow."""
    points = [line for line in panel.lines if len(line.get_xdata()) == 1]
    points = [line for line in points if line.get_marker() not in ("None", "|", "_")]
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in points
        if same_color(line.get_markerfacecolor(), "white") == hollow
    ]


def test_marks_are_means_over_seeds(tmp_path, monkeypatch):
    numbers = {"nft": [(0.03, 0.90), (0.05, 0.92)], "ceag": [(0.01, 0.80), (0.01, 0.84)]}
    rows = [
        {"config": {"method": method, "seed": seed}, "report": report(*pair)}
        for method, pairs in numbers.items()
        for seed, pair in enumerate(pairs)
    ]
    rows.append({"config": {"method": "ceag", "seed": 2}, "report": None})
    figure = draw(rows, tmp_path, monkeypatch)
    for shift, panel in zip((0, 10), figure.axes, strict=True):
        filled = np.array([(4 + shift, 91), (1 + shift, 82)])
        np.testing.assert_allclose(marks(panel, hollow=False), filled)
        np.testing.assert_allclose(marks(panel, hollow=True), filled + np.array([20, 0]))
        dots = [collection.get_offsets() for collection in panel.collections]
        assert any(np.allclose(dot, [[3 + shift, 90], [5 + shift, 92]]) for dot in dots)
        assert panel.get_xlabel() == "largest excess gap of any group (percentage points)"
        assert panel.get_ylabel() == "accuracy (%)"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["nft", "ceag", "tolerance"]
    assert legend.get_title().get_text() == "method; 2 seeds each"


def test_the_last_iterate_is_drawn_once(tmp_path, monkeypatch):
    rows = [
        {"config": {"seed": seed}, "report": report(0.1, 0.9, selection="last")}
        for seed in range(2)
    ]
    figure = draw(rows, tmp_path, monkeypatch)
    assert [marks(panel, hollow=True) for panel in figure.axes] == [[], []]
    assert figure.get_suptitle() == "Accuracy and largest excess gap"
    rows[0]["report"] = report(0.1, 0.9)
    figure = draw(rows, tmp_path, monkeypatch)
    assert len(marks(figure.axes[0], hollow=True)) == 1
    assert figure.get_suptitle().endswith("(filled: pruned network; hollow: last iterate)")


@pytest.mark.parametrize(
    ("counts", "names"), [((1, 1), ["0.01", "0.02"]), ((1, 2), ["0.01 (n = 1)", "0.02 (n = 2)"])]
)
def test_each_tolerance_has_its_line(counts, names, tmp_path, monkeypatch):
    rows = [
        {"config": {"tolerance": tolerance, "seed": seed}, "report": report(0.1, 0.9, tolerance)}
        for tolerance, count in zip((0.01, 0.02), counts, strict=True)
        for seed in range(count)
    ]
    figure = draw(rows, tmp_path, monkeypatch)
    for panel in figure.axes:
        lines = [line for line in panel.lines if line.get_label() == "tolerance"]
        np.testing.assert_allclose([line.get_xdata()[0] for line in lines], [1, 2])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [*names, "tolerance"]


def test_a_long_legend_is_cut(tmp_path, monkeypatch):
    rows = [
        {"config": {"tolerance": i / 100, "seed": 0}, "report": report(0.1, 0.9, i / 100)}
        for i in range(30)
    ]
    texts = draw(rows, tmp_path, monkeypatch).legends[0].get_texts()
    assert [text.get_text() for text in texts][-2:] == ["0.22", "… and 7 more"]
