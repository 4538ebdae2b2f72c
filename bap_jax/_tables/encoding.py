"""From the names of a column to ids, with the samples that have none refused or in a group."""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bap_jax._tables.names import (
    MISSING,
    Names,
    distinct_values,
    name_for_missing,
    names_of,
    texts_of,
)
from bap_jax._tables.rows import first_rows, numbered_rows
from bap_jax.errors import UserError

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
OPTIONS = ("error", "group")
_SHOWN = 3  # names with and without blanks in one warning
ADVICE = (
    "Give every sample a name, leave these samples out, or write missing='group' "
    f"(config.data.missing=group) to make them a group called {MISSING!r}."
)
GIVE_LABELS = "Give every sample a label, or leave these samples out."


def encoded(
    values: Any,
    names: Sequence | None = None,
    *,
    missing: str = "error",
    what: str = "group names",
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`(sample, 1)` ids and names; see `groups.encode`.

    Args:
      values, names, missing: see `groups.encode`.
      what: name of the column in errors and warnings.
    """
    check_option(missing)
    known = None if names is None else _known_names(names)
    found = names_of(values, what, known or ())
    warn_if_mixed(found, what)
    warn_of_blanks(found, what)
    if "tuple" in found.kinds:
        raise UserError(f"{what} hold tuples; pass several attributes as a dict of columns.")
    if found.missing.any() and missing == "error":
        raise UserError(f"{without_name(found, what)}. {ADVICE}{_if_a_name(found)}")
    return with_missing(found, known)


def _if_a_name(found):
    if not found.nothings:
        return ""
    return f" If {found.nothings[0]!r} is a name, list it with the others in known_groups."


def check_option(missing: str) -> None:
    """Raises an error for anything but `error` and `group`."""
    if missing not in OPTIONS:
        raise UserError(f"missing must be 'error' or 'group'; got {missing!r}.")


def is_integer(text: str) -> bool:
    """Whether a text is a whole number as programs write it; 01 may be another name than 1."""
    return bool(_INTEGER.fullmatch(text))


def are_integers(found: Names) -> bool:
    """Whether a column holds whole numbers alone, apart from missing values."""
    return found.kinds == ("number",) and all(map(is_integer, found.names))


def warn_if_mixed(found: Names, what: str) -> None:
    """Warns of a column that mixes types, as some of its names may be the same by accident."""
    if len(found.kinds) > 1:
        warnings.warn(
            f"{what} mix values of different types ({', '.join(found.kinds)}); they are compared "
            "as text, so that 1 and '1' are one group.",
            stacklevel=4,
        )


def warn_of_blanks(found: Names, what: str) -> None:
    """Warns of names that differ only in the blanks around them, as they may be meant as one."""
    alike = _alike_but_for_blanks(found.names)
    if alike:
        shown = "; ".join(", ".join(map(repr, names)) for names in alike[:_SHOWN])
        more = f"; and {len(alike) - _SHOWN} more such names" if len(alike) > _SHOWN else ""
        warnings.warn(
            f"{what} hold names that differ only in the blanks around them, and are kept apart: "
            f"{shown}{more}. If they mean the same, remove the blanks, for instance by "
            "name.strip().",
            stacklevel=4,
        )


def _alike_but_for_blanks(names):
    """Lists of names that are the same without the blanks around them."""
    by_text = {}
    for name in names:
        by_text.setdefault(name.strip(), []).append(name)
    return [alike for alike in by_text.values() if len(alike) > 1]


def without_name(
    found: Names,
    what: str,
    place: Callable[[int], str] | None = None,
    lacking: str = "group name",
) -> str:
    """What is wrong with a column that misses values: how many, and the first rows.

    Args:
      found: the column.
      what: its name.
      place: what a row, counted from 0, is called.
      lacking: what the samples do not have.
    """
    where = first_rows(found.missing, place) if place else numbered_rows(found.missing)
    return (
        f"{what}: some samples have no {lacking} (None, NaN, NULL, NA or nothing): "
        f"{int(found.missing.sum())} of {len(found.missing)} ({where})"
    )


def _known_names(names):
    """Known names as texts, each once."""
    codes, distinct = distinct_values(list(names), "known names")
    texts = texts_of(distinct)
    if None in texts:
        raise UserError("known names must not hold None or NaN.")
    return tuple(dict.fromkeys(str(texts[code]) for code in codes))


def with_missing(
    found: Names, known: tuple[str, ...] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`(sample, 1)` ids and names, those without a value in a group of their own, the last one.

    Args:
      found: the column.
      known: the names in the order of the ids; by default those of the column.

    Raises:
      UserError: a name is not known.
    """
    names = found.names if known is None else known
    index = {name: i for i, name in enumerate(names)}
    if known is not None and found.kinds == ("number",):  # 0.0 is called 0
        for name, i in list(index.items()):
            index.setdefault(name.removesuffix(".0"), i)
    unknown = sorted(set(found.names) - set(index))
    if unknown:
        raise UserError(f"unknown group name {unknown[0]!r}; known names: {', '.join(names)}.")
    ids = [index[name] for name in found.names]
    if found.missing.any():
        extra = name_for_missing(names) if known is None else MISSING
        names = names if extra in index else (*names, extra)
        ids.append(index.get(extra, len(names) - 1))
    return np.array(ids, np.int32)[found.ids][:, None], tuple(names)
