"""A figure of a sweep: accuracy against the largest excess gap, one colour for each setting."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bap_jax.reporting.literal_text import legend_label, literal_text
from bap_jax.reporting.sweep_rows import Row, format_value, rows_by_setting

# Six of Okabe and Ito's colours, which can be told apart with any kind of colour vision, a purple
# and a grey. Eight and seven share no divisor, so that 56 settings differ in colour or marker.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5f6368")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MAX_LEGEND = 24


def draw_tradeoff(rows: Sequence[Row], path: Path) -> None:
    """Draws every setting of a sweep on the training and test splits; up and left is better.

    Filled marks are the pruned network: means over seeds with one standard deviation both ways, and
    small dots for the single seeds. Hollow marks are means of the last iterate, where that is
    another network.

    Args:
      rows: as in `sweep.json`. Rows without a report are left out; at least one has a report.
      path: the PNG file to write.
    """
    with literal_text():
        _draw(rows, path)


def _draw(rows, path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = rows_by_setting([row for row in rows if row["report"]])
    title, names = _names(settings)
    title, names = legend_label(title), [legend_label(name) for name in names]
    columns = max(1, min(6, len(names) + 1, 150 // (max(map(len, names)) + 8)))
    height = 4.9 + 0.22 * -(-min(len(names), _MAX_LEGEND) // columns)
    figure = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for panel, split in zip(panels, ("train", "test"), strict=True):
        for i, same_setting in enumerate(settings.values()):
            _draw_setting(panel, [row["report"] for row in same_setting], split, _style(i))
        _draw_tolerance(panel, settings)
        panel.set_title(f"{split} split")
        panel.set_xlabel("largest excess gap of any group (percentage points)")
        panel.set_ylabel("accuracy (%)")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.set_axisbelow(True)
    _draw_legend(figure, panels[0], title, names, columns)
    reports = [row["report"] for same_setting in settings.values() for row in same_setting]
    marks = "" if all(map(_is_last, reports)) else " (filled: pruned network; hollow: last iterate)"
    figure.suptitle(f"Accuracy and largest excess gap{marks}")
    figure.savefig(path, dpi=110, format="png")


def _style(number):
    return {
        "color": _COLORS[number % len(_COLORS)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }


def _is_last(report):
    """Whether the pruned network is the last iterate."""
    return report["selection"] == "last"


def _draw_setting(panel, reports, split, style):
    pruned = _points([report["splits"][split] for report in reports])
    last = _points([report["last"]["splits"][split] for report in reports])
    if len(reports) > 1:
        panel.scatter(*pruned, s=9, color=style["color"], alpha=0.35, linewidths=0)
        spread = pruned.std(1, ddof=1)
        panel.errorbar(
            *pruned.mean(1),
            xerr=spread[0],
            yerr=spread[1],
            color=style["color"],
            linewidth=1,
            alpha=0.7,
            capsize=2,
        )
    if not all(map(_is_last, reports)):
        hollow = {"markersize": 6, "markerfacecolor": "white", "alpha": 0.8, "zorder": 3}
        panel.plot(*last.mean(1), **hollow, **style)
    panel.plot(
        *pruned.mean(1),
        markersize=8,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=4,
        **style,
    )


def _points(splits):
    """`(2, seed)` largest excess gaps and accuracies, in percent."""
    pairs = [(split["max_excess_gap"], split["sparse_accuracy"]) for split in splits]
    return 100 * np.array(pairs).T


def _draw_tolerance(panel, settings):
    """One line if all settings have the same tolerance, one for each if all tolerances differ."""
    tolerances = [100 * rows[0]["report"]["tolerance"] for rows in settings.values()]
    if len(set(tolerances)) == 1:
        style = {"color": "#b3261e", "linestyle": "--", "linewidth": 1}
        panel.axvline(tolerances[0], label="tolerance", **style)
    elif len(set(tolerances)) == len(tolerances) <= len(_COLORS):
        for tolerance, color in zip(tolerances, _COLORS, strict=False):
            panel.axvline(tolerance, label="tolerance", color=color, linestyle=":", linewidth=1.2)


def _names(settings):
    """The legend's title and entries: the keys in which settings differ, and their values."""
    configs = [rows[0]["config"] for rows in settings.values()]
    texts = [{key: format_value(value) for key, value in config.items()} for config in configs]
    keys = [key for key in texts[0] if key != "seed" and len({text[key] for text in texts}) > 1]
    counts = [len(rows) for rows in settings.values()]
    same_count = len(set(counts)) == 1
    seeds = f"{counts[0]} seeds" if same_count and counts[0] > 1 else ""
    if not keys:
        return "", [seeds or next(iter(settings))]
    names = [", ".join(text[key] for key in keys) for text in texts]
    if not same_count:
        names = [f"{name} (n = {n})" for name, n in zip(names, counts, strict=True)]
    return ", ".join(keys) + (f"; {seeds} each" if seeds else ""), names


def _draw_legend(figure, panel, title, names, columns):
    handles = []
    for i in range(min(len(names), _MAX_LEGEND)):
        handles += panel.plot([], [], linestyle="", markersize=7, **_style(i))
    if len(names) > _MAX_LEGEND:
        names = [*names[: _MAX_LEGEND - 1], f"… and {len(names) - _MAX_LEGEND + 1} more"]
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
