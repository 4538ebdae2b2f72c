"""Line chart: several series over steps, such as the violation of every group while training."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from bap_jax.audit.numbers import count
from bap_jax.audit.svg import marks
from bap_jax.audit.svg.axis import Axis, label, spanning
from bap_jax.audit.svg.figure import Figure, Key, Table

HEIGHT = 240
MOST_POINTS = 400
IN_COLOUR = 6
ROWS_OF_TABLE = 20
_BOX = 1000  # units of the nested drawing that is stretched to its place


class Series(NamedTuple):
    """Values over steps. Arrays `(step,)`; values that are not finite leave a gap."""

    name: str
    steps: np.ndarray
    values: np.ndarray


class Level(NamedTuple):
    """A horizontal line, such as a tolerance, and the words for it in the key."""

    value: float
    words: str


def draw_curves(
    series: Sequence[Series],
    name: str,
    title: str,
    *,
    caption: str = "",
    levels: Sequence[Level] = (),
    x_words: str = "step",
) -> Figure:
    """The series as lines; the six that end highest are coloured and named, the others grey.

    Args:
      series: at least one, with at least one finite value.
      name: of the figure's element.
      title: shown above.
      caption: how to read it.
      levels: horizontal lines.
      x_words: what the steps count.
    """
    thin = list(map(thinned, series))
    order = sorted(range(len(thin)), key=lambda i: -_last(thin[i]))
    coloured = order[:IN_COLOUR]
    across, up = _axes(thin, levels)
    paths = [_path(thin[i], across, up, "curve quiet") for i in order[IN_COLOUR:]]
    ranked = [*enumerate(coloured)]
    paths += [_path(thin[i], across, up, f"curve c{rank}") for rank, i in reversed(ranked)]
    below = [*_grid(up), *_levels(levels, up)]
    numbers = [*_heights(up), *_foot(across, x_words)]
    drawing = marks.drawing(HEIGHT + 32, *below, _stretched(paths), *numbers, kind="beside")
    return Figure(
        name=name,
        title=title,
        caption=caption,
        alt=_words(title, series, thin, order, x_words),
        key=_key([series[i].name for i in coloured], len(series) - len(coloured), levels),
        drawing=drawing,
        table=_table(title, [series[i] for i in coloured], x_words),
    )


def _stretched(paths) -> Markup:
    return marks.element(
        "svg", marks.join(paths), x="0", y="6", width="100%", height=HEIGHT,
        viewBox=f"0 0 {_BOX} {_BOX}", preserveAspectRatio="none", overflow="visible",
    )  # fmt: skip


def thinned(series: Series, most: int = MOST_POINTS) -> Series:
    """At most `most` points: of each stretch of steps the lowest and the highest value.

    Values that cannot be drawn are NaN afterwards; a stretch of these alone keeps one of them.
    """
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    values = np.where(np.isfinite(values), values, np.nan)
    if len(values) <= most:
        return Series(series.name, steps, values)
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(1, len(values) - 1), most // 2 - 1):
        found = stretch[np.isfinite(values[stretch])]
        if len(found):
            kept |= {int(found[np.argmin(values[found])]), int(found[np.argmax(values[found])])}
        else:
            kept.add(int(stretch[0]))
    at = sorted(kept)
    return Series(series.name, steps[at], values[at])


def _last(series):
    finite = series.values[np.isfinite(series.values)]
    return float(finite[-1]) if len(finite) else -math.inf


def _axes(thin, levels):
    steps = np.concatenate([s.steps for s in thin])
    values = np.concatenate([s.values for s in thin])
    values = [*values[np.isfinite(values)].tolist()]
    values += [level.value for level in levels]
    across = Axis(float(steps.min()), max(float(steps.max()), float(steps.min()) + 1))
    return across, spanning(values, least=1e-6)


def _path(series, across, up, kind):
    parts, pen_is_down = [], False
    for step, value in zip(series.steps, series.values, strict=True):
        if not np.isfinite(value):
            pen_is_down = False
            continue
        x, y = _BOX / 100 * across.at(step), _BOX * (1 - up.at(value) / 100)
        parts.append(f"{'L' if pen_is_down else 'M'}{x:.0f} {y:.0f}")
        pen_is_down = True
    if len(parts) == 1:
        parts.append("h1")
    return marks.element("path", d="".join(parts), class_=kind)


def _y(up: Axis, value: float) -> float:
    return 6 + HEIGHT * (1 - up.at(value) / 100)


def _grid(up) -> list[Markup]:
    return [marks.line(0, _y(up, tick), 100, _y(up, tick), "grid") for tick in up.ticks()]


def _heights(up) -> list[Markup]:
    """The numbers of the grid, left of the plot (`.beside` leaves room), where no curve is."""
    return [
        marks.element(
            "text", label(t), x="-6", y=marks.pixels(_y(up, t) + 4), text_anchor="end",
            class_="number",
        )
        for t in up.ticks()
    ]  # fmt: skip


def _levels(levels, up):
    heights = [_y(up, level.value) for level in levels]
    return [marks.line(0, y, 100, y, "tolerance") for y in heights]


def _foot(across, x_words):
    parts = [marks.line(0, HEIGHT + 6, 100, HEIGHT + 6, "base")]
    ticks = across.ticks()
    for i, tick in enumerate(ticks):
        x = across.at(tick)
        words = f"{x_words} {label(tick)}" if i == len(ticks) - 1 else label(tick)
        anchor = "start" if x < 4 else "end" if x > 90 else "middle"
        parts.append(marks.text(x, HEIGHT + 24, words, "number", anchor))
    return parts


def _key(names, others, levels):
    keys = [_line_key(f"curve c{i}", name) for i, name in enumerate(names)]
    if others:
        keys.append(_line_key("curve quiet", f"the other {count(others)}"))
    # Not beside the line, where they would lie on curves that end near it.
    return [*keys, *(_line_key("tolerance", level.words) for level in levels)]


def _line_key(kind, words):
    return Key(marks.drawing(18, marks.line(0, 9, 100, 9, kind), kind="sample"), words)


def _words(title, series, thin, order, x_words):
    first, last = series[order[0]], series[order[-1]]
    steps = series[0].steps
    ends = f"{x_words} {label(float(steps[0]))} to {label(float(steps[-1]))}"
    words = (
        f"Line chart: {title}. {count(len(series), 'line')} from {ends}. "
        f"Ends highest: {first.name} at {label(_last(thin[order[0]]))}"
    )
    if len(series) > 1:
        words += f"; lowest: {last.name} at {label(_last(thin[order[-1]]))}"
    return words + "."


def _table(title, series, x_words):
    steps = np.asarray(series[0].steps)
    at = np.unique(np.linspace(0, len(steps) - 1, ROWS_OF_TABLE).round().astype(int))
    rows = [(label(float(steps[i])), *(_value_at(s, float(steps[i])) for s in series)) for i in at]
    caption = f"{title}: values at {count(len(rows), 'step')}"
    return Table(caption, (x_words.capitalize(), *(s.name for s in series)), rows)


def _value_at(series, step):
    values = np.asarray(series.values, float)[np.asarray(series.steps, float) <= step]
    return label(float(values[-1])) if len(values) and math.isfinite(values[-1]) else "–"
