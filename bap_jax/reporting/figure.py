"""A figure of a workdir: forest plots of the excess gaps on the training and the test split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bap_jax._tables.shown import clipped
from bap_jax.audit.numbers import count, percent, tolerance
from bap_jax.reporting.literal_text import legend_label, literal_text

ALL_SHOWN_UP_TO, SHOWN_AT_EACH_END = 60, 20
_NAME_WIDTH = 24
_COLORS = {"nft": "#6b7280", "el": "#c2410c", "ceag": "#1f6f8b"}
_OTHERS = ("#7c3aed", "#15803d", "#b45309", "#be185d", "#0369a1", "#4d7c0f")
_TITLES = {"train": "training data", "test": "test data"}
_GREY, _RED = "#6b7280", "#b3261e"


def draw_disparity(reports: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draws the excess gap of every group under the pruned network, worst on the test split first.

    One row a group, one colour a method. With one seed a line goes from the lower to the upper
    limit, and a hollow mark shows the shrunken gap; with several seeds small dots show each seed,
    and a large one their mean. Beyond 60 groups the worst and the best 20 are shown, and a
    histogram of all of them.

    Args:
      reports: for each method its reports, one for each seed. What follows a comma in the name of
        a method, as in `ceag, pruning.sparsity=0.9`, says how its settings differ.
      path: the PNG file to write.
    """
    with literal_text():
        _draw(reports, path)


def _draw(reports, path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    some_report = next(iter(reports.values()))[0]
    names = [group["name"] for group in some_report["splits"]["test"]["groups"]]
    shown = _choose(reports, len(names))
    has_histogram = len(shown) < len(names)
    row = 0.15 + 0.13 * len(reports)  # inches
    height = max(2.5, row * (len(shown) + 1))
    heights = [height, 2.4] if has_histogram else [height]
    figure = Figure(figsize=(11, sum(heights) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    panels = [figure.add_subplot(grid[0, 0])]
    panels.append(figure.add_subplot(grid[0, 1], sharey=panels[0]))
    for panel, split in zip(panels, ("train", "test"), strict=True):
        _draw_split(panel, reports, split, shown)
        _finish(panel, f"{_TITLES[split]}, {_samples(some_report, split)}", some_report)
    _name_rows(panels, [names[i] for i in shown], has_histogram)
    if has_histogram:
        _draw_histogram(figure.add_subplot(grid[1, :]), reports, some_report)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 4),
        title=_caption(reports),
        title_fontsize=10,
        frameon=False,
    )
    figure.suptitle(_title(some_report), fontsize=13)
    figure.savefig(path, dpi=110, format="png")


def _choose(reports, number) -> list[int]:
    """Groups to show, the largest mean test gap over methods and seeds first."""
    gaps = [_column(run, "test", "excess_gap") for runs in reports.values() for run in runs]
    order = np.argsort(-np.mean(gaps, axis=0), kind="stable").tolist()
    if number <= ALL_SHOWN_UP_TO:
        return order
    return order[:SHOWN_AT_EACH_END] + order[-SHOWN_AT_EACH_END:]


def _column(run, split, key):
    """`(group,)` in points; NaN where the report has nothing."""
    groups = run["splits"][split]["groups"]
    return 100 * np.array([_number(group.get(key)) for group in groups])


def _number(value):
    return np.nan if value is None else value


def _draw_split(panel, reports, split, shown):
    others = iter(_OTHERS)
    for i, (method, runs) in enumerate(reports.items()):
        color = _COLORS.get(method) or next(others, "#334155")
        y = np.arange(len(shown)) + (i - (len(reports) - 1) / 2) * 0.8 / len(reports)
        gaps = np.array([_column(run, split, "excess_gap")[shown] for run in runs])
        if len(runs) == 1:
            lower, upper = (_column(runs[0], split, key)[shown] for key in ("lower", "upper"))
            panel.hlines(y, lower, upper, color=color, linewidth=1.4, alpha=0.75)
            shrunken = _column(runs[0], split, "shrunken")[shown]
            panel.plot(shrunken, y, "^", color=color, markersize=4.5, markerfacecolor="white")
        else:
            for of_seed in gaps:
                panel.plot(of_seed, y, "o", color=color, markersize=3, alpha=0.35)
        seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
        label = legend_label(f"{_title_of(method)}{seeds}")
        panel.plot(gaps.mean(0), y, "o", color=color, markersize=6, label=label)


def _title_of(method):
    name, *settings = method.split(", ")
    return ", ".join([name.upper(), *settings])


def _finish(panel, title, report):
    epsilon = report["tolerance"]
    panel.axvline(0, color="#374151", linewidth=0.9, zorder=1)
    panel.axvline(
        100 * epsilon, color=_RED, linestyle="--", zorder=1, label=f"ε = {tolerance(epsilon)}"
    )
    panel.set_title(title, fontsize=11)
    panel.set_xlabel("excess gap, percentage points")
    panel.grid(axis="x", color="#e5e7eb", zorder=-1)
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)


def _name_rows(panels, names, has_gap):
    rows = np.arange(len(names))
    panels[0].set_yticks(rows, [clipped(name, _NAME_WIDTH) for name in names])
    panels[0].set_ylabel("group")
    panels[1].tick_params(labelleft=False)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    for panel in panels:
        for row in rows[1::2]:
            panel.axhspan(row - 0.5, row + 0.5, color="#f3f4f6", zorder=-2, linewidth=0)
        if has_gap:
            panel.axhline(SHOWN_AT_EACH_END - 0.5, color=_GREY, linestyle=":", linewidth=1)


def _draw_histogram(panel, reports, report):
    gaps = {
        method: np.mean([_column(run, "test", "excess_gap") for run in runs], axis=0)
        for method, runs in reports.items()
    }
    edges = np.histogram_bin_edges(np.concatenate(list(gaps.values())), bins=30)
    others = iter(_OTHERS)
    for method, values in gaps.items():
        color = _COLORS.get(method) or next(others, "#334155")
        panel.hist(values, edges, histtype="stepfilled", color=color, alpha=0.3)
        panel.hist(values, edges, histtype="step", color=color, linewidth=1.5)
    number = len(report["splits"]["test"]["groups"])
    _finish(panel, f"all {count(number, 'group')}, test data", report)
    panel.set_ylabel("groups")
    panel.grid(visible=False)


def _samples(report, split):
    return count(report["splits"][split]["n"], "sample")


def _title(report):
    removed = percent(report["sparsity"]["prunable"])
    return (
        "How much more accuracy each group lost than all samples together "
        f"({removed} of the prunable weights removed)"
    )


def _caption(reports):
    seeds = {len(runs) for runs in reports.values()}
    parts = []
    if max(seeds) > 1:
        parts.append("Small dots: single seeds, large dots: their mean.")
    if min(seeds) == 1:
        parts.append(
            "Lines: 95 % limits, each one-sided; triangles: shrunken gap, chance taken out."
        )
    return " ".join(parts)
