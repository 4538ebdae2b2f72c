"""Flips: the samples that pruning harmed (right before, wrong after) against those it helped."""

from typing import TYPE_CHECKING

from bap_jax.audit.labels import namer
from bap_jax.audit.numbers import count, percent
from bap_jax.audit.svg import marks
from bap_jax.audit.svg.axis import Axis, scale
from bap_jax.audit.svg.figure import Figure, Key, Row, Table
from bap_jax.audit.svg.groups import choose

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit

HEIGHT = 24


def draw_flips(audit: "Audit", name: str) -> Figure:
    """Bars to the right for harmed samples and to the left for helped ones, as shares of a group.

    Args:
      audit: with at least one flip; without any there is nothing to draw.
      name: of the figure's element.
    """
    choice, named = choose(audit), namer(audit)
    most = max(max(g.harmed, g.helped) / g.n for g in choice.shown) or 0.01
    axis = Axis(-1.08 * most, 1.08 * most)
    overall = audit.overall
    rows = [_row("All samples", overall.harmed, overall.helped, overall.n, axis)]
    rows += [_row(named(g), g.harmed, g.helped, g.n, axis) for g in choice.worst]
    if choice.between:
        rows.append(Row(f"… {count(choice.between, 'group')} between the worst and the best …"))
    rows += [_row(named(g), g.harmed, g.helped, g.n, axis) for g in choice.best]
    return Figure(
        name=name,
        title="Samples on which the models differ: harmed and helped",
        caption=f"{choice.words}, in the same order as above, as a share of the group's samples. "
        "Harmed: the dense model was right and the sparse one is wrong. Helped: the other way.",
        alt=_words(audit, choice, named),
        key=[
            Key(_sample("helped"), "helped (left of the middle)"),
            Key(_sample("harmed"), "harmed (right of the middle)"),
        ],
        rows=rows,
        scale=scale(axis, unit=" %"),
        table=_table(audit, choice, named),
    )


def _row(name, harmed, helped, n, axis):
    bars = [
        marks.bar(axis.at(0), axis.at(-helped / n), -7, 14, "helped"),
        marks.bar(axis.at(0), axis.at(harmed / n), -7, 14, "harmed"),
    ]
    words = f"{count(harmed)} harmed, {count(helped)} helped"
    return Row(name, marks.strip(HEIGHT, [marks.upright(axis.at(0), "100%", "zero")], bars), words)


def _sample(kind):
    return marks.drawing(18, marks.bar(10, 90, 4, 10, kind), kind="sample")


def _words(audit, choice, named):
    most = max(choice.shown, key=lambda g: g.harmed / g.n)
    overall = audit.overall
    return (
        f"Bars of harmed and helped samples. {choice.words}. Over all {count(overall.n)} samples "
        f"{count(overall.harmed)} harmed and {count(overall.helped)} helped, "
        f"{percent(overall.flip_rate)} together. Largest share harmed: {named(most)}, "
        f"{count(most.harmed)} of {count(most.n)}."
    )


def _table(audit, choice, named):
    def row(name, g):
        shares = (percent(g.harmed / g.n), percent(g.helped / g.n))
        return (name, count(g.n), count(g.harmed), count(g.helped), *shares)

    columns = ("Group", "Samples", "Harmed", "Helped", "Share harmed", "Share helped")
    rows = [row("All samples", audit.overall), *(row(named(g), g) for g in choice.shown)]
    return Table(f"{choice.words}: samples harmed and helped", columns, rows)
