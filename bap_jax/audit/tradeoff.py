"""A picture of a sweep: accuracy against the largest excess gap, one colour a setting."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bap_jax.audit.sweep_rows import Row, by_setting, value_label

# Okabe and Ito's colours, which stay apart for every kind of eye, and a grey. Eight colours and
# seven markers share no divisor: 56 settings differ in one of them at least.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5f6368")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LISTED = 24


def draw_tradeoff(rows: Sequence[Row], path: Path) -> None:
    """Draws every setting of a sweep on the training and the test split; up and left is better.

    Large marks are means over seeds with one standard deviation both ways, dots the single seeds,
    hollow marks the means of the last iterate; all others are of the selected one.

    Args:
      rows: as in `sweep.json`; those without a report are left out, one has a report.
      path: of the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = by_setting([row for row in rows if row["report"]])
    title, names = _names(settings)
    columns = max(1, min(6, len(names) + 1, 150 // (max(map(len, names)) + 8)))
    height = 4.9 + 0.22 * -(-min(len(names), _LISTED) // columns)
    figure = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for panel, split in zip(panels, ("train", "test"), strict=True):
        for i, alike in enumerate(settings.values()):
            _draw_setting(panel, [row["report"] for row in alike], split, _look(i))
        _draw_tolerance(panel, settings)
        panel.set_title(f"{split} split")
        panel.set_xlabel("largest excess gap of a group (points)")
        panel.set_ylabel("accuracy (%)")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.set_axisbelow(True)
    _draw_legend(figure, panels[0], title, names, columns)
    figure.suptitle(
        "Accuracy and largest excess gap: filled marks the selected iterate, hollow marks the last"
    )
    figure.savefig(path, dpi=110, format="png")


def _look(number):
    return {
        "color": _COLORS[number % len(_COLORS)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }


def _draw_setting(panel, reports, split, look):
    selected = _points([report["splits"][split] for report in reports])
    last = _points([report["last"]["splits"][split] for report in reports])
    if len(reports) > 1:
        panel.scatter(*selected, s=9, color=look["color"], alpha=0.35, linewidths=0)
        spread = selected.std(1, ddof=1)
        panel.errorbar(
            *selected.mean(1),
            xerr=spread[0],
            yerr=spread[1],
            color=look["color"],
            linewidth=1,
            alpha=0.7,
            capsize=2,
        )
    panel.plot(*last.mean(1), markersize=6, markerfacecolor="white", alpha=0.8, zorder=3, **look)
    panel.plot(
        *selected.mean(1),
        markersize=8,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=4,
        **look,
    )


def _points(splits):
    """`(2, seed)` gaps and accuracies in percent."""
    pairs = [(split["max_excess_gap"], split["sparse_accuracy"]) for split in splits]
    return 100 * np.array(pairs).T


def _draw_tolerance(panel, settings):
    """One line where all have the same tolerance, a line a setting where all have another."""
    tolerances = [100 * alike[0]["report"]["tolerance"] for alike in settings.values()]
    if len(set(tolerances)) == 1:
        style = {"color": "#b3261e", "linestyle": "--", "linewidth": 1}
        panel.axvline(tolerances[0], label="tolerance", **style)
    elif len(set(tolerances)) == len(tolerances) <= len(_COLORS):
        for tolerance, color in zip(tolerances, _COLORS, strict=False):
            panel.axvline(tolerance, label="tolerance", color=color, linestyle=":", linewidth=1.2)


def _names(settings):
    """What sets the settings apart: the keys, and for each setting their values."""
    configs = [alike[0]["config"] for alike in settings.values()]
    labels = [{key: value_label(value) for key, value in config.items()} for config in configs]
    keys = [key for key in labels[0] if key != "seed" and len({each[key] for each in labels}) > 1]
    seeds = {len(alike) for alike in settings.values()}
    each = f"{max(seeds)} seeds" if len(seeds) == 1 and max(seeds) > 1 else ""
    if not keys:
        return "", [each or next(iter(settings))]
    values = [", ".join(label[key] for key in keys) for label in labels]
    if len(seeds) > 1:
        counts = [len(alike) for alike in settings.values()]
        values = [f"{value} (n = {n})" for value, n in zip(values, counts, strict=True)]
    return ", ".join(keys) + (f"; {each} each" if each else ""), values


def _draw_legend(figure, panel, title, names, columns):
    handles = []
    for i in range(min(len(names), _LISTED)):
        handles += panel.plot([], [], linestyle="", markersize=7, **_look(i))
    if len(names) > _LISTED:
        names = [*names[: _LISTED - 1], f"… and {len(names) - _LISTED + 1} more"]
        handles[-1] = panel.plot([], [], linestyle="")[0]
    tolerance = [line for line in panel.lines if line.get_label() == "tolerance"][:1]
    figure.legend(
        [*handles, *tolerance],
        [*names, *(line.get_label() for line in tolerance)],
        loc="outside lower center",
        ncols=columns,
        title=title,
        frameon=False,
        fontsize=9,
        handletextpad=0.4,
    )
