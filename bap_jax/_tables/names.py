"""Values of a column as names: which are the same, what each is called, and which are missing.

A value is missing where a column holds None, NaN, NaT, pandas' NA or a null of pyarrow, or is
masked. Bytes are decoded. Whole numbers that were stored as floats, as they are beside missing
ones, lose their ".0". Objects of pandas, pyarrow, PyTorch and others are recognised by what they
can do, so that none of these libraries is needed.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bap_jax.errors import UserError

MISSING = "missing"
_NOT_SO_CALLED = f"{MISSING} (no value)"
# The texts that pandas takes for no value, and what other programs write.
_NOTHING = frozenset(
    ("", "NA", "None", "N.A.", "#NA", "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
)
_NOTHING_IN_ANY_CASE = frozenset(("nan", "-nan", "null", "n/a", "#n/a", "<na>", "nat"))
_EXACT_UP_TO = 2**53  # whole numbers beyond it are not exact as floats


class Distinct(NamedTuple):
    """The distinct values of a column.

    Attributes:
      codes: `(sample,)` int64 into `values`.
      values: as Python or NumPy has them, bytes decoded; None for a missing one.
    """

    codes: np.ndarray
    values: list[Any]


class Names(NamedTuple):
    """A column as names.

    Attributes:
      ids: `(sample,)` int32 into `names`; −1 where there is no value.
      names: distinct texts, in the order of the values.
      missing: `(sample,)` bool.
      kinds: what the values are, such as `number` and `text`; more than one in a mixed column.
      nothings: the texts that were taken for no value.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    missing: np.ndarray
    kinds: tuple[str, ...]
    nothings: tuple[str, ...] = ()


def is_nothing(text: str) -> bool:
    """Whether a cell with this text holds no value.

    Example:
      >>> [is_nothing(text) for text in ("", " ", "nan", "NULL", "N/A", "none", "Nancy")]
      [True, True, True, True, True, False, False]
    """
    text = text.strip()
    return text in _NOTHING or text.lower() in _NOTHING_IN_ANY_CASE


def name_for_missing(names: Iterable[str]) -> str:
    """What the group of samples without a value is called beside groups of these names."""
    return _NOT_SO_CALLED if MISSING in names else MISSING


def names_of(values: Any, what: str, known: Iterable[str] = ()) -> Names:
    """The names of a column's values; texts such as `nan` and `NULL` are missing ones, too.

    Args:
      values: `(sample,)` texts, bytes, numbers, bools, dates or other objects with a text.
      what: name of the column in errors.
      known: texts that are names although they read as no value.

    Raises:
      UserError: not one value for each sample, or bytes that are no text.
    """
    codes, distinct = distinct_values(values, what)
    known = set(known)
    texts = texts_of(distinct)
    nothings = {text for text in texts if text is not None and is_nothing(text)} - known
    texts = [None if text in nothings else text for text in texts]
    order = _order([v for v, text in zip(distinct, texts, strict=True) if text is not None])
    present = [text for text in texts if text is not None]
    names = tuple(dict.fromkeys(present[i] for i in order))
    index = {name: i for i, name in enumerate(names)}
    ids = np.array([index[text] if text is not None else -1 for text in texts], np.int32)
    ids = ids[codes] if len(codes) else np.zeros(0, np.int32)
    kinds = {_kind(v) for v, text in zip(distinct, texts, strict=True) if text is not None}
    _check_names(names, what)
    return Names(ids, names, ids < 0, tuple(sorted(kinds)), tuple(sorted(filter(None, nothings))))


def _order(values):
    """Positions of the values in ascending order; in that of their texts if they are mixed."""
    positions = range(len(values))
    if len({_kind(value) for value in values}) <= 1:
        try:
            return sorted(positions, key=lambda i: values[i])
        except TypeError:  # such as complex numbers, which have no order
            pass
    texts = texts_of(values)
    return sorted(positions, key=lambda i: str(texts[i]))


def _kind(value):
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | np.bool_):
        return "truth value"
    if isinstance(value, int | float | np.integer | np.floating):
        return "number"
    return type(value).__name__


def _check_names(names, what):
    # An array of texts, as predictions.npz holds them, drops NUL at an end.
    wrong = next((name for name in names if "\0" in name), None)
    if wrong is not None:
        raise UserError(f"{what}: the name {wrong!r} holds a NUL character; remove it.")


