"""Slope chart: the accuracy of each group with the dense and with the sparse model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bap_jax.audit.labels import namer
from bap_jax.audit.numbers import count, percent, points
from bap_jax.audit.svg import marks
from bap_jax.audit.svg.axis import label, spanning
from bap_jax.audit.svg.figure import Figure, Key, Label, Table
from bap_jax.audit.svg.groups import choose

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit

LEFT, RIGHT, LABELS = 13.0, 42.0, 46.0  # percent of the width
TOP, APART = 26, 18  # pixels
NAMED_UP_TO, NAMED_AT_EACH_END = 12, 6


class Line(NamedTuple):
    """From one accuracy to the other; `kind` is its class, `words` "" for a line without a name."""

    before: float
    after: float
    kind: str
    name: str = ""
    words: str = ""


def draw_slopes(audit: "Audit", name: str, digits: int) -> Figure:
    """One line a group, from its accuracy with the dense model to that with the sparse one.

    Args:
      audit: of at least two groups.
      name: of the figure's element.
      digits: decimals of points.
    """
    choice, named = choose(audit), namer(audit)
    lines = _lines(audit, choice.shown, named, digits)
    with_name = [line for line in lines if line.name]
    height = max(230 if len(lines) < 8 else 340, APART * len(with_name) + 10)
    axis = spanning([value for line in lines for value in (line.before, line.after)], least=0.005)

    def y(accuracy):
        return TOP + 8 + (height - 16) * (1 - axis.at(accuracy) / 100)

    places = spread([y(line.after) for line in with_name], APART, TOP + 8, TOP + height)
    drawing = marks.drawing(
        TOP + height + 10, *_grid(axis, y), *_drawn(lines, y), *_leaders(with_name, places, y)
    )
    labels = [
        Label(place, line.name, line.words, line.kind)
        for place, line in zip(places, with_name, strict=True)
    ]
    return Figure(
        name=name,
        title="Accuracy with the dense and with the sparse model",
        caption=f"{choice.words}. A group that was bad before does not look good here by not "
        "getting worse." + _which_are_named(lines, with_name),
        alt=_words(audit, choice, named),
        key=_key(lines),
        drawing=drawing,
        labels=labels,
        table=_table(audit, choice, named, digits),
    )


def _lines(audit, groups, named, digits):
    ends = range(NAMED_AT_EACH_END), range(len(groups) - NAMED_AT_EACH_END, len(groups))
    lines = []
    for i, g in enumerate(groups):
        kind = "worse" if g.excess_gap > 0 else "better"
        is_named = len(groups) <= NAMED_UP_TO or i in ends[0] or i in ends[1]
        lines.append(_line(g, kind, named(g) if is_named else "", digits))
    # The whole comes last, so that it is drawn over the groups.
    return [*lines, _line(audit.overall, "whole", "All samples", digits)]


def _line(result, kind, name, digits):
    words = f"{points(result.dense_accuracy, digits)} → {percent(result.sparse_accuracy, digits)}"
    return Line(result.dense_accuracy, result.sparse_accuracy, kind, name, words)


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places as near as may be to those wanted, `apart` from each other, from `low` to `high`.

    Least squares: with the i-th in order at p_i + i · apart, p must not decrease, so neighbours
    that would violate this are pooled at their mean (isotonic regression). The room must do:
    (len(wanted) − 1) · apart ≤ high − low.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, size = wanted[i] - rank * apart, 1
        while pools and pools[-1][0] > mean:
            before, members = pools.pop()
            mean = (mean * size + before * members) / (size + members)
            size += members
        pools.append((mean, size))
    highest = high - (len(wanted) - 1) * apart
    starts = [min(max(mean, low), highest) for mean, size in pools for _ in range(size)]
    places = [0.0] * len(wanted)
    for rank, (i, start) in enumerate(zip(order, starts, strict=True)):
        places[i] = start + rank * apart
    return places


def _grid(axis, y):
    heads = (("Dense", LEFT, "middle"), ("Sparse", RIGHT, "middle"))
    parts = [marks.text(x, 13, words, "head", anchor) for words, x, anchor in heads]
    ticks = axis.ticks()
    for tick in ticks:
        unit = " %" if tick == ticks[-1] else ""
        parts.append(marks.line(LEFT, y(tick), RIGHT, y(tick), "grid"))
        parts.append(marks.text(0, y(tick) + 4, label(100 * tick) + unit, "number"))
    return parts


def _drawn(lines, y):
    parts = []
    for line in lines:
        kind = f"slope {line.kind}" + ("" if line.name else " quiet")
        parts.append(marks.line(LEFT, y(line.before), RIGHT, y(line.after), kind))
        if line.name:
            parts.append(marks.dot(LEFT, y(line.before), 3.5, f"end {line.kind}"))
            parts.append(marks.dot(RIGHT, y(line.after), 3.5, f"end {line.kind}"))
    return parts


def _leaders(lines, places, y):
    return [
        marks.line(RIGHT + 1.5, y(line.after), LABELS - 0.5, place, "leader")
        for line, place in zip(lines, places, strict=True)
    ]


def _key(lines):
    words = {
        "worse": "lost more than all samples",
        "better": "lost no more than all samples",
        "whole": "all samples",
    }
    return [
        Key(marks.drawing(18, marks.line(5, 9, 95, 9, f"slope {kind}"), kind="sample"), meaning)
        for kind, meaning in words.items()
        if any(line.kind == kind for line in lines)
    ]


def _which_are_named(lines, with_name):
    if len(lines) == len(with_name):
        return ""
    each = NAMED_AT_EACH_END
    return f" Named here: the {each} groups with the largest and the {each} with the smallest gap."


def _words(audit, choice, named):
    lowest = min(choice.shown, key=lambda g: g.sparse_accuracy)
    overall = audit.overall
    return (
        f"Slope chart of accuracies, dense to sparse. {choice.words}. "
        f"All samples: {percent(overall.dense_accuracy)} to {percent(overall.sparse_accuracy)}. "
        f"Lowest with the sparse model: {named(lowest)}, {percent(lowest.dense_accuracy)} to "
        f"{percent(lowest.sparse_accuracy)}. "
        f"{count(sum(g.gap > 0 for g in choice.shown), 'group')} of those shown lost accuracy."
    )


def _table(audit, choice, named, digits):
    def row(name, g):
        accuracies = (percent(g.dense_accuracy, digits), percent(g.sparse_accuracy, digits))
        return (name, *accuracies, points(-g.gap, digits, sign=True))

    rows = [row("All samples", audit.overall), *(row(named(g), g) for g in choice.shown)]
    columns = ("Group", "Dense", "Sparse", "Change in points")
    return Table(f"{choice.words}: accuracy with both models", columns, rows)
