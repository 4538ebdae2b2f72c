"""The largest excess gap beside what chance alone gives, and beside an estimate of the true one."""

from typing import TYPE_CHECKING

import numpy as np

from bap_jax.audit.numbers import count, p_value, points
from bap_jax.audit.numbers import tolerance as tolerance_words
from bap_jax.audit.svg import axis, forest, histogram
from bap_jax.audit.svg.figure import Figure, Table
from bap_jax.audit.svg.histogram import Marked

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit


def chance_sentence(audit: "Audit", digits: int) -> str:
    """The largest gap beside what chance alone gives."""
    return (
        f"Largest excess gap {points(audit.max_excess_gap, digits)} points; "
        f"{points(audit.chance.expected, digits)} expected if all groups were harmed alike "
        f"({p_value(audit.chance.p_value)})."
    )


def draw_chance(audit: "Audit", name: str, digits: int) -> Figure:
    """Histogram of the largest gap over permutations, with the observed one and the mean marked.

    Args:
      audit: whose maxima are not all equal.
      name: of the figure's element.
      digits: decimals of points.
    """
    maxima, observed = np.asarray(audit.chance.maxima), audit.max_excess_gap
    marked = [
        Marked(observed, f"observed {points(observed, digits)}", "observed"),
        Marked(
            audit.chance.expected, f"mean by chance {points(audit.chance.expected, digits)}", "mean"
        ),
    ]
    found = histogram.bins(maxima, marked)
    reached = int((maxima >= observed - 1e-12).sum())
    return Figure(
        name=name,
        title=chance_sentence(audit, digits),
        caption="Group labels were dealt out anew among the same samples "
        f"{count(len(maxima))} times. The bars show the largest excess gap of each time: "
        + _reached(reached),
        alt=f"Histogram of the largest excess gap by chance alone, from "
        f"{points(float(maxima.min()), digits)} to {points(float(maxima.max()), digits)} points. "
        + chance_sentence(audit, digits),
        drawing=histogram.draw(found, marked, apart_from=observed),
        table=histogram.table(found, "Largest excess gap by chance alone", "Permutations"),
    )


def _reached(times):
    if not times:
        return "it was never as large as the observed one."
    return (
        f"{count(times, 'time')} it was at least as large as the observed one (bars to the right "
        "of the solid line)."
    )


def draw_largest(audit: "Audit", name: str, digits: int) -> Figure:
    """The largest gap as measured, by chance and as estimated, one below the other."""
    rows = _estimates(audit)
    along = forest.axis_for(rows, audit.tolerance)
    table_rows = [
        (r.name, points(r.estimate, digits), points(r.lower, digits), points(r.upper, digits))
        for r in rows
    ]
    return Figure(
        name=name,
        title="The largest excess gap, three ways",
        caption="In percentage points; the dashed line is the tolerance.",
        alt="Three intervals in points. "
        + ". ".join(f"{name}: {mid}, from {low} to {high}" for name, mid, low, high in table_rows)
        + f". Tolerance {tolerance_words(audit.tolerance)}.",
        rows=forest.estimate_rows(rows, along, digits, audit.tolerance),
        scale=axis.scale(along, unit=" points"),
        table=Table(
            "The largest excess gap in points", ("Largest gap", "Value", "From", "To"), table_rows
        ),
    )


def _estimates(audit):
    quantiles = np.quantile(audit.chance.maxima, [0.05, 0.95])
    return [
        forest.Estimate(
            "Measured, with simultaneous limits",
            audit.max_excess_gap,
            audit.lower,
            audit.certifiable_tolerance,
        ),
        forest.Estimate(
            "By chance alone, mean and 90\N{NO-BREAK SPACE}% of cases",
            audit.chance.expected,
            float(quantiles[0]),
            float(quantiles[1]),
        ),
        forest.Estimate(
            "Estimate of the true one, 90\N{NO-BREAK SPACE}% interval",
            audit.bayes_max.mean,
            audit.bayes_max.lower,
            audit.bayes_max.upper,
        ),
    ]