def distinct_values(values: Any, what: str) -> Distinct:
    """The distinct values of a column `(sample,)`.

    Values of different types are different, although Python finds 1, 1.0 and True equal.

    Raises:
      UserError: not one value for each sample, or bytes that are no text.
    """
    array = as_column(values, what)
    if array.dtype.kind == "U":
        distinct, codes = _distinct_texts(array)
    elif array.dtype.kind in "SbiufMm":
        distinct, codes = np.unique(array, return_inverse=True)
    else:
        distinct, codes = _distinct_objects(_as_objects(array), what)
    plain = [_plain(value, what) for value in distinct]
    if np.ma.isMaskedArray(values):
        codes = np.where(np.ma.getmaskarray(values), len(plain), codes)
        present, codes = np.unique(codes, return_inverse=True)
        plain = [[*plain, None][i] for i in present]
    return Distinct(codes, plain)


def as_column(values: Any, what: str) -> np.ndarray:
    """A column `(sample,)` as an array; a list keeps the type of each of its values.

    Raises:
      UserError: not one value for each sample.
    """
    if getattr(values, "null_count", 0) and hasattr(values, "to_pylist"):
        values = values.to_pylist()  # whole numbers beside nulls would become floats
    if not hasattr(values, "__array__") and not np.isscalar(values):
        # `np.asarray(["a", None, 1])` would make text of what is not text, NaN included.
        if not isinstance(values, Iterable) or isinstance(values, Mapping | set | frozenset):
            raise UserError(f"{what} must hold one name for each sample, in order; got {values!r}.")
        listed = list(values)
        values = np.empty(len(listed), object)
        values[:] = listed
    array = np.asarray(values)
    if array.ndim != 1:
        raise UserError(
            f"{what} must hold one group name for each sample, shape (sample,); got shape "
            f"{array.shape}. Pass several attributes as a dict of columns."
        )
    return array


def _distinct_texts(array):
    """`np.unique` with ids, by 64-bit hashes: sorting a million of them is faster than of texts."""
    _, first, codes = np.unique(_hashes(array), return_index=True, return_inverse=True)
    distinct = array[first]
    if (distinct[codes] == array).all():
        return distinct, codes
    return np.unique(array, return_inverse=True)  # two texts have one hash


def _hashes(array):
    characters = np.ascontiguousarray(array).view(np.uint32).reshape(len(array), -1)
    hashes = np.zeros(len(array), np.uint64)
    for column in characters.T:
        hashes = (hashes ^ column) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _as_objects(array):
    """Objects that can be told apart: arrays of one number, of any library, become numbers."""
    array = array.astype(object)
    kinds = set(map(type, array))
    boxes = {kind for kind in kinds if _is_box(kind)}
    if boxes:
        array = array.copy()
        for row, value in enumerate(array):
            if type(value) in boxes:
                array[row] = _unboxed(value)
    return array


def _is_box(kind):
    return hasattr(kind, "as_py") or (hasattr(kind, "item") and not issubclass(kind, np.generic))


def _unboxed(value):
    if hasattr(value, "as_py"):  # a scalar of pyarrow
        return value.as_py()
    if value is np.ma.masked:
        return None
    return value.item() if getattr(value, "shape", None) == () else value


def _distinct_objects(array, what):
    """Distinct Python objects, those of other types apart, in the order of appearance."""
    mixed = len({*map(type, array)} & {bool, int, float, np.bool_}) > 1
    try:
        keys = list(zip(array, map(type, array), strict=True)) if mixed else array
        index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        codes = np.fromiter(map(index.__getitem__, keys), np.int64, len(array))
    except TypeError:
        row = next(row for row, value in enumerate(array) if not _is_hashable(value))
        raise UserError(
            f"{what} must hold one group name for each sample; row {row} (from 0) holds "
            f"{array[row]!r}."
        ) from None
    return [key[0] for key in index] if mixed else list(index), codes


def _is_hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _plain(value, what):
    """The value with bytes decoded; None if it is missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bytes):
        return decoded(value, what)
    return None if not isinstance(value, str) and value != value else value


def decoded(value: bytes, what: str) -> str:
    """Bytes as text.

    Raises:
      UserError: they are not UTF-8.
    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} holds {bytes(value)!r}, which is not UTF-8; decode it, for instance by "
            ".decode('latin-1')."
        ) from error


def texts_of(values: Iterable[Any]) -> list[str | None]:
    """What each value is called; None for None.

    Example:
      >>> texts_of([1.0, 3.0, None]), texts_of([1.0, 2.5]), texts_of([True, "a"])
      (['1', '3', None], ['1.0', '2.5'], ['True', 'a'])
    """
    values = list(values)
    numbers = [float(v) for v in values if isinstance(v, float | np.floating)]
    numbers = [number for number in numbers if np.isfinite(number)]
    whole = all(number.is_integer() and abs(number) <= _EXACT_UP_TO for number in numbers)
    return [None if value is None else _text(value, whole) for value in values]


def _text(value, whole):
    if whole and isinstance(value, float | np.floating) and np.isfinite(value):
        return str(int(value))
    return str(value)
