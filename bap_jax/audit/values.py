"""What cells mean: names, right or wrong, the class with the highest score, and nothing at all."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bap_jax._tables.arrow import to_numpy
from bap_jax._tables.names import decoded, is_nothing
from bap_jax._tables.rows import first_rows
from bap_jax.errors import UserError

_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_TRUTH = {"0": False, "1": True, "false": False, "true": True}

# `(sample,)` values of CSV and Parquet, or of an array of NumPy; `(sample, class)` scores.
Column = pa.Array | np.ndarray


class Names(NamedTuple):
    """Values of a column, each distinct one named once.

    Attributes:
      ids: `(sample,)` int32 into `names`; -1 without a value.
      names: the distinct values as texts, without spaces around them.
    """

    ids: np.ndarray
    names: tuple[str, ...]


def names_of(column: Column) -> Names:
    """The values of a column `(sample,)` as texts.

    Whole numbers stored as fractions lose their `.0`, as pandas adds it to a column with an empty
    cell. The texts of cells are left as they are, apart from spaces around them.
    """
    if isinstance(column, np.ndarray):
        distinct, ids = np.unique(column, return_inverse=True)
    else:
        encoded = column.dictionary_encode(null_encoding="encode")
        distinct, ids = encoded.dictionary.to_pylist(), to_numpy(encoded.indices)
    texts = [_text(value) for value in distinct]
    numbers = {text: i for i, text in enumerate(dict.fromkeys(t for t in texts if t is not None))}
    new = np.array([-1 if text is None else numbers[text] for text in texts], np.int32)
    return Names(new[ids], tuple(numbers))


def _text(value):
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, bytes):
        value = decoded(value, "a column")
    text = str(value).strip()
    return None if value is None or is_nothing(text) else text


def objects(values: Names) -> np.ndarray:
    """`(sample,)` texts, None where there is no value."""
    return np.array([*values.names, None], object)[values.ids]


def comparable(name: str) -> str:
    """The text by which labels and predictions are compared: `3.0` is `3`, `True` is `true`."""
    whole = _WHOLE.fullmatch(name)
    return whole.group(1) if whole else name.lower() if name.lower() in _TRUTH else name


def check_complete(values: Names, what: str, place: Callable[[int], str]) -> None:
    """Raises an error that counts the samples without a value, and names the first of them.

    Args:
      values: of the column.
      what: what the error calls the column, with its file.
      place: what it calls a row.
    """
    advice = "leave these samples out, or add it; an empty cell, NA, NaN, null, None are no value"
    check_none(values.ids < 0, f"{what} has no value", place, advice)


def check_none(wrong: np.ndarray, what: str, place: Callable[[int], str], advice: str) -> None:
    """Raises an error that counts and names the samples that are wrong, if there are any.

    Args:
      wrong: `(sample,)` bool.
      what: what is wrong with them.
      place: what the error calls a row.
      advice: what to do about it.
    """
    rows = np.flatnonzero(wrong)
    if len(rows):
        count = "1 sample" if len(rows) == 1 else f"{len(rows)} of {len(wrong)} samples"
        raise UserError(f"{what} in {count} ({first_rows(wrong, place)}); {advice}.")


def right_or_wrong(
    column: pa.Array | np.ndarray, what: str, place: Callable[[int], str]
) -> np.ndarray:
    """A column of 0 and 1, or of false and true.

    Returns:
      `(sample,)` bool.

    Raises:
      UserError: a cell is empty or holds anything else; the error names its row.
    """
    values = names_of(column)
    check_complete(values, what, place)
    known = [_TRUTH.get(comparable(name).lower()) for name in values.names]
    unknown = np.array([truth is None for truth in known])
    if unknown.any():
        name = values.names[int(unknown.argmax())]
        check_none(
            unknown[values.ids], f"{what} holds {name!r}", place, "expected 0 (wrong) or 1 (right)"
        )
    return np.array(known, bool)[values.ids]


def highest(scores: np.ndarray, classes: Sequence[str], what: str, place: Callable) -> Names:
    """The class with the highest score of each sample; the first of those that share it.

    Args:
      scores: `(sample, class)` logits or probabilities.
      classes: `(class,)` their names.
      what: what errors call the scores.
      place: what they call a row.

    Raises:
      UserError: there are more or fewer classes than names, or a score is NaN.
    """
    if scores.dtype.kind not in "fiu":
        raise UserError(f"{what} must hold numbers, one a class; got {scores.dtype}.")
    if scores.shape[1] != len(classes) or scores.shape[1] < 2:
        raise UserError(
            f"{what} has shape {scores.shape}, scores of {scores.shape[1]} classes; expected "
            f"{max(2, len(classes))} classes."
        )
    unknown = np.isnan(scores).any(axis=1)
    check_none(np.asarray(unknown), f"{what} is NaN", place, "leave these samples out")
    return Names(scores.argmax(axis=1).astype(np.int32), tuple(classes))
