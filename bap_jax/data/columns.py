"""Columns of a user's table or arrays: labels, attributes and splits."""

import csv
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from absl import logging

from bap_jax import groups
from bap_jax.data.listing import open_table
from bap_jax.data.splits import SPLITS
from bap_jax.errors import UserError
from bap_jax.groups import Grouping

LABEL, SPLIT, INPUTS, PATH = "label", "split", "inputs", "path"
_FORMER_SPLIT = "part"  # the former name of that column; removed in version 0.3
_NEVER_EMPTY = (PATH, LABEL, SPLIT, _FORMER_SPLIT)
_MOST_CLASSES = 100_000
_LARGEST_GAP = 100  # between the two largest class ids
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_EMPTY = "(empty)"
_SPLIT_OF_WORD = {split: split for split in SPLITS} | {"val": "validation", "valid": "validation"}
_SPLIT_OF_TEST_FLAG = {"true": "test", "false": "train"}


def attributes_of(columns: Mapping[str, np.ndarray], where: str) -> dict[str, Grouping]:
    """The attributes of samples by name.

    Texts of integers, as in a table, become integers. Integer labels are class ids as they stand.

    Args:
      columns: `(sample,)` values by name, usually with `label` among them.
      where: what errors call the file.

    Raises:
      UserError: a column holds NaN, or labels are not suitable class ids.
    """
    columns = {name: _as_integers(column) for name, column in columns.items()}
    for name, column in columns.items():
        if column.dtype.kind == "f" and np.isnan(column).any():
            raise UserError(
                f"{where}: the column {name!r} holds NaN: leave these samples out, or give them a "
                "group name."
            )
    attributes = {name: groups.encode(column) for name, column in columns.items()}
    if LABEL in columns and np.issubdtype(columns[LABEL].dtype, np.integer):
        attributes[LABEL] = _class_ids(columns[LABEL], where)
    return attributes


def _as_integers(column):
    """A column of texts as integers, if all of them are integers."""
    # A text such as 01 stays a text: it may be another group than 1.
    if column.dtype.kind != "U" or not all(_INTEGER.fullmatch(text) for text in column):
        return column
    return column.astype(np.int64)


def _class_ids(labels, where):
    """Integer labels as class ids; a class that no sample has keeps its id."""
    if labels.min() < 0:
        raise UserError(f"{where}: class ids must be ≥ 0; got {labels.min()}.")
    if labels.max() >= _MOST_CLASSES:
        raise UserError(f"{where}: class ids must be < {_MOST_CLASSES}; got {labels.max()}.")
    last = np.unique(labels)[-2:]
    if last[-1] - last[0] > _LARGEST_GAP:
        raise UserError(
            f"{where}: class id {last[-1]} is far from the others, which end at {last[0]}; "
            "expected ids without large gaps. Leave out samples without a class (such as 255), "
            "renumber the classes, or give them names instead of numbers."
        )
    names = tuple(map(str, range(int(labels.max()) + 1)))
    return Grouping(labels.astype(np.int32)[:, None], names)


def pop_splits(columns: dict[str, np.ndarray], where: str) -> np.ndarray | None:
    """Removes the column `split` (or `part`, its former name) from `columns`.

    Args:
      columns: `(sample,)` values by name; changed.
      where: what errors call the file.

    Returns:
      `(sample,)` int8 index into `SPLITS`; None if there is no such column.

    Raises:
      UserError: the column holds an unknown word, or both columns are there.
    """
    if SPLIT in columns and _FORMER_SPLIT in columns:
        raise UserError(
            f"{where} has a column {SPLIT!r} and a column {_FORMER_SPLIT!r}, and both mean the "
            f"split of a sample ({_FORMER_SPLIT!r} is the former name). Keep {SPLIT!r}, and drop "
            f"{_FORMER_SPLIT!r}, or rename it if it is an attribute."
        )
    name = _FORMER_SPLIT if _FORMER_SPLIT in columns else SPLIT
    column = columns.pop(name, None)
    if column is None:
        return None
    if name == _FORMER_SPLIT:
        logging.warning(
            "%s: the column 'part' is now called 'split'; rename it: version 0.3 will treat 'part' "
            "as an attribute.",
            where,
        )
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
    """Reads a CSV file.

    Returns:
      The texts of each column, `(row,)`, by name. An empty cell is `(empty)`; in the columns
      `path`, `label` and `split` it is an error.

    Raises:
      UserError: there is no such file, it has no rows, or it lacks a column or a cell.
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
                if cell is None or (not cell.strip() and name in _NEVER_EMPTY):
                    raise UserError(f"{path}, line {number}: the column {name!r} is empty.")
                table[name].append(cell.strip() or _EMPTY)
    if not table[PATH]:
        raise UserError(f"{path} has no rows.")
    return table


def check_columns(path: Path, columns: Collection[str], required: Collection[str]) -> None:
    """Checks that no required column is missing.

    Raises:
      UserError: one is missing; the message names it and lists the columns there are.
    """
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; it has {', '.join(columns) or 'none'}."
        )
