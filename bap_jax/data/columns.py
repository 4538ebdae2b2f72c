"""Columns of a user's table or arrays: labels, groups, splits."""

import csv
import re
from pathlib import Path

import numpy as np

from bap_jax import groups
from bap_jax.data.listing import open_table
from bap_jax.data.splits import SPLITS
from bap_jax.groups import Grouping
from bap_jax.types import UserError

LABEL, SPLIT, INPUTS, PATH = "label", "split", "inputs", "path"
_OLD_SPLIT = "part"  # the name of that column before version 0.2
_MOST_CLASSES = 100_000
_LARGEST_GAP = 100  # between the two largest class ids
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_EMPTY = "(empty)"
_SPLIT_OF_WORD = {split: split for split in SPLITS} | {"val": "validation", "valid": "validation"}
_SPLIT_OF_TEST_FLAG = {"true": "test", "false": "train"}


def attributes_of(columns, where):
    """Groupings by name of column; texts of integers are the integers they stand for."""
    columns = {name: _integers_if_told(column) for name, column in columns.items()}
    for name, column in columns.items():
        if column.dtype.kind == "f" and np.isnan(column).any():
            raise UserError(
                f"{where}: the column {name!r} holds NaN: leave these samples out, or name a group."
            )
    attributes = {name: groups.encode(column) for name, column in columns.items()}
    if np.issubdtype(columns[LABEL].dtype, np.integer):
        attributes[LABEL] = _class_ids(columns[LABEL], where)
    return attributes


def _integers_if_told(column):
    # Not 01, which may stand beside 1.
    if column.dtype.kind != "U" or not all(_INTEGER.fullmatch(text) for text in column):
        return column
    return column.astype(np.int64)


def _class_ids(labels, where):
    """Integers are ids already: classes that no sample has keep their places."""
    if labels.min() < 0:
        raise UserError(f"{where}: class ids must be ≥ 0; got {labels.min()}.")
    if labels.max() >= _MOST_CLASSES:
        raise UserError(f"{where}: class ids must be < {_MOST_CLASSES}; got {labels.max()}.")
    last = np.unique(labels)[-2:]
    if last[-1] - last[0] > _LARGEST_GAP:
        raise UserError(
            f"{where}: class id {last[-1]} stands apart, the others end at {last[0]}; expected ids "
            "without large gaps. Leave out samples of no class (such as 255), number the classes "
            "anew, or give them names instead of numbers."
        )
    names = tuple(map(str, range(int(labels.max()) + 1)))
    return Grouping(labels.astype(np.int32)[:, None], names)


def pop_splits(columns, where):
    """Takes the column `split` (or `part`, its former name) out of `columns`.

    Returns:
      `(sample,)` int8 index into `SPLITS`; None where there is no such column.
    """
    name = _OLD_SPLIT if _OLD_SPLIT in columns and SPLIT not in columns else SPLIT
    column = columns.pop(name, None)
    if column is None:
        return None
    words = [str(value).strip().lower() for value in np.asarray(column)]
    expected = f"expected {', '.join(SPLITS)}, or True for the test split and False"
    for word in words:
        if word not in _SPLIT_OF_TEST_FLAG and word not in _SPLIT_OF_WORD:
            raise UserError(f"{where}: the column {name!r} holds {word!r}; {expected}.")
    known = _SPLIT_OF_TEST_FLAG if words[0] in _SPLIT_OF_TEST_FLAG else _SPLIT_OF_WORD
    if not set(words) <= set(known):
        raise UserError(
            f"{where}: the column {name!r} mixes names of splits with True and False; {expected}."
        )
    return np.array([SPLITS.index(known[word]) for word in words], np.int8)


def read_table(path: Path) -> dict[str, list[str]]:
    """Columns of a CSV file by name; empty cells of groups are `(empty)`.

    Raises:
      UserError: there is no such file, or it lacks a column, a cell or all rows.
    """
    if not path.is_file():
        raise UserError(
            f"there is no table {path}; expected a CSV file with columns path, label and one for "
            "each attribute. Name another one by config.data.table."
        )
    with open_table(path) as file:
        rows = csv.DictReader(file)
        rows.fieldnames = names = [name.strip() for name in rows.fieldnames or []]
        if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
            raise UserError(f"{path}: cells must be separated by commas; line 1 is {names[0]!r}.")
        check_columns(path, dict.fromkeys(names), (PATH, LABEL))
        if len(set(names)) < len(names):
            raise UserError(f"{path} has a column twice; it has {', '.join(names)}.")
        table = {name: [] for name in names}
        for number, row in enumerate(rows, 2):
            if None in row:
                raise UserError(f"{path}, line {number} has more cells than line 1.")
            for name in names:
                cell = row[name]
                if cell is None or (not cell.strip() and name in (PATH, LABEL, SPLIT, _OLD_SPLIT)):
                    raise UserError(f"{path}, line {number}: the column {name!r} is empty.")
                table[name].append(cell.strip() or _EMPTY)
    if not table[PATH]:
        raise UserError(f"{path} has no rows.")
    return table


def check_columns(path, columns, wanted):
    """Finds the first of the `wanted` columns that is missing, which is a `UserError`."""
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; it has {', '.join(columns) or 'none'}."
        )
