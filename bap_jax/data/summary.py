"""What the splits hold, reported before anything is trained.

Counts of every group and label in every split, the smallest groups, and how many inputs occur more
than once, above all across splits: a test image that is also a training image measures nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bap_jax._tables.shown import clipped, columns, padded
from bap_jax.data.records import Records
from bap_jax.data.splits import SPLITS, Splits
from bap_jax.errors import first_of
from bap_jax.groups import group_counts
from bap_jax.types import Array, Dataset

_SMALLEST = 5
_LARGEST_CROSS = 48  # cells of the table of labels and groups that is printed
_MOST_COUNTED = 1000  # labels, where nobody says that they are class ids
_LONGEST_TABLE = 24  # groups or labels that are printed
_WIDEST_NAME = 40


def summarize(
    splits: Splits,
    class_names: Sequence[str],
    *,
    digests: Array | None = None,
    indices: Mapping[str, Array] | None = None,
    skipped: Sequence[str] = (),
    converted: int = 0,
) -> dict[str, Any]:
    """Counts of samples, as plain values.

    Args:
      splits: of the data.
      class_names: one for each class.
      digests: `(sample,)` of all samples, equal for equal inputs. By default they are computed for
        inputs in memory; duplicates of other inputs are then not counted.
      indices: by name of the split, its samples among all; needed with `digests`.
      skipped: samples that were left out, each with the reason.
      converted: how many images were not stored as RGB.

    Returns:
      `splits` (samples by split), `groups` and `labels` (samples by split; none if labels are no
      class ids), `label_by_group` (one row for each label, one column for each group, over all
      splits), `smallest_groups`, `duplicates` or None, `skipped`, `converted`.
    """
    by_name = {name: getattr(splits, name) for name in SPLITS}
    num_groups, num_classes = len(splits.group_names), num_classes_of(splits)
    by_group = {k: group_counts(split.group_ids, num_groups) for k, split in by_name.items()}
    by_label, cross = {}, np.zeros((0, num_groups), np.int64)
    if num_classes:
        by_label = {k: np.bincount(s.labels, minlength=num_classes) for k, s in by_name.items()}
        cross = _cross_counts(by_name.values(), num_classes, num_groups)
    smallest = np.argsort(by_group["train"], kind="stable")[:_SMALLEST]
    return {
        "splits": {name: split.size for name, split in by_name.items()},
        "groups": _rows(splits.group_names, by_group),
        "labels": _rows(class_names, by_label),
        "label_by_group": cross.tolist(),
        "smallest_groups": [splits.group_names[i] for i in smallest],
        "duplicates": _duplicates(by_name, digests, indices),
        "skipped": list(skipped),
        "converted": int(converted),
    }


def num_classes_of(splits: Splits) -> int:
    """How many labels there are to count; 0 if they are neither class ids nor like them.

    Args:
      splits: of the data.
    """
    if splits.num_classes is not None:
        return splits.num_classes
    labels = [getattr(splits, name).labels for name in SPLITS]
    if not all(hasattr(part, "ndim") and part.ndim == 1 for part in labels):
        return 0
    every = np.concatenate(labels)
    if not np.issubdtype(every.dtype, np.integer) or every.min() < 0:
        return 0
    count = int(every.max()) + 1
    return count if count <= _MOST_COUNTED else 0


def format_summary(summary: Mapping[str, Any]) -> str:
    """A summary as text for the terminal.

    Args:
      summary: from `summarize`.
    """
    summary = {**summary, **{key: _shown(summary[key]) for key in ("labels", "groups")}}
    sizes = ", ".join(f"{name} {count:,}" for name, count in summary["splits"].items())
    lines = [f"Samples    {sizes}"]
    if summary.get("made_up"):
        lines.append("Made up    all samples; they say nothing about any real ones")
    are_groups = _labels_are_groups(summary)
    for key in ("labels", "groups"):
        rows = summary[key]
        if key == "labels" and are_groups:
            lines.append("Labels     the same as the groups")
            continue
        if key == "labels" and not rows:
            lines.append("Labels     no class ids: not counted")
            continue
        lines.append(f"{key.capitalize():<11}{len(rows)}")
        lines += _table(rows) if len(rows) <= _LONGEST_TABLE else ["  all of them: data.json"]
    counts_labels = summary["labels"] and not are_groups
    if counts_labels and len(summary["labels"]) * len(summary["groups"]) <= _LARGEST_CROSS:
        lines += ["Samples of each label in each group, all splits", *_cross_table(summary)]
    ascending = sorted(summary["groups"], key=lambda row: row["train"])[:_SMALLEST]
    smallest = ", ".join(f"{row['name']} ({row['train']:,})" for row in ascending)
    lines.append(f"Smallest   {smallest} training samples")
    for split in SPLITS:
        absent = [row["name"] for row in summary["labels"] if not row[split]]
        if absent:
            lines.append(f"Missing    label {first_of(absent, _SMALLEST)} in the {split} split")
    lines.append(_duplicates_line(summary["duplicates"]))
    if summary["converted"]:
        lines.append(f"Converted  {summary['converted']:,} images were grey, CMYK or transparent")
    skipped = summary["skipped"]
    if skipped:
        first = "; ".join(skipped[:3]) + " …" * (len(skipped) > 3)
        lines.append(f"Left out   {len(skipped):,} samples: {first}")
    return "\n".join(lines)


def _shown(rows):
    """Rows with their names as a terminal shows them."""
    return [{**row, "name": clipped(row["name"], _WIDEST_NAME)} for row in rows]


def _labels_are_groups(summary):
    """Whether each group holds all samples of the label of its name."""
    counts = np.asarray(summary["label_by_group"])
    return summary["labels"] == summary["groups"] and not (counts - np.diag(np.diag(counts))).any()


def _rows(names, counts_by_split):
    return [
        {"name": name, **{split: int(counts[i]) for split, counts in counts_by_split.items()}}
        for i, name in enumerate(names)
    ]


def _cross_counts(splits, num_classes, num_groups):
    """`(class, group)` samples of all splits."""
    table = np.zeros((num_classes, num_groups), np.int64)
    for split in splits:
        for column in np.asarray(split.group_ids).T:
            np.add.at(table, (split.labels, column), 1)
    return table


def _digests_of(split: Dataset) -> np.ndarray | None:
    """`(sample,)` uint64; None if the inputs are not in memory."""
    if isinstance(split.inputs, Records):
        return None
    arrays = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(split.inputs)]
    digests = map(_digest, zip(*arrays, strict=True))
    return np.frombuffer(b"".join(digests), np.uint64)


def _digest(rows):
    digest = hashlib.blake2b(digest_size=8)
    for row in rows:
        digest.update(row.tobytes())
    return digest.digest()


def _duplicates(by_name, digests, indices):
    by_split = {}
    for name in SPLITS:
        if digests is None:
            by_split[name] = _digests_of(by_name[name])
        else:
            by_split[name] = np.asarray(digests)[indices[name]]
        if by_split[name] is None:
            return None
    train, validation, test = (by_split[name] for name in SPLITS)
    return {
        "within": {name: int(each.size - np.unique(each).size) for name, each in by_split.items()},
        "test_in_train": int(np.isin(test, train).sum()),
        "test_in_validation": int(np.isin(test, validation).sum()),
        "validation_in_train": int(np.isin(validation, train).sum()),
    }


def _duplicates_line(counts):
    if counts is None:
        return "Duplicates not looked for: samples are read when they are needed"
    return (
        f"Duplicates {counts['test_in_train']:,} test and {counts['validation_in_train']:,} "
        f"validation samples are training samples too; {counts['test_in_validation']:,} test "
        f"samples are validation samples; {counts['within']['train']:,} training samples copy "
        "others"
    )


def _cross_table(summary):
    """One line for each group, one column for each label."""
    table = np.array(summary["label_by_group"]).T
    labels = [row["name"] for row in summary["labels"]]
    width = max(columns(row["name"]) for row in summary["groups"])
    wide = max(12, *(columns(name) + 2 for name in labels))
    lines = [f"  {'':{width}}" + "".join(" " * (wide - columns(name)) + name for name in labels)]
    for row, counts in zip(summary["groups"], table, strict=True):
        lines.append(f"  {padded(row['name'], width)}" + "".join(f"{n:>{wide},}" for n in counts))
    return lines


def _table(rows):
    width = max(columns(row["name"]) for row in rows)
    heads = "".join(f"{name:>12}" for name in SPLITS)
    lines = [f"  {'':{width}}{heads}"]
    for row in rows:
        cells = "".join(f"{row[name]:>12,}" for name in SPLITS)
        lines.append(f"  {padded(row['name'], width)}{cells}")
    return lines
