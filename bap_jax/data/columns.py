"""Columns of a user's table or arrays: labels, attributes and splits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from bap_jax._tables.encoding import (
    GIVE_LABELS,
    are_integers,
    is_integer,
    warn_if_mixed,
    warn_of_blanks,
    with_missing,
    without_name,
)
from bap_jax._tables.names import decoded, is_nothing, names_of
from bap_jax.data.splits import SPLITS
from bap_jax.errors import UserError
from bap_jax.groups import Grouping

LABEL, SPLIT, INPUTS, PATH = "label", "split", "inputs", "path"
_FORMER_SPLIT = "part"  # the former name of that column; removed in version 0.3
_MOST_CLASSES = 100_000
_LARGEST_GAP = 100  # between the two largest class ids
_SEPARATORS = {".tsv": "\t", ".tab": "\t"}
_SPLIT_OF_WORD = {split: split for split in SPLITS} | {"val": "validation", "valid": "validation"}
_SPLIT_OF_TEST_FLAG = {"true": "test", "false": "train"}


def _sample(row: int) -> str:
    return f"sample {row}"


class Attributes(NamedTuple):
    """The attributes of samples.

    Attributes:
      groupings: by name; samples without a value are in a group `missing`.
      missing: of each attribute that misses values, which samples it misses, for errors.
    """

    groupings: dict[str, Grouping]
    missing: dict[str, str]


def attributes_of(
    columns: Mapping[str, Any], where: str, place: Callable[[int], str] = _sample
) -> Attributes:
    """The attributes of samples by name.

    Texts of integers, as in a table, become integers. Integer labels are class ids as they stand.
    A column that nobody groups by may miss values; labels must not.

    Args:
      columns: `(sample,)` values by name, usually with `label` among them.
      where: what errors call the file.
      place: what they call a sample, counted from 0.

    Raises:
      UserError: a label is missing, labels are not suitable class ids, or bytes are not UTF-8.
    """
    groupings, missing = {}, {}
    for name, column in columns.items():
        what = f"{where}: the column {name!r}"
        found = names_of(_as_integers(column, name == LABEL), what)
        warn_if_mixed(found, what)
        warn_of_blanks(found, what)
        if found.missing.any():
            if name == LABEL:
                raise UserError(f"{without_name(found, what, place, LABEL)}. {GIVE_LABELS}")
            missing[name] = without_name(found, what, place)
        groupings[name] = Grouping(*with_missing(found))
        if name == LABEL and are_integers(found):
            groupings[name] = _class_ids(np.array(list(map(int, found.names)))[found.ids], where)
    return Attributes(groupings, missing)


def _as_integers(column, is_label):
    """A column of texts as integers, if all of them are integers; None where there is no value."""
    if isinstance(column, np.ndarray) and column.dtype.kind not in "USO":
        return column
    texts = [decoded(text, "a column") if isinstance(text, bytes) else text for text in column]
    if not all(isinstance(text, str) for text in texts):
        return column
    if is_label and all(text.endswith(".0") for text in texts):  # as pandas writes 0 beside NaN
        texts = [text.removesuffix(".0") for text in texts]
    # A text such as 01 stays a text: it may be another group than 1.
    if not all(is_integer(text) or is_nothing(text) for text in texts):
        return column
    return [None if is_nothing(text) else int(text) for text in texts]


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


def pop_splits(
    columns: dict[str, Any], where: str, place: Callable[[int], str] = _sample
) -> np.ndarray | None:
    """Removes the column `split` (or `part`, its former name) from `columns`.

    Args:
      columns: `(sample,)` values by name; changed.
      where: what errors call the file.
      place: what they call a sample, counted from 0.

    Returns:
      `(sample,)` int8 index into `SPLITS`; None if there is no such column.

    Raises:
      UserError: the column misses a value or holds an unknown word, or both columns are there.
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
    found = names_of(column, f"{where}: the column {name!r}")
    if found.missing.any():
        what = f"{where}: the column {name!r}"
        raise UserError(f"{without_name(found, what, place, SPLIT)}. Fill it.")
    words = [found.names[i].strip().lower() for i in found.ids]
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


class TextTable(NamedTuple):
    """A table of texts.

    Attributes:
      columns: `(row,)` texts without spaces around them, by name.
      line: the line of the file with which a row, counted from 0, starts.
    """

    columns: dict[str, list[str]]
    line: Callable[[int], int]


def read_table(path: Path, required: Sequence[str] = (PATH, LABEL)) -> TextTable:
    """Reads a CSV file strictly: every line belongs to one row, and every row has all cells.

    Args:
      path: of the file; cells of a file `.tsv` are separated by tabs.
      required: columns that must be there; no cell of theirs, nor of `split`, may be empty.

    Raises:
      UserError: there is no such file, it has no rows, a quote is misplaced or not closed, a cell
        holds a line break, or a column or a cell is missing. The message names the line.
    """
    # pyarrow, which only tables need, is not installed everywhere.
    from bap_jax._tables import csv_text

    text = csv_text.parse(path.read_bytes(), str(path), _SEPARATORS.get(path.suffix.lower(), ","))
    check_columns(path, text.names, required)
    cells = csv_text.read_columns(text, text.names)
    table = {name: [cell.strip() for cell in column.to_pylist()] for name, column in cells.items()}
    for name in (*required, SPLIT, _FORMER_SPLIT):
        if "" in table.get(name, ()):
            line = text.line(table[name].index(""))
            raise UserError(f"{path}, line {line}: the column {name!r} is empty.")
    return TextTable(table, text.line)


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
