"""Histogram of the measured excess gaps of all groups, where they are too many for one row each."""

from typing import TYPE_CHECKING

import numpy as np

from bap_jax.audit.numbers import count, points
from bap_jax.audit.numbers import tolerance as tolerance_words
from bap_jax.audit.svg import histogram
from bap_jax.audit.svg.figure import Figure
from bap_jax.audit.svg.histogram import Marked

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit


def draw_all_gaps(audit: "Audit", name: str, digits: int) -> Figure:
    """How many groups have which excess gap, as measured, and the tolerance as a line.

    Args:
      audit: with many groups.
      name: of the figure's element.
      digits: decimals of points.
    """
    gaps = np.array([g.excess_gap for g in audit.groups])
    marked = [Marked(audit.tolerance, "tolerance", "tolerance"), Marked(0.0, "no gap", "zero")]
    found = histogram.bins(gaps, marked)
    beyond = int((gaps > audit.tolerance).sum())
    words = (
        f"{count(beyond)} of {count(len(gaps), 'group')} have a measured excess gap above "
        f"{tolerance_words(audit.tolerance)}; limits and chance are not considered here."
    )
    low, high = points(float(gaps.min()), digits), points(float(gaps.max()), digits)
    return Figure(
        name=name,
        title="Measured excess gaps of all groups",
        caption=words,
        alt=f"Histogram of excess gaps, from {low} to {high} points. {words}",
        drawing=histogram.draw(found, marked, apart_from=audit.tolerance),
        table=histogram.table(found, "Excess gaps of all groups", "Groups"),
    )
