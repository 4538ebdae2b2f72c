"""The figure of a workdir: forest plots by method, read back from what is drawn."""

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from bap_jax import reporting
from tests.reporting.fakes import fake_report, judged_report


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures, save = [], Figure.savefig

    def spy(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    return figures


def marks(panel, method):
    """`(group,)` positions of the large dots of a method."""
    (line,) = [one for one in panel.lines if one.get_label().startswith(method)]
    return line.get_xdata()


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("methods", [("ceag",), ("nft", "ceag"), ("nft", "el", "other")])
def test_the_figure_shows_means_over_seeds(methods, seeds, tmp_path, drawn):
    reports = {
        method: [fake_report(method, seed, (0.01 * (i + seed), -0.01)) for seed in range(seeds)]
        for i, method in enumerate(methods)
    }
    reporting.draw_disparity(reports, tmp_path / "disparity.png")
    assert np.ptp(image.imread(tmp_path / "disparity.png")[..., :3]) > 0.5
    suffix = f", {seeds} seeds" if seeds > 1 else ""
    for panel in drawn[0].axes:
        for i, method in enumerate(methods):
            expected = [i + (seeds - 1) / 2, -1]
            np.testing.assert_allclose(marks(panel, method.upper()), expected, atol=1e-9)
        labels = panel.get_legend_handles_labels()[1]
        assert set(labels) == {"ε = 2 points", *(f"{m.upper()}{suffix}" for m in methods)}


def test_one_seed_has_limits_and_the_worst_group_is_on_top(tmp_path, drawn):
    report, _ = judged_report()
    reporting.draw_disparity({"ceag": [report]}, tmp_path / "disparity.png")
    panel = drawn[0].axes[1]
    rows = sorted(report["splits"]["test"]["groups"], key=lambda g: -g["excess_gap"])
    (lines,) = panel.collections
    limits = [[end for end, _ in segment] for segment in lines.get_segments()]
    expected = [[100 * row["lower"], 100 * row["upper"]] for row in rows]
    np.testing.assert_allclose(limits, expected)
    assert [tick.get_text() for tick in drawn[0].axes[0].get_yticklabels()] == [
        row["name"] for row in rows
    ]
    bottom, top = panel.get_ylim()
    assert top < 0 < bottom


def test_many_groups_show_both_ends_and_a_histogram(tmp_path, drawn):
    report, _ = judged_report(sizes=(30,) * 61)
    reporting.draw_disparity({"ceag": [report]}, tmp_path / "disparity.png")
    first, _, histogram = drawn[0].axes
    assert len(marks(first, "CEAG")) == 40
    counted = sum(patch.get_xy()[:, 1].max() for patch in histogram.patches[:1])
    assert counted > 0 and histogram.get_title() == "all 61 groups, test data"
