"""A comparison of methods as one page of HTML."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bap_jax.audit.comparison import MethodComparison
from bap_jax.audit.comparison_text import comparison_sentence, differences, method_facts
from bap_jax.audit.labels import namer_of
from bap_jax.audit.numbers import count, digits_for, interval, level, percent, points
from bap_jax.audit.numbers import tolerance as tolerance_words
from bap_jax.audit.page import Lead, Page, Paragraph, Points, Section, render_page
from bap_jax.audit.svg import axis as axes
from bap_jax.audit.svg import forest
from bap_jax.audit.svg.figure import Figure, Row, Table
from bap_jax.errors import first_of

MOST_ROWS = 60


def render_comparison(comparison: MethodComparison, about: Mapping[str, Any]) -> str:
    """One self-contained page: what differs beyond chance first, then all that it rests on.

    Args:
      comparison: what was found.
      about: where it comes from, see `bap_jax.audit.page.provenance`.
    """
    declared = [
        ("Tolerance (ε)", tolerance_words(comparison.tolerance)),
        ("Intervals", level(1 - 2 * comparison.alpha)),
        ("Resamples", count(comparison.resamples)),
    ]
    lead = Lead("", comparison_sentence(comparison), declared)
    sections = [_methods(comparison)]
    if comparison.differences:
        sections.append(_differences(comparison))
    sections += [_groups(comparison), _not_known(comparison)]
    title = str(about.get("title") or "Which method harms groups less?")
    return render_page(Page(title, lead, sections, about))


def _methods(comparison) -> Section:
    columns = ("Method", "Seeds", *(name.capitalize() for name, _ in _facts(comparison)[0]))
    rows = [
        (row.name, count(row.seeds), *(words for _, words in facts))
        for row, facts in zip(comparison.methods, _facts(comparison), strict=True)
    ]
    words = frozenset(range(2, len(columns)))
    explained = Paragraph(
        f"On {count(comparison.n, 'sample')}; the dense network has "
        f"{percent(comparison.dense_accuracy, 2)} right. Losses are averaged over seeds for every "
        "sample. The largest excess gap stands beside what chance alone gives if all groups are "
        "harmed alike; the true largest gap and the spread are estimates from all groups."
    )
    table = Table("Every method, with intervals", columns, rows, words)
    return Section("methods", "Side by side", [explained, table])


def _facts(comparison):
    return [method_facts(row) for row in comparison.methods]


def _differences(comparison) -> Section:
    rows = [
        (row.name, name, words, says)
        for row in comparison.differences
        for name, words, says in differences(row, comparison.methods)
    ]
    baseline = comparison.differences[0].baseline
    columns = ("Method", "What", f"Difference from {baseline}", "Says")
    table = Table("Every difference", columns, rows, frozenset({1, 2, 3}))
    return Section(
        "differences", f"Differences from {baseline}", [_difference_figure(comparison), table]
    )


def _difference_figure(comparison) -> Figure:
    estimates = [
        forest.Estimate(f"{row.name} · {name}", *value)
        for row in comparison.differences
        for name, value in (
            ("accuracy", row.accuracy),
            ("flips", row.flip_rate),
            ("true largest gap", row.bayes_max),
        )
    ]
    along = forest.axis_for(estimates)
    digits = digits_for([e.upper - e.lower for e in estimates])
    rows = [(e.name, points(e.estimate, digits), *_limits(e, digits)) for e in estimates]
    return Figure(
        name="figure-differences",
        title="Method minus baseline, in points",
        caption="Where a line crosses zero, chance may explain the difference. Samples and seeds "
        "are drawn again for all methods at once, so the differences are paired.",
        alt="Intervals of differences. "
        + ". ".join(f"{name}: {middle}, from {low} to {high}" for name, middle, low, high in rows),
        rows=forest.estimate_rows(estimates, along, digits),
        scale=axes.scale(along, unit=" points"),
        table=Table("Differences in points", ("Difference", "Value", "From", "To"), rows),
    )


def _limits(estimate, digits):
    return points(estimate.lower, digits), points(estimate.upper, digits)


def _groups(comparison) -> Section:
    return Section("gaps", "Excess gap of each group", [_group_figure(comparison)])


def _order(comparison):
    """Keys of the groups, the largest mean gap over methods first."""
    keys = [row[:2] for row in comparison.methods[0].groups]
    gaps = [{g[:2]: g.excess_gap for g in row.groups} for row in comparison.methods]
    return sorted(keys, key=lambda key: -float(np.mean([of[key] for of in gaps])))


def _group_figure(comparison) -> Figure:
    keys = _order(comparison)
    most = max(2, MOST_ROWS // len(comparison.methods))
    ends = most // 2
    shown = keys if len(keys) <= most else keys[:ends] + keys[-ends:]
    by_key = [{g[:2]: g for g in row.groups} for row in comparison.methods]
    named = namer_of(comparison.methods[0].groups)

    def estimate(key, method, groups):
        g = groups[key]
        shown = f"{named(g)} · {method.name}"
        return forest.Estimate(shown, g.excess_gap, g.lower, g.upper, second=g.shrunken)

    estimates = [
        estimate(key, method, groups)
        for key in shown
        for method, groups in zip(comparison.methods, by_key, strict=True)
    ]
    along = forest.axis_for(estimates, comparison.tolerance)
    digits = digits_for([e.upper - e.lower for e in estimates], comparison.tolerance)
    rows = forest.estimate_rows(estimates, along, digits, comparison.tolerance)
    if len(shown) < len(keys):
        hidden = count(len(keys) - len(shown), "group")
        rows.insert(ends * len(by_key), Row(f"… {hidden} between the worst and the best …"))
    which = "All groups" if len(shown) == len(keys) else f"The worst and the best {ends} groups"
    return Figure(
        name="figure-gaps",
        title="What each group lost beyond all samples together, by method",
        caption=f"{which}, the largest mean over methods first, in percentage points; lines are "
        f"limits, each wrong in at most {level(comparison.alpha)} of cases; triangles are "
        "shrunken estimates, chance taken out; the dashed line is the tolerance.",
        alt=f"Forest plot of {count(len(shown), 'group')} under "
        f"{count(len(by_key), 'method')}; the numbers are in the table below.",
        rows=rows,
        scale=axes.scale(along, unit=" points"),
        table=_group_table(estimates, digits),
    )


def _group_table(estimates, digits) -> Table:
    rows = [
        (
            e.name,
            points(e.estimate, digits, sign=True),
            interval(e.lower, e.upper, digits),
            points(e.second, digits, sign=True),
        )
        for e in estimates
    ]
    columns = ("Group and method", "Excess gap", "Limits", "Shrunken")
    return Table("Excess gaps in points", columns, rows)


def _not_known(comparison) -> Section:
    items = [
        (
            "Chance may explain it",
            "This is not evidence that two methods are alike: with more samples or seeds a "
            "difference may show.",
        ),
        (
            "Many differences",
            "Each interval stands alone: of many differences that are nothing but chance, some lie "
            f"outside of theirs, about {level(2 * comparison.alpha)} of them.",
        ),
        (
            "Few seeds",
            "The seeds stand for all trainings of a method; with fewer than about five, the "
            "intervals are too narrow where seeds differ much.",
        ),
        (
            "One dense network",
            "Methods are compared on what they make of the same dense networks and the same "
            "samples; other networks or data may rank them otherwise.",
        ),
        (
            "The true largest gap",
            "It is estimated under the assumption that the gaps of the groups scatter like a bell "
            "curve, can miss a single bad group, and is above 0 even if no group is harmed more "
            "than another.",
        ),
    ]
    if comparison.not_assessed:
        named = namer_of((*comparison.methods[0].groups, *comparison.not_assessed))
        names = first_of([f"{named(row)} ({row.n})" for row in comparison.not_assessed], 20)
        items.insert(0, ("Groups too small", f"Not compared: {names}."))
    return Section("unknown", "What is not known", [Points(items)])
