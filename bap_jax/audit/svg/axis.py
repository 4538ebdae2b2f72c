"""From a number to a percentage of the width or height, and round numbers along the way."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from markupsafe import Markup

from bap_jax.audit.numbers import MINUS
from bap_jax.audit.svg import marks


class Axis(NamedTuple):
    """A range of numbers laid out from 0 to 100 %.

    Attributes:
      low, high: the ends, low < high.
    """

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where `value` lies, in percent; ends where it is beyond them."""
        value = min(max(value, self.low), self.high)
        return 100 * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """At most about `most` round numbers within the range: multiples of 1, 2 or 5 times 10ⁿ."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def spanning(values: Iterable[float], *, margin: float = 0.04, least: float = 1e-4) -> Axis:
    """An axis over all finite `values`, with a margin at both ends, `least` wide at least."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = margin * (high - low)
    if high - low < least:
        room = (least - (high - low)) / 2
    return Axis(low - room, high + room)


def label(value: float) -> str:
    """A number along an axis, with as many digits as it needs."""
    if value and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    return f"{value:,.4g}".replace("-", MINUS) if abs(value) < 1e4 else f"{value:,.0f}"


def scale(axis: Axis, *, factor: float = 100, unit: str = "") -> Markup:
    """A strip with short strokes and numbers, for below (or above) a figure of rows."""
    ticks = axis.ticks()
    parts = []
    for i, tick in enumerate(ticks):
        x = axis.at(tick)
        anchor = "start" if x < 4 else "end" if x > 92 else "middle"
        words = label(factor * tick)
        if i == len(ticks) - 1:
            words += unit.removesuffix("s") if words == "1" else unit
        parts += [marks.upright(x, 5, "tick"), marks.text(x, 18, words, "number", anchor)]
    return marks.drawing(22, *parts, kind="scale")
