"""A run as text for the terminal: the verdict, the groups of the pruned network, notes.

Accuracies are in percent, gaps and limits in percentage points.
"""

from collections.abc import Mapping
from typing import Any

from bap_jax._tables.shown import clipped, columns, padded, visible
from bap_jax.audit.numbers import count, decimal, percent, points
from bap_jax.audit.result import UNDECIDED, VIOLATED
from bap_jax.audit.text import AT_MOST, CERTIFIABLE, facts, wrapped
from bap_jax.errors import first_of
from bap_jax.reporting.feasibility import LEFT_OUT, NOT_OBSERVED
from bap_jax.reporting.gaps import exceeds
from bap_jax.reporting.verdict_text import audit_of_split, verdict_sentence

_WIDTH = 21  # of one split in the table
_NAME = 20


def format_report(report: Mapping[str, Any], verbose: bool = False) -> str:
    """The verdict on the test split, the groups of the pruned network on all splits, and notes.

    Excess gaps beyond the tolerance are marked with `!`. Lines have at most 100 characters, 80 with
    short names.

    Args:
      report: as in `report.json`; `feasibility`, `multipliers`, `unconstrained_groups` and
        `execution` may be missing.
      verbose: whether all groups are listed, instead of the twelve with the largest excess gaps on
        the test split, and how the run was executed.
    """
    audit = audit_of_split(report["splits"]["test"], report["tolerance"])
    lines = [
        *wrapped(verdict_sentence(report, "test")),
        "",
        *(facts(audit) if audit else ()),
        "" if audit else None,
        *wrapped(_head(report)),
        *_table(report, verbose),
        "",
        *(line for note in _notes(report, verbose) for line in wrapped(note)),
    ]
    return "\n".join(line.rstrip() for line in lines if line is not None)


def _notes(report, verbose):
    yield (
        "Excess: points lost beyond the loss of the whole; ! above the tolerance. Lower and upper: "
        "95 % limits of the test excess, each one-sided. By chance: the largest excess gap if all "
        "groups were harmed alike."
        + CERTIFIABLE
        * (report["splits"]["test"]["verdict"] in (VIOLATED, UNDECIDED))
    )
    yield from _training_notes(report)
    if report.get("selection", "last") != "last":
        yield (
            f"The pruned network was chosen by the rule `{report['selection']}`; report.json has "
            f"the last iterate (epoch {report['last']['epoch']}) as well."
        )
    if verbose:
        smallest = min(group["n"] for group in report["splits"]["validation"]["groups"])
        yield (
            f"The smallest group has {smallest} validation samples: one more error lowers its "
            f"accuracy by {100 / smallest:.1f} points."
        )
        yield from _execution_note(report)


def _training_notes(report):
    if report.get("feasibility"):
        yield from _feasibility_notes(report["feasibility"])
    if report.get("multipliers"):
        yield report["multipliers"]["sentence"]
    small = report.get("unconstrained_groups")
    if small:
        listed = first_of([f"{visible(name)} ({n})" for name, n in small.items()], 10)
        yield (
            f"Too small to constrain: {_count(small, 'group')}. Training samples of each: {listed}."
        )


def _feasibility_notes(feasibility):
    rows, status = feasibility["constraints"], feasibility["status"]
    unmet = [row for row in rows if row["status"] not in ("met", NOT_OBSERVED, LEFT_OUT)]
    worst = ", ".join(f"{visible(row['name'])} ({row['status']})" for row in unmet[:5])
    if status == NOT_OBSERVED and any(row["status"] == "met" for row in rows):
        status = "met where observed"
    yield f"Constraints as observed in training: {status}" + (
        f"; {feasibility['unmet']} not met, the worst: {worst}." if unmet else "."
    )
    unseen = [visible(row["name"]) for row in rows if row["status"] == NOT_OBSERVED]
    if unseen:
        yield (
            f"Never observed: {_count(unseen, 'constraint')}: {first_of(unseen, 10)}. A constraint "
            "is observed once the buffer of its group is full: train for more epochs or lower "
            "constraint.buffer_size."
        )


def _count(items, noun):
    return f"{len(items)} {noun}" + "s" * (len(items) != 1)


def _execution_note(report):
    execution = report.get("execution")
    if execution:
        unit = "epoch" if execution["epoch"] == "device" else "step"
        devices = f"{execution['devices']} {execution['backend']} device"
        devices += "s" * (execution["devices"] > 1)
        processes = f" of {execution['processes']} processes" * (execution["processes"] > 1)
        yield f"Ran on {devices}{processes}; data {execution['data']}; one program for each {unit}."


def _table(report, verbose):
    splits = report["splits"]
    groups = splits["test"]["groups"]
    order = sorted(range(len(groups)), key=lambda i: -groups[i]["excess_gap"])
    shown = order if verbose else order[:AT_MOST]
    names = [groups[i]["name"] for i in shown]
    names = [visible(name) if verbose else clipped(name, _NAME) for name in names]
    width = max(len("by chance"), *map(columns, names))
    titles = "".join(f"{name:>{_WIDTH - 1}} " for name in splits)
    heads = f"{'dense':>6}{'sparse':>7}{'excess':>7} " * len(splits)
    rule = "-" * (width + _WIDTH * len(splits) + 14)

    yield " " * width + titles
    yield "group".ljust(width) + heads + "  lower  upper"
    yield rule
    for name, i in zip(names, shown, strict=True):
        cells = [_group(split["groups"][i], report["tolerance"]) for split in splits.values()]
        yield padded(name, width) + "".join(cells) + _limits(groups[i])
    if len(shown) < len(order):
        yield f"… and {count(len(order) - len(shown), 'more group')}; --verbose lists all"
    yield rule
    yield from _bottom(splits, report["tolerance"], width)


def _bottom(splits, tolerance, width):
    def row(label, cells):
        return label.ljust(width) + "".join(cells)

    yield row("all", [_accuracies(split) + " " * 8 for split in splits.values()])
    largest = [_gap(split["max_excess_gap"], tolerance) for split in splits.values()]
    yield row("largest", [" " * 13 + cell for cell in largest])
    expected = [split.get("expected_by_chance") for split in splits.values()]
    if any(value is not None for value in expected):
        cells = ["–" if value is None else points(value) for value in expected]
        yield row("by chance", [f"{cell:>20} " for cell in cells])
    flips = [decimal(100 * split["flip_rate"], 1) + " %" for split in splits.values()]
    yield row("flips", [f"{cell:>20} " for cell in flips])


def _head(report):
    sparsity = report["sparsity"]
    return (
        f"{report['method'].upper()}, seed {report['seed']}, after epoch {report['epoch']}: "
        f"{percent(sparsity['prunable'], 2)} of the prunable weights removed "
        f"({percent(sparsity['total'], 2)} of all)".replace("\N{NO-BREAK SPACE}", " ")
    )


def _group(group, tolerance):
    return _accuracies(group) + _gap(group["excess_gap"], tolerance)


def _accuracies(values):
    return f"{100 * values['dense_accuracy']:6.1f}{100 * values['sparse_accuracy']:7.1f}"


def _gap(value, tolerance):
    return f"{points(value):>7}" + ("!" if exceeds(value, tolerance) else " ")


def _limits(group):
    if group.get("lower") is None:
        return f"{'–':>7}{'–':>7}"
    return f"{points(group['lower']):>7}{points(group['upper']):>7}"
