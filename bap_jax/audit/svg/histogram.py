"""Histogram with marked values: how often each value occurs, and where some of them lie."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from bap_jax.audit.numbers import count, decimal
from bap_jax.audit.svg import marks
from bap_jax.audit.svg.axis import Axis, scale
from bap_jax.audit.svg.figure import Table

HEIGHT = 150
LINE_OF_TEXT = 17


class Marked(NamedTuple):
    """A value to mark by a line: its words, and the class of the line."""

    value: float
    words: str
    kind: str


class Bins(NamedTuple):
    """Counts between edges. Arrays `(bin,)` and `(bin + 1,)`."""

    counts: np.ndarray
    edges: np.ndarray


def bins(values: np.ndarray, marked: Sequence[Marked], number: int = 25) -> Bins:
    """About `number` bins of equal width over the values and what is marked.

    One of the edges lies at the first marked value, so that it divides the counts exactly.
    """
    everything = np.concatenate([values, [mark.value for mark in marked]])
    low, high = float(everything.min()), float(everything.max())
    width = max((high - low) / number, 1e-6)
    origin = marked[0].value if marked else low
    first = origin - width * max(np.ceil((origin - low) / width - 1e-9), 0)
    steps = int(np.ceil((high - first) / width - 1e-9)) + 1
    edges = first + width * np.arange(steps + 1)
    # A value that equals the first marked one belongs to its right, whatever rounding did.
    counts, _ = np.histogram(values + 1e-12, edges)
    return Bins(counts, edges)


def draw(found: Bins, marked: Sequence[Marked], *, apart_from: float | None = None) -> Markup:
    """Bars of equal width, and the marked values with their words above them.

    Args:
      found: what to draw.
      marked: lines; the words of each stand in a line of their own, so that none overlap.
      apart_from: bars at or beyond this value have another colour; None for no such bars.
    """
    axis = Axis(float(found.edges[0]), float(found.edges[-1]))
    top = LINE_OF_TEXT * len(marked) + 6
    most = max(int(found.counts.max()), 1)
    parts = []
    for number, left, right in zip(found.counts, found.edges, found.edges[1:], strict=False):
        if number:
            height = max(HEIGHT * number / most, 1)
            beyond = apart_from is not None and left >= apart_from - 1e-9
            kind = "bar apart" if beyond else "bar"
            y = top + HEIGHT - height
            parts.append(marks.bar(axis.at(left), axis.at(right), y, height, kind))
    parts.append(marks.line(0, top + HEIGHT, 100, top + HEIGHT, "base"))
    for i, mark in enumerate(marked):
        x = axis.at(mark.value)
        for kind in ("halo", mark.kind):
            parts.append(marks.upright(x, top + HEIGHT, kind, top=LINE_OF_TEXT * i + 16))
    parts += _words(marked, axis)
    return marks.drawing(top + HEIGHT, *parts) + scale(axis, unit=" points")


def _words(marked, axis):
    """Each on a line of its own, pointing away from the other marks where there is room."""
    for i, mark in enumerate(marked):
        x = axis.at(mark.value)
        is_leftmost = mark.value == min(m.value for m in marked)
        anchor = "end" if x > (34 if is_leftmost and len(marked) > 1 else 60) else "start"
        yield marks.text(x, LINE_OF_TEXT * i + 13, mark.words, "words", anchor)


def table(found: Bins, caption: str, counted: str) -> Table:
    """The counts of the bins, in percentage points; neighbours without any are left out."""
    digits = 1 if 100 * (found.edges[1] - found.edges[0]) >= 0.1 else 3
    rows = [
        (f"{decimal(100 * left, digits)} to {decimal(100 * right, digits)}", count(int(number)))
        for number, left, right in zip(found.counts, found.edges, found.edges[1:], strict=False)
        if number
    ]
    return Table(caption, ("From … to, in points", counted), rows)
