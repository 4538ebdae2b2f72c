"""The report of an audit as one page of HTML."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bap_jax.audit import text
from bap_jax.audit.labels import namer
from bap_jax.audit.numbers import (
    count,
    interval,
    percent,
    points,
    short,
)
from bap_jax.audit.numbers import tolerance as tolerance_words
from bap_jax.audit.page import (
    Fact,
    Facts,
    Lead,
    Page,
    Paragraph,
    Part,
    Points,
    Section,
    render_page,
)
from bap_jax.audit.svg import chance, flips, forest, gaps, slope
from bap_jax.audit.svg.figure import Table
from bap_jax.audit.svg.groups import ALL_SHOWN_UP_TO
from bap_jax.audit.unknowns import unknowns

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit

OPEN_TABLE_UP_TO = 200


def render_audit(audit: "Audit", about: Mapping[str, Any]) -> str:
    """One self-contained page: the verdict first, then all that it rests on.

    Args:
      audit: what was found.
      about: where it comes from: `title`, `command`, `date`, `versions`, `hashes` (a mapping from
        file to digest), `name` (of who signs), `samples`
        (what was judged, in the plural: "photographs"); anything else is shown under its own name.
    """
    title = str(about.get("title") or "Does every group fare as well with the sparse model?")
    lead = lead_of(audit, str(about.get("samples") or "test samples"))
    return render_page(Page(title, lead, audit_sections(audit), about))


def lead_of(audit: "Audit", samples: str = "test samples") -> Lead:
    """The verdict in one sentence, and what was declared before looking.

    Args:
      audit: what was found.
      samples: what was judged, in the plural.
    """
    declared = [
        ("Tolerance (ε)", tolerance_words(audit.tolerance)),
        ("Level (α), one-sided", short(audit.alpha)),
        ("Smallest group assessed", count(audit.min_group_size, "sample")),
    ]
    return Lead(audit.verdict, text.sentence(audit, samples), declared)


def audit_sections(audit: "Audit", prefix: str = "") -> list[Section]:
    """All sections of an audit but its verdict.

    Args:
      audit: what was found.
      prefix: before the names of elements, where a page holds several audits: "test-".
    """
    digits = text.digits_of(audit)
    sections = [
        Section(f"{prefix}overall", "All samples together", [_overall(audit, digits)]),
        Section(f"{prefix}gaps", "Excess gap of each group", _gaps(audit, prefix, digits)),
        Section(f"{prefix}chance", "How much of it is chance?", _chance(audit, prefix, digits)),
        Section(f"{prefix}flips", "Harmed and helped", [_flips(audit, prefix)]),
        Section(f"{prefix}accuracy", "Accuracy before and after", [_slopes(audit, prefix, digits)]),
        _all_groups(audit, prefix, digits),
        *_not_assessed(audit, prefix),
    ]
    return [
        *sections,
        Section(f"{prefix}unknown", "What is not known", [Points(unknowns(audit, digits))]),
    ]


def _overall(audit, digits) -> Facts:
    all_samples = audit.overall
    word, gap, lower, upper = text.lost_or_gained(all_samples)
    limits = interval(lower, upper, digits)
    return Facts(
        [
            Fact("Samples", count(all_samples.n), f"in {count(len(audit.groups), 'group')}"),
            Fact("Accuracy, dense", percent(all_samples.dense_accuracy, digits), "original model"),
            Fact("Accuracy, sparse", percent(all_samples.sparse_accuracy, digits), "compressed"),
            Fact(word.capitalize(), f"{points(gap, digits)} points", f"limits {limits}"),
            Fact(
                "Flips",
                percent(all_samples.flip_rate),
                f"{count(all_samples.harmed)} harmed, {count(all_samples.helped)} helped",
            ),
        ]
    )


def _gaps(audit, prefix, digits) -> list[Part]:
    parts: list[Part] = [forest.draw_forest(audit, f"{prefix}figure-gaps", digits)]
    if len(audit.groups) > ALL_SHOWN_UP_TO:
        parts.append(gaps.draw_all_gaps(audit, f"{prefix}figure-all-gaps", digits))
    return parts


def _chance(audit, prefix, digits) -> list[Part]:
    if not any(g.harmed + g.helped for g in audit.groups):
        words = "The two models never differ, so every measured gap is 0: there is nothing that "
        return [Paragraph(words + "chance could vary, and nothing to estimate a spread from.")]
    parts: list[Part] = []
    if np.ptp(audit.chance.maxima) > 0:
        parts.append(chance.draw_chance(audit, f"{prefix}figure-chance", digits))
    else:
        parts.append(Paragraph(chance.chance_sentence(audit, digits)))
    largest = chance.draw_largest(audit, f"{prefix}figure-largest", digits)
    return [*parts, Paragraph(_spread_words(audit, digits)), largest]


def _spread_words(audit, digits):
    bayes = audit.bayes_max
    if audit.spread > 0:
        spread = (
            f"The true gaps of the groups scatter by about {points(audit.spread, digits)} points "
            "around the whole (standard deviation τ̂, what chance adds is taken out; it counts "
            "groups that fare better as well)."
        )
    else:
        spread = "The measured gaps scatter no more than chance explains (τ̂ = 0)."
    return (
        f"{spread} Estimated from all groups, the largest true gap is about "
        f"{points(bayes.mean, digits)} points, between {points(bayes.lower, digits)} and "
        f"{points(bayes.upper, digits)} with 90\N{NO-BREAK SPACE}% probability. Both are "
        "estimates, no part of the verdict."
    )


def _flips(audit, prefix) -> Part:
    if audit.overall.harmed + audit.overall.helped == 0:
        return Paragraph(
            "No sample flipped: the two models are right and wrong on exactly the same "
            f"{count(audit.overall.n, 'sample')}."
        )
    return flips.draw_flips(audit, f"{prefix}figure-flips")


def _slopes(audit, prefix, digits) -> Part:
    if math.isnan(audit.overall.dense_accuracy):
        return Paragraph(
            "Accuracies are not known: only samples on which the two models differ were counted."
        )
    return slope.draw_slopes(audit, f"{prefix}figure-accuracy", digits)


def _all_groups(audit, prefix, digits) -> Section:
    number = len(audit.groups)
    closed = f"Table of all {count(number)} groups" if number > OPEN_TABLE_UP_TO else ""
    explained = Paragraph(
        "Lost: dense minus sparse accuracy, in points. Excess gap: what the group lost beyond all "
        "samples. Samples needed: in this group, to show four times in five that it is within the "
        "tolerance if it in truth lost no more than the others."
    )
    table = groups_table(audit, digits)
    return Section(f"{prefix}groups", "All groups", [explained, table], closed=closed)


def groups_table(audit: "Audit", digits: int) -> Table:
    """Everything about every assessed group, the worst first."""
    named = namer(audit)
    rows = [
        (
            named(g),
            count(g.n),
            count(g.harmed),
            count(g.helped),
            percent(g.dense_accuracy, digits),
            percent(g.sparse_accuracy, digits),
            points(g.gap, digits),
            points(g.excess_gap, digits, sign=True),
            interval(g.lower, g.upper, digits),
            points(g.shrunken, digits, sign=True),
            g.verdict,
            "–" if g.samples_needed is None else count(g.samples_needed),
        )
        for g in audit.groups
    ]
    columns = (
        "Group", "Samples", "Harmed", "Helped", "Dense", "Sparse", "Lost", "Excess gap", "Limits",
        "Shrunken", "Verdict", "Samples needed",
    )  # fmt: skip
    return Table(f"All {count(len(rows), 'group')}, worst first", columns, rows, frozenset({10}))


def _not_assessed(audit, prefix) -> list[Section]:
    parts: list[Part] = []
    number = len(audit.not_assessed)
    if number:
        named = namer(audit)
        rows = [(named(skipped), count(skipped.n)) for skipped in audit.not_assessed]
        caption = f"Groups with fewer than {count(audit.min_group_size, 'sample')}: not assessed"
        parts.append(Table(caption, ("Group", "Samples"), rows))
    missing = [(name or "group", count(number)) for name, number in audit.missing.items() if number]
    if missing:
        caption = "Samples without a value; they form a group named “missing”"
        parts.append(Table(caption, ("Attribute", "Samples without a value"), missing))
    if not parts:
        return []
    closed = f"All {count(number)} groups by name" if number > OPEN_TABLE_UP_TO else ""
    title = "Not assessed, or without a group"
    return [Section(f"{prefix}not-assessed", title, parts, closed=closed)]
