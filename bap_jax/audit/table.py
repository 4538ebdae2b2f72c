"""A report as a table for the terminal, in percent."""

from collections.abc import Mapping
from typing import Any

_LABELS = {"train": "train", "validation": "valid.", "test": "test"}


def format_report(report: Mapping[str, Any]) -> str:
    """The selected iterate: one line a group, excess gaps on every part, overall lines below.

    Groups whose excess gap exceeds the tolerance are marked with `!`.
    """
    splits = report["splits"]
    tolerance = report["tolerance"]
    sparsity = report["sparsity"]
    head = (
        f"{report['method'].upper()}, seed {report['seed']}: {100 * sparsity['prunable']:.2f} % of "
        f"the prunable weights removed ({100 * sparsity['total']:.2f} % of all), "
        f"tolerance {100 * tolerance:g} points"
    )
    names = [group["name"] for group in splits["test"]["groups"]]
    width = max(12, *(len(name) for name in names))
    titles = [f"{_LABELS[part]:>8} dense  sparse  excess " for part in splits]
    lines = [head, "", "group".ljust(width) + "".join(titles), ""]
    lines[-1] = "-" * len(lines[-2])
    for i, name in enumerate(names):
        cells = [_group_cells(split["groups"][i], tolerance) for split in splits.values()]
        lines.append(name.ljust(width) + "".join(cells))
    lines.append("-" * len(lines[2]))
    overall = [
        f"{100 * s['dense_accuracy']:14.2f}{100 * s['sparse_accuracy']:8.2f}{'':9}"
        for s in splits.values()
    ]
    lines.append("accuracy".ljust(width) + "".join(overall))
    for label, key in (("max excess", "max_excess_gap"), ("disparity", "pairwise_disparity")):
        cells = [f"{'':22}{100 * split[key]:8.2f}{_mark(split, key, tolerance)}"
                 for split in splits.values()]
        lines.append(label.ljust(width) + "".join(cells))
    return "\n".join(lines)


def _group_cells(group, tolerance):
    mark = "!" if group["excess_gap"] > tolerance else " "
    dense, sparse = 100 * group["dense_accuracy"], 100 * group["sparse_accuracy"]
    return f"{dense:14.2f}{sparse:8.2f}{100 * group['excess_gap']:8.2f}{mark}"


def _mark(split, key, tolerance):
    return "!" if key == "max_excess_gap" and split[key] > tolerance else " "
