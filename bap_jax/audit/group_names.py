"""A column of group names, of any type, to ids; samples without a name form a group of their own.

Names are compared as text, so 1 and "1" are one group; bytes are decoded; whole numbers that were
stored as floats, as they are beside missing ones, lose their ".0". A name is missing where the
column holds None, NaN, NaT, pandas' NA or blank text, or is masked.
"""

from collections.abc import Hashable, Iterable

import numpy as np

from bap_jax.errors import UserError
from bap_jax.groups import Grouping

MISSING = "missing"


def encode_names(values, what: str = "groups") -> tuple[Grouping, int]:
    """Ids of the groups, sorted by name, and how many samples have none.

    Args:
      values: `(sample,)` text, bytes, numbers or bools, with or without missing ones.
      what: name of the column in errors.

    Returns:
      A grouping of one column, `(sample, 1)` ids; and the number of samples without a value, which
      are in the group "missing" ("missing (no value)" where a group has that name).

    Raises:
      UserError: not one name for each sample.
    """
    array = _as_array(values, what)
    if array.dtype.kind == "U":
        distinct, codes = _unique_text(array)
    elif array.dtype.kind in "SbiufMm":
        distinct, codes = np.unique(array, return_inverse=True)
    else:
        distinct, codes = _unique_objects(array.astype(object), what)
    texts = _texts(distinct)
    mask = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else False
    return _sorted(np.where(mask, len(texts), codes), [*texts, None])


def _as_array(values, what):
    if not hasattr(values, "__array__") and not np.isscalar(values):
        # `np.asarray(["a", None, 1])` would make text of what is not text, NaN included.
        if not isinstance(values, Iterable):
            raise UserError(f"{what} must hold one group name for each sample; got {values!r}.")
        listed = list(values)
        values = np.empty(len(listed), object)
        values[:] = listed
    array = np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise UserError(
            f"{what} must hold one group name for each sample, shape (sample,); got shape "
            f"{array.shape}. Pass several attributes as a dict of columns."
        )
    return array


def _unique_text(array):
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


def _unique_objects(array, what):
    """Distinct values of Python objects, those of other types apart, in the order of appearance."""
    mixed = _is_mixed(array)
    try:
        keys = list(zip(array, map(type, array), strict=True)) if mixed else array
        index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        codes = np.fromiter(map(index.__getitem__, keys), np.int64, len(array))
    except TypeError:
        row = next(row for row, value in enumerate(array) if not isinstance(value, Hashable))
        raise UserError(
            f"{what} must hold one group name for each sample; row {row} (from 0) holds "
            f"{array[row]!r}."
        ) from None
    return [key[0] for key in index] if mixed else list(index), codes


def _is_mixed(array):
    # 1 == True == 1.0, but "1", "True" and "1.0" are different names.
    return len({*map(type, array)} & {bool, int, float, np.bool_}) > 1


def _texts(distinct):
    """The name of each distinct value, None where it is a missing one."""
    numbers = [value for value in distinct if isinstance(value, float) and np.isfinite(value)]
    whole = all(float(value).is_integer() for value in numbers)
    return [_text(value, whole) for value in distinct]


def _text(value, whole):
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and np.isfinite(value):
        return str(int(value)) if whole else str(float(value))
    if not isinstance(value, str) and value != value:
        return None
    text = str(value)
    return text if text.strip() else None


def _sorted(codes, texts):
    """The grouping with its names sorted, equal ones joined and "missing" last."""
    occurring = np.bincount(codes, minlength=len(texts)) > 0
    names = sorted({text for text, used in zip(texts, occurring, strict=True) if used and text})
    missing = f"{MISSING} (no value)" if MISSING in names else MISSING
    index = {name: i for i, name in enumerate(names)}
    ids = np.array([index.get(text, len(names)) for text in texts], np.int32)[codes]
    count = int((ids == len(names)).sum())
    return Grouping(ids[:, None], (*names, missing) if count else tuple(names)), count
