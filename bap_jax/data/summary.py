"""What is in the splits, told before anything is trained.

Counts of every group and label in every split, which groups are the smallest, and how many inputs
occur more than once, across splits above all: a test image that was trained on judges nothing.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bap_jax.data.records import Records
from bap_jax.data.splits import SPLITS, Splits
from bap_jax.groups import group_counts
from bap_jax.types import Array, Dataset, first_of

_SMALLEST = 5
_LARGEST_CROSS = 48  # cells of the table of labels and groups that is printed
_LONGEST_TABLE = 24  # groups or labels that are printed


def summarize(
    splits: Splits,
    class_names: Sequence[str],
    *,
    digests: Array | None = None,
    indices: dict[str, Array] | None = None,
    skipped: Sequence[str] = (),
    converted: int = 0,
) -> dict[str, Any]:
    """Numbers of samples, as plain values.

    Args:
      splits: of the data.
      class_names: one a class.
      digests: `(sample,)` of all samples, equal where inputs are; where None, those of inputs that
        lie in memory are made here, and those of others are not known.
      indices: name of a split -> its samples among all, where `digests` are given.
      skipped: samples that were left out, each with the reason.
      converted: how many images were not stored as RGB.

    Returns:
      `splits` (samples by split), `groups` and `labels` (samples by split), `label_by_group` (a
      row a label, a column a group, of all splits), `smallest_groups`, `duplicates` or None,
      `skipped`, `converted`.
    """
    chosen = {name: getattr(splits, name) for name in SPLITS}
    by_group = {
        k: group_counts(split.group_ids, len(splits.group_names)) for k, split in chosen.items()
    }
    by_label = {
        k: np.bincount(split.labels, minlength=splits.num_classes) for k, split in chosen.items()
    }
    order = np.argsort(by_group["train"], kind="stable")[:_SMALLEST]
    return {
        "splits": {name: split.size for name, split in chosen.items()},
        "groups": _rows(splits.group_names, by_group),
        "labels": _rows(class_names, by_label),
        "label_by_group": _cross(
            chosen.values(), splits.num_classes, len(splits.group_names)
        ).tolist(),
        "smallest_groups": [splits.group_names[i] for i in order],
        "duplicates": _duplicates(chosen, digests, indices),
        "skipped": list(skipped),
        "converted": int(converted),
    }


def format_summary(found: dict[str, Any]) -> str:
    """The same as a text for the terminal."""
    sizes = ", ".join(f"{name} {count:,}" for name, count in found["splits"].items())
    lines = [f"Samples    {sizes}"]
    if found.get("made_up"):
        lines.append("Made up    all images; they say nothing about any real ones")
    for what in ("labels", "groups"):
        rows = found[what]
        lines.append(f"{what.capitalize():<11}{len(rows)}")
        lines += _table(rows) if len(rows) <= _LONGEST_TABLE else ["  all of them: data.json"]
    if len(found["labels"]) * len(found["groups"]) <= _LARGEST_CROSS:
        lines += ["Samples of each label in each group, all splits", *_cross_table(found)]
    ascending = sorted(found["groups"], key=lambda row: row["train"])[:_SMALLEST]
    smallest = ", ".join(f"{row['name']} ({row['train']:,})" for row in ascending)
    lines.append(f"Smallest   {smallest} training samples")
    for split in SPLITS:
        absent = [row["name"] for row in found["labels"] if not row[split]]
        if absent:
            lines.append(f"Missing    label {first_of(absent, _SMALLEST)} in the {split} split")
    lines.append(_told_duplicates(found["duplicates"]))
    if found["converted"]:
        lines.append(f"Converted  {found['converted']:,} images were grey, CMYK or transparent")
    if found["skipped"]:
        first = "; ".join(found["skipped"][:3]) + " …" * (len(found["skipped"]) > 3)
        lines.append(f"Left out   {len(found['skipped']):,} samples: {first}")
    return "\n".join(lines)


def _rows(names, counts):
    return [
        {"name": name, **{split: int(found[i]) for split, found in counts.items()}}
        for i, name in enumerate(names)
    ]


def _cross(splits, num_classes, num_groups):
    table = np.zeros((num_classes, num_groups), np.int64)
    for split in splits:
        for column in np.asarray(split.group_ids).T:
            np.add.at(table, (split.labels, column), 1)
    return table


def _digest_of(split: Dataset):
    if isinstance(split.inputs, Records):
        return None
    rows = np.ascontiguousarray(split.inputs)
    found = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(b"".join(found), np.uint64)


def _duplicates(chosen, digests, indices):
    if digests is not None:
        found = {name: np.asarray(digests)[indices[name]] for name in SPLITS}
    else:
        found = {name: _digest_of(split) for name, split in chosen.items()}
    if any(digest is None for digest in found.values()):
        return None
    train, validation, test = (found[name] for name in SPLITS)
    within = {name: int(digest.size - np.unique(digest).size) for name, digest in found.items()}
    return {
        "within": within,
        "test_in_train": int(np.isin(test, train).sum()),
        "test_in_validation": int(np.isin(test, validation).sum()),
        "validation_in_train": int(np.isin(validation, train).sum()),
    }


def _told_duplicates(found):
    if found is None:
        return "Duplicates not looked for: images are decoded when they are needed"
    return (
        f"Duplicates {found['test_in_train']:,} test and {found['validation_in_train']:,} "
        f"validation samples are training samples too; {found['test_in_validation']:,} test "
        f"samples are validation samples; {found['within']['train']:,} training samples copy others"
    )


def _cross_table(found):
    """A line a group, a column a label."""
    columns = np.array(found["label_by_group"]).T
    width = max(len(row["name"]) for row in found["groups"])
    wide = max(12, *(len(row["name"]) + 2 for row in found["labels"]))
    lines = [f"  {'':{width}}" + "".join(f"{row['name']:>{wide}}" for row in found["labels"])]
    for row, counts in zip(found["groups"], columns, strict=True):
        lines.append(f"  {row['name']:{width}}" + "".join(f"{n:>{wide},}" for n in counts))
    return lines


def _table(rows):
    width = max(len(row["name"]) for row in rows)
    heads = "".join(f"{name:>12}" for name in SPLITS)
    lines = [f"  {'':{width}}{heads}"]
    for row in rows:
        lines.append(f"  {row['name']:{width}}" + "".join(f"{row[name]:>12,}" for name in SPLITS))
    return lines
