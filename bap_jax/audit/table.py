"""A report as a table for the terminal, in percent."""

from collections.abc import Mapping
from typing import Any

from bap_jax.audit.feasibility import LEFT_OUT, NOT_OBSERVED
from bap_jax.audit.gaps import exceeds

_TITLES = {"train": "train", "validation": "valid.", "test": "test"}


def format_report(report: Mapping[str, Any]) -> str:
    """Two tables, the selected and the last iterate: a line a group, then overall lines.

    Excess gaps beyond the tolerance are marked with `!`.
    """
    validation = report["splits"]["validation"]
    fewest = min(group["n"] for group in validation["groups"])
    lines = [
        _head(report),
        "",
        *_table(f"SELECTED on validation, epoch {report['epoch']}", report, report["tolerance"]),
        "",
        *_table(f"LAST, epoch {report['last']['epoch']}", report["last"], report["tolerance"]),
        "",
        f"The smallest group has {fewest} validation samples, one of which is "
        f"{100 / fewest:.1f} points.",
        *_training_notes(report),
        *_execution(report),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _training_notes(report):
    feasibility, small = report.get("feasibility"), report.get("unconstrained_groups") or {}
    if feasibility:
        rows = feasibility["constraints"]
        unmet = [row for row in rows if row["status"] not in ("met", NOT_OBSERVED, LEFT_OUT)]
        worst = ", ".join(f"{row['name']} ({row['status']})" for row in unmet[:5])
        status = feasibility["status"]
        if status == NOT_OBSERVED and any(row["status"] == "met" for row in rows):
            status = "met where observed"
        yield f"Constraints as observed in training: {status}" + (
            f"; {feasibility['unmet']} not met, the worst: {worst}." if unmet else "."
        )
        unseen = [row["name"] for row in rows if row["status"] == NOT_OBSERVED]
        if unseen:
            yield (
                f"Never observed: {len(unseen)} constraints: {', '.join(unseen[:10])}. A group is "
                "observed once as many of its samples were seen as its buffer holds: train for "
                "more epochs or lower constraint.buffer_size."
            )
    if small:
        listed = ", ".join(f"{name} ({n})" for name, n in list(small.items())[:10])
        yield f"Too small to constrain: {len(small)} groups (training samples): {listed}."


def _execution(report):
    how = report.get("execution")
    if how:
        epoch = "one program" if how["epoch"] == "device" else "a program a step"
        where = f"{how['devices']} {how['backend']} device" + "s" * (how["devices"] > 1)
        several = f" of {how['processes']} processes" * (how["processes"] > 1)
        yield f"Run on {where}{several}, data {how['data']}, an epoch {epoch}."


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
