"""Fractions as a reader wants them: percentage points, percent, counts, with a true minus sign."""

import math

from bap_jax._tables.shown import MINUS
from bap_jax._tables.shown import count as count


def decimal(value: float, digits: int) -> str:
    """`value` with `digits` decimals; never a negative zero, and "–" where there is no number."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.{digits}f}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.,") else MINUS + text[1:]
    return text


def points(fraction: float, digits: int = 1, *, sign: bool = False) -> str:
    """A difference of two accuracies, in percentage points, without the unit: .021 is "2.1"."""
    text = decimal(100 * fraction, digits)
    is_positive = fraction > 0 and text.strip("0.,") != ""
    return "+" + text if sign and is_positive else text


def interval(lower: float, upper: float, digits: int = 1) -> str:
    """Two limits in percentage points: "−1.9 to 12.1"."""
    return f"{points(lower, digits)} to {points(upper, digits)}"


def percent(fraction: float, digits: int = 1) -> str:
    """A share in percent: .937 is "93.7 %"."""
    return decimal(100 * fraction, digits) + (
        "\N{NO-BREAK SPACE}%" if math.isfinite(fraction) else ""
    )


def short(value: float) -> str:
    """A number with as many digits as it needs, for a setting: .01 is "0.01", 1.0 is "1"."""
    return f"{value:.10g}".replace("-", MINUS)


def level(fraction: float) -> str:
    """A level in percent with all its digits: .0005 is "0.05 %"."""
    return short(100 * fraction) + "\N{NO-BREAK SPACE}%"


def tolerance(fraction: float) -> str:
    """A tolerance with its unit: .01 is "1 point", .005 is "0.5 points"."""
    value = short(100 * fraction)
    return f"{value} point" if value == "1" else f"{value} points"


def p_value(p: float) -> str:
    """ "p = .37", or "p < .001" where it is smaller."""
    if not math.isfinite(p):
        return "p unknown"
    if p < 0.001:
        return "p < .001"
    return "p = " + f"{p:.{3 if p < 0.0995 else 2}f}".removeprefix("0")


def digits_for(widths, *fractions: float) -> int:
    """Decimals of points that tell intervals of these widths apart, and show `fractions` exactly.

    Args:
      widths: of the intervals that will be shown, as fractions.
      fractions: settings that must not be rounded, such as the tolerance.

    Returns:
      1, 2 or 3.
    """
    known = sorted(width for width in widths if math.isfinite(width) and width > 0)
    typical = 100 * known[len(known) // 2] if known else 1.0
    digits = 1 if typical >= 1 else 2 if typical >= 0.1 else 3
    for fraction in fractions:
        while digits < 3 and abs(100 * fraction - round(100 * fraction, digits)) > 1e-9:
            digits += 1
    return digits
