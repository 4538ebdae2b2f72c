"""A report as text for the terminal, in percent."""

from collections.abc import Mapping
from typing import Any

from bap_jax.errors import first_of
from bap_jax.reporting.feasibility import LEFT_OUT, NOT_OBSERVED
from bap_jax.reporting.gaps import exceeds

_TITLES = {"train": "train", "validation": "valid.", "test": "test"}


def format_report(report: Mapping[str, Any]) -> str:
    """A table of the selected iterate, one of the last iterate, and notes on the training.

    Each group has one line. Excess gaps beyond the tolerance are marked with `!`.

    Args:
      report: as in `report.json`; `feasibility`, `unconstrained_groups` and `execution` may be
        missing.
    """
    validation = report["splits"]["validation"]
    smallest = min(group["n"] for group in validation["groups"])
    lines = [
        _head(report),
        "",
        *_table(f"SELECTED on validation, epoch {report['epoch']}", report, report["tolerance"]),
        "",
        *_table(f"LAST, epoch {report['last']['epoch']}", report["last"], report["tolerance"]),
        "",
        f"The smallest group has {smallest} validation samples: one more error lowers its accuracy "
        f"by {100 / smallest:.1f} points.",
        *_training_notes(report),
        *_execution_note(report),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _training_notes(report):
    if report.get("feasibility"):
        yield from _feasibility_notes(report["feasibility"])
    small = report.get("unconstrained_groups")
    if small:
        listed = first_of([f"{name} ({n})" for name, n in small.items()], 10)
        yield (
            f"Too small to constrain: {_count(small, 'group')}. Training samples of each: {listed}."
        )


def _feasibility_notes(feasibility):
    rows, status = feasibility["constraints"], feasibility["status"]
    unmet = [row for row in rows if row["status"] not in ("met", NOT_OBSERVED, LEFT_OUT)]
    worst = ", ".join(f"{row['name']} ({row['status']})" for row in unmet[:5])
    if status == NOT_OBSERVED and any(row["status"] == "met" for row in rows):
        status = "met where observed"
    yield f"Constraints as observed in training: {status}" + (
        f"; {feasibility['unmet']} not met, the worst: {worst}." if unmet else "."
    )
    unseen = [row["name"] for row in rows if row["status"] == NOT_OBSERVED]
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


def _table(title, iterate, tolerance):
    splits = iterate["splits"]
    names = [group["name"] for group in splits["test"]["groups"]]
    width = max(16, *(len(name) for name in names)) + 2
    rule = "-" * (width + 31 * len(splits))

    def row(label, cells):
        return label.ljust(width) + "".join(cells)

    yield title
    yield row("group", [f"{_TITLES[split]:>8} dense  sparse  excess " for split in splits])
    yield rule
    for i, name in enumerate(names):
        yield row(name, [_group(split["groups"][i], tolerance) for split in splits.values()])
    yield rule
    yield row("accuracy", [_accuracies(split) + f"{'':9}" for split in splits.values()])
    for label, key in (("max excess gap", "max_excess_gap"), ("disparity", "pairwise_disparity")):
        limit = tolerance if key == "max_excess_gap" else None
        yield row(label, [f"{'':22}{_gap(split[key], limit)}" for split in splits.values()])


def _head(report):
    sparsity = report["sparsity"]
    return (
        f"{report['method'].upper()}, seed {report['seed']}: "
        f"{100 * sparsity['prunable']:.2f} % of the prunable weights removed "
        f"({100 * sparsity['total']:.2f} % of all), tolerance {100 * report['tolerance']:g} points"
    )


def _group(group, tolerance):
    return _accuracies(group) + _gap(group["excess_gap"], tolerance)


def _accuracies(values):
    return f"{100 * values['dense_accuracy']:14.2f}{100 * values['sparse_accuracy']:8.2f}"


def _gap(value, tolerance):
    mark = "!" if tolerance is not None and exceeds(value, tolerance) else " "
    return f"{100 * value:8.2f}{mark}"
