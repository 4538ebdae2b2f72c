"""Horizontal bars: one share a row, such as the sparsity of each layer."""

from collections.abc import Sequence
from typing import NamedTuple

from bap_jax.audit.numbers import count, percent
from bap_jax.audit.svg import marks
from bap_jax.audit.svg.axis import Axis, scale
from bap_jax.audit.svg.figure import Figure, Row, Table

HEIGHT = 22


class Bar(NamedTuple):
    """A share from 0 to 1 of `of` things: .978 of the 36,864 weights of a layer."""

    name: str
    share: float
    of: int


def draw_bars(
    bars: Sequence[Bar], name: str, title: str, *, thing: str, caption: str = ""
) -> Figure:
    """One bar a row, from 0 to 100 %, in the order given.

    Args:
      bars: at least one.
      name: of the figure's element.
      title: shown above.
      thing: what is counted, in the singular: "weight".
      caption: how to read it.
    """
    axis = Axis(0, 1)
    rows = [
        Row(bar.name, _strip(bar.share, axis), f"{percent(bar.share)} of {count(bar.of)}")
        for bar in bars
    ]
    return Figure(
        name=name,
        title=title,
        caption=caption,
        alt=_words(bars, title),
        rows=rows,
        scale=scale(axis, unit=" %"),
        table=Table(
            title,
            ("Name", "Share", f"{thing.capitalize()}s"),
            [(bar.name, percent(bar.share, 2), count(bar.of)) for bar in bars],
        ),
    )


def _strip(share, axis):
    track = marks.bar(0, 100, -7, 14, "track")
    return marks.strip(HEIGHT, [], [track, marks.bar(0, axis.at(share), -7, 14, "share")])


def _words(bars, title):
    most, least = max(bars, key=lambda b: b.share), min(bars, key=lambda b: b.share)
    return (
        f"Bars: {title}. {count(len(bars), 'row')}. Largest: {most.name} with "
        f"{percent(most.share)}; smallest: {least.name} with {percent(least.share)}."
    )
