"""An audit in words: one sentence for the first line of a page, and a text for the terminal.

Accuracies are printed in percent, gaps and limits in percentage points. Nothing is computed here.
"""

import textwrap
from typing import TYPE_CHECKING

from bap_jax._tables.shown import clipped, columns, padded
from bap_jax.audit.labels import namer
from bap_jax.audit.numbers import (
    count,
    decimal,
    digits_for,
    interval,
    level,
    p_value,
    percent,
    points,
    tolerance,
)
from bap_jax.errors import first_of

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit, GroupResult, Overall

__all__ = ["format_audit", "sentence"]

AT_MOST = 12
_NAME_WIDTH = 24
CERTIFIABLE = " Certifiable: the smallest tolerance that these samples would satisfy."


def sentence(audit: "Audit", samples: str = "test samples") -> str:
    """The verdict in plain words: what was found, for how many samples, and what would decide.

    Args:
      audit: the result of `audit.compare`.
      samples: what was judged, in the plural.

    Returns:
      "Undecided at ε = 1 point on 540 test samples: group 2 lost between −1.9 and 12.1 points more
      than the whole. Certifiable: 12.1. A decision needs about 2,500 samples a group." The two
      limits are those of the group that decides, each at the one-sided level `audit.alpha`;
      "certifiable" is the smallest tolerance that would be satisfied.
    """
    n, few = audit.overall.n, samples.removesuffix("s")
    where = f"{audit.verdict.capitalize()} at ε = {tolerance(audit.tolerance)} on "
    where += count(n, few, samples) + _unless_flipped(audit)
    say = {"satisfied": _satisfied, "violated": _violated, "undecided": _undecided}
    digits = digits_of(audit)
    parts = [f"{where}: {say[audit.verdict](audit, digits)}."]
    if audit.verdict != "satisfied":
        parts.append(f"Certifiable: {points(audit.certifiable_tolerance, digits)}.")
    if audit.verdict == "undecided":
        parts.append(_samples(audit))
    if audit.not_assessed:
        parts.append(_left_out(audit))
    return " ".join(parts)


def deciding(audit: "Audit") -> "GroupResult":
    """The row of the group that the verdict rests on."""
    name = audit.deciding_group
    rows = [row for row in audit.groups if name in (row.name, f"{row.attribute}={row.name}")]
    if not rows:  # an audit whose groups have lost their attributes, as in a run's report
        rows = [row for row in audit.groups if name.endswith(f"={row.name}")]
    if audit.verdict == "violated":
        rows = [row for row in rows if row.verdict == "violated"] or rows
    return max(rows, key=lambda row: row.upper)


def digits_of(audit: "Audit") -> int:
    """Decimals of points, for the text and the page: 1, 2 or 3.

    Enough to tell typical limits and the tolerance apart, and to show the two limits that the
    verdict rests on on their own side of the tolerance.
    """
    digits = digits_for([row.upper - row.lower for row in audit.groups], audit.tolerance)
    for limit in (audit.lower, audit.certifiable_tolerance):
        while digits < 3 and 0 < abs(100 * (limit - audit.tolerance)) < 0.5 * 10.0**-digits:
            digits += 1
    return digits


def _unless_flipped(audit):
    flipped = audit.overall.harmed + audit.overall.helped
    return "" if flipped else ", of which both models get exactly the same ones right"


def _satisfied(audit, digits):
    row = deciding(audit)
    return (
        f"no group lost more than {points(audit.certifiable_tolerance, digits)} points more than "
        f"the whole; the closest, group {namer(audit)(row)}, lost between "
        f"{points(row.lower, digits)} and {points(row.upper, digits)}"
    )


def _violated(audit, digits):
    row = deciding(audit)
    named = namer(audit)
    others = [
        named(other) for other in audit.groups if other.verdict == "violated" and other is not row
    ]
    text = (
        f"group {named(row)} lost at least {points(audit.lower, digits)} points more than the whole"
    )
    if others:
        noun = "group" if len(others) == 1 else "groups"
        text += f", and {noun} {first_of(others, 5)} lost too much as well"
    return text


def _undecided(audit, digits):
    row = deciding(audit)
    text = (
        f"group {namer(audit)(row)} lost between {points(row.lower, digits)} and "
        f"{points(row.upper, digits)} points more than the whole"
    )
    if row.lower > audit.tolerance:
        groups = count(len(audit.groups), "group")
        text += (
            "; taken alone that is above ε, but with allowance for picking the worst of "
            f"{groups}, the lower limit is {points(audit.lower, digits)}"
        )
    return text


def _samples(audit):
    needed, row = audit.samples_needed, deciding(audit)
    if needed is None:
        return "With ε = 0 no number of samples can decide for every group: choose a larger ε."
    if needed <= row.n:
        return (
            f"About {rounded(needed)} samples a group would do if none had lost more than the "
            f"whole; this one has {count(row.n)}."
        )
    return f"A decision needs about {rounded(needed)} samples a group."


def rounded(number: int) -> str:
    """A whole number to two digits: 2,487 is "2,500"."""
    return count(int(float(f"{number:.1e}")))


def _left_out(audit):
    groups = count(len(audit.not_assessed), "group")
    return f"Not assessed, with fewer than {audit.min_group_size} samples: {groups}."


