"""How errors name the rows of a table or of arrays that are wrong."""

from collections.abc import Callable

import numpy as np

_SHOWN = 5  # rows in one error


def numbered_rows(wrong: np.ndarray) -> str:
    """The first wrong rows by number, and how many more there are.

    Args:
      wrong: `(sample,)` bool.

    Example:
      >>> numbered_rows(np.array([False, True])), numbered_rows(np.array([True, True]))
      ('row 1, counted from 0', 'rows 0, 1, counted from 0')
    """
    noun = "row" if np.count_nonzero(wrong) == 1 else "rows"
    return f"{noun} {first_rows(wrong)}, counted from 0"


def first_rows(wrong: np.ndarray, place: Callable[[int], str] = str) -> str:
    """The first rows that are wrong, and how many more there are.

    Args:
      wrong: `(sample,)` bool.
      place: what a row, counted from 0, is called.

    Example:
      >>> first_rows(np.array([False, True, True]), lambda row: f"line {row + 2}")
      'line 3, line 4'
    """
    rows = np.flatnonzero(wrong)
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(place(int(row)) for row in rows[:_SHOWN]) + more
