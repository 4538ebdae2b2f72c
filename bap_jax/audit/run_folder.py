"""A finished run of bap_jax, from the predictions that it kept.

`predictions.npz` has for each split arrays `SPLIT_group` `(sample, attribute)` of group ids,
`SPLIT_dense_correct` and `SPLIT_sparse_correct` `(sample,)`; and `group_names` and
`attribute_of_group` `(group,)`.
"""

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bap_jax.audit.samples import Samples, sha256_of
from bap_jax.errors import UserError, first_of

PREDICTIONS, REPORT = "predictions.npz", "report.json"
_END = "_dense_correct"


class Run(NamedTuple):
    """A run's samples of one split, and the tolerance that it was given; None if unknown."""

    samples: Samples
    tolerance: float | None


def read_run(folder: Path, split: str) -> Run:
    """Reads what a run kept of one split.

    Args:
      folder: of the run, which holds `predictions.npz`, or a workdir that holds a single run.
      split: such as `test`.

    Raises:
      UserError: there are no predictions, not of this split, or of several runs.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file; --run=DIR names the folder of a finished run.")
    folder = _folder_of_run(folder)
    path = folder / PREDICTIONS
    arrays, groups = read_split(path, split, ("dense_correct", "sparse_correct"))
    samples = Samples(
        arrays["dense_correct"].astype(bool),
        arrays["sparse_correct"].astype(bool),
        groups,
        f"{folder}: the {split} split of the run",
        {str(path): sha256_of(path)},
    )
    return Run(samples, _tolerance(folder / REPORT))


def read_split(
    path: Path, split: str, names: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays of a split, by name, and for each attribute `(sample,)` names of groups.

    Args:
      path: of `predictions.npz`.
      split: such as `test`.
      names: of the arrays, without `SPLIT_`.
      optional: of arrays that are read if they are there.

    Raises:
      UserError: there is no such split, or the file is damaged.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            splits = [name.removesuffix(_END) for name in file.files if name.endswith(_END)]
            if split not in splits:
                raise UserError(f"{path} has no split {split!r}; write --split={'|'.join(splits)}.")
            present = [name for name in optional if f"{split}_{name}" in file.files]
            arrays = {name: file[f"{split}_{name}"] for name in (*names, *present)}
            return arrays, _groups_of(file, file[f"{split}_group"])
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {error}; repeat the run.") from error


def _folder_of_run(folder):
    """The folder itself, or that of the only run below it."""
    if (folder / PREDICTIONS).is_file():
        return folder
    runs = sorted(path.parent for path in folder.glob(f"**/{PREDICTIONS}"))
    if len(runs) > 1:
        raise UserError(
            f"{folder} holds {len(runs)} runs; audit one of them, for instance --run={runs[0]}. "
            f"The others: {first_of([str(run) for run in runs[1:]], 5)}."
        )
    if not runs:
        raise UserError(
            f"there is no {PREDICTIONS} in {folder}; expected the folder of a finished run. A run "
            "that was interrupted, diverged, or is of an older version has none: repeat it."
        )
    return runs[0]


def _groups_of(file, ids):
    """For each attribute `(sample,)` names; None for an id that is no group's."""
    names = np.array([*map(str, file["group_names"]), None], object)
    attributes = file["attribute_of_group"]
    grouped = {}
    for column in range(ids.shape[1]):
        inside = (ids[:, column] >= 0) & (ids[:, column] < len(attributes))
        attribute = attributes[ids[inside, column][0]] if inside.any() else column
        grouped[str(attribute)] = names[np.where(inside, ids[:, column], -1)]
    return grouped


def _tolerance(path):
    if not path.is_file():
        return None
    return read_report(path).get("tolerance")


def read_report(path: Path) -> dict[str, Any]:
    """The `report.json` of a run.

    Raises:
      UserError: it is damaged.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}; repeat the run.") from error
    if not isinstance(report, dict):
        raise UserError(f"{path} is no report of a run.")
    return report