def format_audit(audit: "Audit", verbose: bool = False, samples: str = "test samples") -> str:
    """The whole audit for a terminal, in lines of 80 characters where the names allow it.

    Args:
      audit: the result of `audit.compare`.
      verbose: whether all groups are listed, with their shrunken gaps and the samples they need,
        instead of the worst twelve.
      samples: what was judged, in the plural.
    """
    lines = [
        *wrapped(sentence(audit, samples)),
        "",
        *facts(audit),
        "",
        *_table(audit, verbose),
        *_footer(audit, verbose),
    ]
    return "\n".join(line.rstrip() for line in lines)


def wrapped(text: str, width: int = 80, indent: int = 0) -> list[str]:
    """Lines of at most `width` characters; lines after the first are indented."""
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def facts(audit: "Audit") -> list[str]:
    """Overall loss, flips, largest gap beside chance, spread and estimated maximum, a line each."""
    overall, best, digits = audit.overall, audit.bayes_max, digits_of(audit)
    accuracies = f"{percent(overall.dense_accuracy, 2)} → {percent(overall.sparse_accuracy, 2)}"
    pairs = [
        (
            "accuracy",
            f"{accuracies}, {_change(overall, digits)}",
        ),
        (
            "flips",
            f"{percent(overall.flip_rate)} of {count(overall.n)} samples: "
            f"{count(overall.harmed)} harmed, {count(overall.helped)} helped",
        ),
        (
            "largest excess gap",
            f"{points(audit.max_excess_gap, digits)} points, group {_worst(audit)}; "
            f"chance alone: {points(audit.chance.expected, digits)} "
            f"({p_value(audit.chance.p_value)})",
        ),
        (
            "true largest gap",
            f"{points(best.mean, digits)} points, estimated "
            f"({interval(best.lower, best.upper, digits)}); "
            f"spread over groups {points(audit.spread, digits)}",
        ),
    ]
    return [
        line
        for label, text in pairs
        for line in wrapped(f"{label:<20}{text}".replace("\N{NO-BREAK SPACE}", " "), indent=20)
    ]


def _worst(audit):
    """The group with the largest estimate; where the verdict rests on another, why it does."""
    worst, decides, named = audit.groups[0], deciding(audit), namer(audit)
    if decides is worst:
        return named(worst)
    why = "the verdict rests on" if audit.verdict == "violated" else "the largest upper limit:"
    return f"{named(worst)} ({why} group {named(decides)})"


def lost_or_gained(overall: "Overall") -> tuple[str, float, float, float]:
    """The word, and what the whole lost or gained with its limits, in the direction of the word."""
    if overall.gap < 0:
        return "gained", -overall.gap, -overall.upper, -overall.lower
    return "lost", overall.gap, overall.lower, overall.upper


def _change(overall, digits):
    word, gap, lower, upper = lost_or_gained(overall)
    return f"{word} {points(gap, digits)} points ({interval(lower, upper, digits)})"


def _table(audit, verbose):
    rows, digits = list(audit.groups), digits_of(audit)
    if not verbose and len(rows) > AT_MOST:
        decides = deciding(audit)
        rows = rows[:AT_MOST] + [row for row in rows[AT_MOST:] if row is decides]
    names = list(map(namer(audit), rows))
    names = names if verbose else [clipped(name, _NAME_WIDTH) for name in names]
    width = max(len("group"), *map(columns, names))
    heads = ["n", "harmed", "helped", "dense", "sparse", "excess", "lower", "upper"]
    heads += ["  shrunken", "needed"] * verbose
    head = "group".ljust(width) + "".join(f"{head:>8}" for head in heads)
    yield f"{head}  verdict"
    yield "-" * (len(head) + 11)
    for name, row in zip(names, rows, strict=True):
        cells = _cells(row, digits, verbose)
        yield padded(name, width) + "".join(cells) + f"  {row.verdict}"
    if len(rows) < len(audit.groups):
        yield f"… and {count(len(audit.groups) - len(rows), 'more group')}"


def _cells(row, digits, verbose):
    cells = [count(row.n), count(row.harmed), count(row.helped)]
    cells += [decimal(100 * value, 1) for value in (row.dense_accuracy, row.sparse_accuracy)]
    cells += [points(value, digits) for value in (row.excess_gap, row.lower, row.upper)]
    cells = [f"{cell:>8}" for cell in cells]
    if verbose:
        needed = "–" if row.samples_needed is None else count(row.samples_needed)
        cells += [f"{points(row.shrunken, digits):>10}", f"{needed:>8}"]
    return cells


def _footer(audit, verbose):
    yield ""
    yield from wrapped(
        "Harmed: dense right and sparse wrong; helped: the opposite. Excess: points lost beyond "
        f"the loss of the whole; lower and upper: its {level(1 - audit.alpha)} limits, each "
        "one-sided.".replace("\N{NO-BREAK SPACE}", " ")
        + CERTIFIABLE * (audit.verdict != "satisfied")
    )
    if audit.not_assessed:
        named = namer(audit)
        names = [f"{named(row)} ({row.n})" for row in audit.not_assessed]
        listed = first_of(names, len(names) if verbose else 10)
        yield from wrapped(f"Not assessed, fewer than {audit.min_group_size} samples: {listed}.")
    for attribute, n in audit.missing.items():
        if n:
            of = f"of {attribute}" if attribute else "of the group"
            names = [row.name for row in (*audit.groups, *audit.not_assessed)]
            name = "missing (no value)" if "missing (no value)" in names else "missing"
            yield f"Without a value {of}: {count(n, 'sample')}, the group “{name}”."
