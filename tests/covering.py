"""Few of all combinations, in which every two values meet; the rest is for `make test-slow`."""

import itertools
from collections.abc import Hashable, Iterable, Sequence

import pytest

Combination = tuple[Hashable, ...]


def pairs(combination: Combination) -> set:
    """Every two of its values, each with its place; of a single one that value."""
    places = list(enumerate(combination))
    return set(itertools.combinations(places, min(2, len(places))))


def chosen(combinations: Iterable[Combination]) -> list[Combination]:
    """Some of these, in which every pair of values occurs that occurs in all of them.

    Each is the first of those with the most pairs that are still missing.
    """
    rest = list(combinations)
    missing, found = set().union(*map(pairs, rest)), []
    while missing:
        best = max(rest, key=lambda one: len(pairs(one) & missing))
        found.append(best)
        missing -= pairs(best)
    return found


def every_pair(combinations: Iterable[Combination], ids: Sequence[str] | None = None) -> list:
    """Parameters of a test: all combinations, those marked slow that `chosen` leaves out."""
    combinations = list(combinations)
    quick = set(chosen(combinations))
    names = ids or ["-".join(map(str, one)) for one in combinations]
    return [
        pytest.param(*one, id=name, marks=() if one in quick else pytest.mark.slow)
        for one, name in zip(combinations, names, strict=True)
    ]
