"""The verdict of `bap_jax.audit` on a split of a run, as the keys that its report holds.

A group that the audit cannot assess, because it has too few samples, has the verdict `not assessed`
and no limits. So has the whole split if no attribute has two groups that are large enough; the
report then says why.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bap_jax.audit.assessment import from_counts
from bap_jax.audit.counts import Counts, Partition, Table, by_group
from bap_jax.audit.result import Audit, GroupResult
from bap_jax.reporting.predictions import SplitPredictions

NOT_ASSESSED = "not assessed"
ALPHA, MIN_GROUP_SIZE = 0.05, 30
# Enough for a p-value to two digits; the audit command draws ten times as many.
PERMUTATIONS = 2_000

_NUMBERS = (
    "lower",
    "certifiable_tolerance",
    "deciding_group",
    "samples_needed",
    "assessed_max_excess_gap",
    "expected_by_chance",
    "p_value",
    "spread",
    "bayes_max",
)
_Key = tuple[str, str]


def counts_of(
    predictions: SplitPredictions, names: Sequence[str], attribute_of_group: Sequence[str]
) -> Counts:
    """Counts of the samples of a split by their groups.

    Args:
      predictions: of the split.
      names: `(group,)` names of the groups.
      attribute_of_group: `(group,)` name of the attribute that each group belongs to.
    """
    rows, cell = np.unique(predictions.group, axis=0, return_inverse=True)
    dense, sparse = predictions.dense_correct, predictions.sparse_correct
    outcomes = (np.ones_like(dense), dense & ~sparse, sparse & ~dense, dense & sparse)
    columns = [np.bincount(cell.ravel()[chosen], minlength=len(rows)) for chosen in outcomes]
    partitions = []
    for column in rows.T:
        own, group_of_cell = np.unique(column, return_inverse=True)
        own_names = tuple(str(names[i]) for i in own)
        attribute = attribute_of_group[int(own[0])]
        partitions.append(Partition(attribute, own_names, group_of_cell))
    return Counts(Table(*columns), tuple(partitions))


def add_verdict(
    report: Mapping[str, Any],
    predictions: SplitPredictions,
    attribute_of_group: Sequence[str],
    tolerance: float,
) -> dict[str, Any]:
    """The report of a split with the audit of its predictions.

    Args:
      report: from `split_report`.
      predictions: of the same networks on the split.
      attribute_of_group: `(group,)` name of the attribute that each group belongs to.
      tolerance: ε of the run, a fraction.

    Returns:
      What `report.json` holds of a split, see docs/outputs.md.
    """
    names = [group["name"] for group in report["groups"]]
    counts = counts_of(predictions, names, attribute_of_group)
    audit = audit_of_counts(counts, tolerance)
    assessed = {(row.attribute, row.name): row for row in audit.groups} if audit else {}
    flips = _flips_of_groups(counts)
    keys = zip(attribute_of_group, names, strict=True)
    groups = [
        {**group, **flips[key], **_of_group(assessed.get(key))}
        for group, key in zip(report["groups"], keys, strict=True)
    ]
    return {**report, **_of_split(counts, audit), "groups": groups}


def audit_of_counts(counts: Counts, tolerance: float) -> Audit | None:
    """The audit over the attributes with two groups of enough samples; None if there is none."""
    parts = [
        part for part in counts.partitions if (by_group(counts, part).n >= MIN_GROUP_SIZE).sum() > 1
    ]
    if not parts:
        return None
    return from_counts(
        Counts(counts.cells, tuple(parts)),
        tolerance=tolerance,
        alpha=ALPHA,
        min_group_size=MIN_GROUP_SIZE,
        permutations=PERMUTATIONS,
    )


def _flips_of_groups(counts: Counts) -> dict[_Key, dict[str, int]]:
    return {
        (part.attribute, name): {"harmed": int(harmed), "helped": int(helped)}
        for part in counts.partitions
        for name, _, harmed, helped, _ in zip(part.names, *by_group(counts, part), strict=True)
    }


def _of_group(row: GroupResult | None) -> dict[str, Any]:
    if row is None:
        return {"lower": None, "upper": None, "shrunken": None, "verdict": NOT_ASSESSED}
    return {name: getattr(row, name) for name in ("lower", "upper", "shrunken", "verdict")}


def _of_split(counts: Counts, audit: Audit | None) -> dict[str, Any]:
    n, harmed, helped, _ = (int(column.sum()) for column in counts.cells)
    flips = {"harmed": harmed, "helped": helped, "flip_rate": (harmed + helped) / n}
    if audit is None:
        why = {"verdict": NOT_ASSESSED, "why_not_assessed": _why(counts)}
        return {**why, **flips, **dict.fromkeys(_NUMBERS)}
    values = (
        audit.lower,
        audit.certifiable_tolerance,
        audit.deciding_group,
        audit.samples_needed,
        audit.max_excess_gap,
        audit.chance.expected,
        audit.chance.p_value,
        audit.spread,
        audit.bayes_max._asdict(),
    )
    verdict = {"verdict": audit.verdict, "why_not_assessed": None}
    return {**verdict, **flips, **dict(zip(_NUMBERS, values, strict=True))}


def _why(counts: Counts) -> str:
    sizes = [by_group(counts, part).n for part in counts.partitions]
    large = max(int((n >= MIN_GROUP_SIZE).sum()) for n in sizes)
    return (
        "a group is compared with the other samples, so at least two groups of an attribute must "
        f"have {MIN_GROUP_SIZE} samples or more; here {large or 'none'} has."
    )
