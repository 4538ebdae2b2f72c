"""A report as a table for the terminal, in percent."""

from collections.abc import Mapping
from typing import Any

from bap_jax.audit.gaps import exceeds

_TITLES = {"train": "train", "validation": "valid.", "test": "test"}


def format_report(report: Mapping[str, Any]) -> str:
    """The selected iterate: a line a group, then overall lines; below them the last iterate.

    Excess gaps beyond the tolerance are marked with `!`.
    """
    tolerance, splits, last = report["tolerance"], report["splits"], report["last"]["splits"]
    names = [group["name"] for group in splits["test"]["groups"]]
    width = max(20, *(len(name) for name in names))
    rule = "-" * (width + 31 * len(splits))

    def row(label, cells):
        return label.ljust(width) + "".join(cells)

    groups = [
        row(name, [_group(split["groups"][i], tolerance) for split in splits.values()])
        for i, name in enumerate(names)
    ]
    lines = [
        _head(report),
        "",
        row("group", [f"{_TITLES[part]:>8} dense  sparse  excess " for part in splits]),
        rule,
        *groups,
        rule,
        *_summary(row, f"epoch {report['epoch']}, selected", splits, tolerance),
        *_summary(row, f"epoch {report['last']['epoch']}, last", last, tolerance),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _head(report):
    sparsity = report["sparsity"]
    return (
        f"{report['method'].upper()}, seed {report['seed']}: "
        f"{100 * sparsity['prunable']:.2f} % of the prunable weights removed "
        f"({100 * sparsity['total']:.2f} % of all), tolerance {100 * report['tolerance']:g} points"
    )


def _summary(row, title, splits, tolerance):
    """Accuracy, largest excess gap and disparity of one iterate."""
    yield row(title, ["" for _ in splits])
    yield row("  accuracy", [_accuracies(split) + f"{'':9}" for split in splits.values()])
    for label, key in (
        ("  max excess gap", "max_excess_gap"),
        ("  disparity", "pairwise_disparity"),
    ):
        limit = tolerance if key == "max_excess_gap" else None
        yield row(label, [f"{'':22}{_gap(split[key], limit)}" for split in splits.values()])


def _group(group, tolerance):
    return _accuracies(group) + _gap(group["excess_gap"], tolerance)


def _accuracies(values):
    return f"{100 * values['dense_accuracy']:14.2f}{100 * values['sparse_accuracy']:8.2f}"


def _gap(value, tolerance):
    mark = "!" if tolerance is not None and exceeds(value, tolerance) else " "
    return f"{100 * value:8.2f}{mark}"
