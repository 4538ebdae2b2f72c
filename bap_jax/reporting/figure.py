"""A figure of a workdir: the excess gap of every group, one bar for each method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_COLORS = {"nft": "#9aa0a6", "el": "#f2a541", "ceag": "#1f6f8b"}


def draw_disparity(reports: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draws the excess gaps on the training and test splits, of the selected and the last iterate.

    Bars are means over seeds; if there are several seeds, whiskers show one standard deviation.

    Args:
      reports: for each method its reports, one for each seed.
      path: the PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    some_report = next(iter(reports.values()))[0]
    names = [group["name"] for group in some_report["splits"]["test"]["groups"]]
    figure = Figure(figsize=(12, 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for row, split in zip(panels, ("train", "test"), strict=True):
        row[0].set_ylabel(f"excess gap on the {split} split\n(percentage points)")
        for panel, pick in zip(row, (_selected, _last), strict=True):
            _draw_split(panel, reports, pick, split, some_report["tolerance"])
            panel.set_xticks(range(len(names)), names)
            panel.set_xlabel("group" if split == "test" else "")
    for panel, title in zip(panels[0], ("selected iterate", "last iterate"), strict=True):
        panel.set_title(title)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    removed = 100 * some_report["sparsity"]["prunable"]
    figure.suptitle(
        "Excess gap: how much more accuracy a group loses than all samples together "
        f"({removed:.1f} % of the prunable weights removed)"
    )
    figure.savefig(path, dpi=110)


def _selected(report):
    return report["splits"]


def _last(report):
    return report["last"]["splits"]


def _draw_split(panel, reports, pick, split, tolerance):
    width = 0.8 / len(reports)
    for i, (method, runs) in enumerate(reports.items()):
        gaps = 100 * np.array(
            [[group["excess_gap"] for group in pick(run)[split]["groups"]] for run in runs]
        )
        seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
        panel.bar(
            np.arange(gaps.shape[1]) + (i - (len(reports) - 1) / 2) * width,
            gaps.mean(0),
            width,
            yerr=gaps.std(0, ddof=1) if len(runs) > 1 else None,
            color=_COLORS.get(method),
            label=f"{method.upper()}{seeds}",
        )
    panel.axhline(100 * tolerance, color="#b3261e", linestyle="--", label="tolerance")
    panel.axhline(0, color="black", linewidth=0.8)
    panel.spines[["top", "right"]].set_visible(False)
