"""The error for a user's mistake, and how lists of names are shown in it; needs no JAX."""

from collections.abc import Sequence


class UserError(ValueError):
    """A mistake in what the user supplied; the text says what was expected and what to write."""


def first_of(names: Sequence[str], at_most: int) -> str:
    """The first names and how many more there are, for errors and tables.

    Example:
      >>> first_of(["a", "b", "c"], 2)
      'a, b and 1 more'
    """
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) or "nothing") + more
