"""Forest plot: estimates with their limits, one row each, and the tolerance as a line."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from bap_jax.audit.labels import namer
from bap_jax.audit.numbers import count, interval, level, points
from bap_jax.audit.numbers import tolerance as tolerance_words
from bap_jax.audit.svg import marks
from bap_jax.audit.svg.axis import Axis, scale, spanning
from bap_jax.audit.svg.figure import Figure, Key, Row, Table
from bap_jax.audit.svg.groups import choose

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit

HEIGHT, BELOW = 28, 10
_SHAPE = {"violated": "diamond", "undecided": "square"}


class Estimate(NamedTuple):
    """One row: an estimate between its limits, as fractions.

    Attributes:
      name: of the row.
      kind: "violated", "undecided", "satisfied" or "plain"; each has a shape and a colour.
      second: another estimate of the same, drawn as a triangle below the line; or None.
    """

    name: str
    estimate: float
    lower: float
    upper: float
    kind: str = "plain"
    second: float | None = None


def axis_for(estimates: Sequence[Estimate], tolerance: float | None = None) -> Axis:
    """An axis that holds all estimates, their limits, no difference and the tolerance."""
    values = [value for e in estimates for value in (e.estimate, e.lower, e.upper)]
    values += [e.second for e in estimates if e.second is not None]
    return spanning([*values, 0.0, tolerance or 0.0])


def estimate_rows(
    estimates: Sequence[Estimate], axis: Axis, digits: int, tolerance: float | None = None
) -> list[Row]:
    """The rows of a forest plot, for any estimates in points.

    Args:
      estimates: one for each row.
      axis: shared by all rows.
      digits: decimals of the numbers.
      tolerance: where the dashed line stands; None for no line.
    """
    return [
        Row(
            estimate.name,
            strip(estimate, axis, tolerance),
            f"{points(estimate.estimate, digits, sign=True)} "
            f"({interval(estimate.lower, estimate.upper, digits)})",
        )
        for estimate in estimates
    ]


def strip(estimate: Estimate, axis: Axis, tolerance: float | None = None) -> Markup:
    """The drawing of one row."""
    at = axis.at
    parts = [marks.line(at(estimate.lower), 0, at(estimate.upper), 0, "limits")]
    for end in (estimate.lower, estimate.upper):
        parts.append(marks.upright(at(end), 4, "limits", top=-4))
    if estimate.second is not None:
        parts.append(marks.shape(at(estimate.second), BELOW, "triangle", "second"))
    parts.append(_mark(at(estimate.estimate), 0, estimate.kind))
    return marks.strip(HEIGHT, _background(axis, tolerance), parts)


def _background(axis, tolerance):
    zero = marks.upright(axis.at(0), "100%", "zero")
    if tolerance is None:
        return [zero]
    x = axis.at(tolerance)
    return [marks.bar(x, 100, 0, "100%", "beyond"), zero, marks.upright(x, "100%", "tolerance")]


def _mark(x, y, kind):
    if kind in _SHAPE:
        return marks.shape(x, y, _SHAPE[kind], f"mark {kind}")
    return marks.dot(x, y, 5, f"mark {kind}")


def draw_forest(audit: "Audit", name: str, digits: int) -> Figure:
    """The excess gap of the groups with limits and shrunken value; the worst first.

    Args:
      audit: of at least two groups.
      name: of the figure's element.
      digits: decimals of points.
    """
    choice, named = choose(audit), namer(audit)

    def estimates(groups):
        return [
            Estimate(named(g), g.excess_gap, g.lower, g.upper, g.verdict, g.shrunken)
            for g in groups
        ]

    axis = axis_for(estimates(choice.shown), audit.tolerance)
    rows = estimate_rows(estimates(choice.worst), axis, digits, audit.tolerance)
    if choice.between:
        rows.append(Row(f"… {count(choice.between, 'group')} between the worst and the best …"))
    rows += estimate_rows(estimates(choice.best), axis, digits, audit.tolerance)
    return Figure(
        name=name,
        title="What each group lost beyond all samples together",
        caption=f"{choice.words}, worst first, in percentage points. The excess gap is what a "
        "group lost in accuracy beyond what all samples lost; right of zero it fares worse.",
        alt=_words(audit, choice, named, digits),
        key=_key(audit),
        rows=rows,
        scale=scale(axis, unit=" points"),
        table=_table(audit, choice, named, digits),
    )


def _key(audit):
    keys = [
        Key(_sample(_mark(50, 9, kind)), f"excess gap: {kind}")
        for kind in ("violated", "undecided", "satisfied")
        if any(group.verdict == kind for group in audit.groups)
    ]
    keys.append(
        Key(
            _sample(marks.line(5, 9, 95, 9, "limits")),
            f"lower to upper limit, each wrong in at most {level(audit.alpha)} of audits",
        )
    )
    keys.append(
        Key(
            _sample(marks.shape(50, 10, "triangle", "second")),
            "shrunken estimate, chance taken out",
        )
    )
    words = f"tolerance: {tolerance_words(audit.tolerance)}"
    return [*keys, Key(_sample(marks.upright(50, 18, "tolerance")), words)]


def _sample(mark):
    return marks.drawing(18, mark, kind="sample")


def _words(audit, choice, named, digits):
    def describe(group):
        return (
            f"{named(group)} with {points(group.excess_gap, digits, sign=True)} points, limits "
            f"{interval(group.lower, group.upper, digits)}"
        )

    verdicts = [group.verdict for group in audit.groups]
    return (
        f"Forest plot. {choice.words}, worst first: excess gap with lower and upper limit, and the "
        f"tolerance of {tolerance_words(audit.tolerance)} as a line. "
        f"Worst: {describe(audit.groups[0])}. Best: {describe(audit.groups[-1])}. "
        f"Of {count(len(verdicts), 'group')}, {count(verdicts.count('satisfied'))} within the "
        f"tolerance, {count(verdicts.count('violated'))} beyond it, "
        f"{count(verdicts.count('undecided'))} undecided."
    )


def _table(audit, choice, named, digits):
    rows = [
        (
            named(g),
            points(g.excess_gap, digits, sign=True),
            points(g.lower, digits, sign=True),
            points(g.upper, digits, sign=True),
            points(g.shrunken, digits, sign=True),
            g.verdict,
        )
        for g in choice.shown
    ]
    columns = ("Group", "Excess gap", "Lower limit", "Upper limit", "Shrunken", "Verdict")
    caption = f"{choice.words}: excess gap in percentage points, worst first"
    return Table(caption, columns, rows, frozenset({5}))
