"""Names ↔ ids of groups: one attribute, several, their intersections or their margins.

Every grouping ends as one array `(sample, attribute)` of ids into one list of names. With one
attribute, or with intersections, there is one column; with margins, one column an attribute, and
the ids of each attribute follow on from those of the attribute before it.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bap_jax.types import Array, UserError


class Grouping(NamedTuple):
    """Which group each sample belongs to.

    Attributes:
      ids: `(sample, attribute)` int32 group ids.
      names: one name a group; its length is the number of groups.
    """

    ids: np.ndarray
    names: tuple[str, ...]


def encode(values: Sequence | Array, names: Sequence[str] | None = None) -> Grouping:
    """Turns one group name a sample into ids.

    Args:
      values: `(sample,)` names (strings, numbers or booleans).
      names: the known names, in the order of the ids; by default the sorted distinct values.

    Raises:
      UserError: `values` is not one-dimensional, or a value is not among `names`.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise UserError(f"group names must be one a sample, shape (sample,); got {array.shape}.")
    if array.dtype == object and any(value is None or value != value for value in array):
        raise UserError("some samples have no group name (None or NaN); name their group, too.")
    if names is None:
        distinct, ids = np.unique(array, return_inverse=True)
        return Grouping(ids.astype(np.int32)[:, None], tuple(str(name) for name in distinct))
    index = {name: i for i, name in enumerate(dict.fromkeys(map(str, names)))}
    unknown = sorted({str(value) for value in array} - set(index))
    if unknown:
        raise UserError(f"unknown group name {unknown[0]!r}; known names: {', '.join(index)}.")
    ids = np.array([index[str(value)] for value in array], np.int32)
    return Grouping(ids[:, None], tuple(index))


def select(attributes: Mapping[str, Grouping], name: str) -> Grouping:
    """The grouping called `name`.

    Raises:
      UserError: there is no such attribute; the message lists those there are.
    """
    if name not in attributes:
        raise UserError(
            f"unknown group attribute {name!r}; known attributes: {', '.join(sorted(attributes))}. "
            "Choose by group_by."
        )
    return attributes[name]


def intersections(groupings: Sequence[Grouping]) -> Grouping:
    """Every combination of one group of each attribute, numbered in C order.

    Combinations that no sample has are groups too (of zero samples); `data.make_splits` names them.

    Raises:
      UserError: one of the groupings has several columns (it is itself made of margins).
    """
    for grouping in groupings:
        if grouping.ids.shape[1] != 1:
            raise UserError(
                f"intersections need groupings of one attribute each; got one of "
                f"{grouping.ids.shape[1]} ({', '.join(grouping.names)}). Intersect first."
            )
    sizes = tuple(len(grouping.names) for grouping in groupings)
    columns = tuple(grouping.ids[:, 0] for grouping in groupings)
    ids = np.ravel_multi_index(columns, sizes).astype(np.int32)
    combinations = itertools.product(*(grouping.names for grouping in groupings))
    return Grouping(ids[:, None], tuple("*".join(names) for names in combinations))


def margins(groupings: Sequence[Grouping]) -> Grouping:
    """Each attribute's groups after those of the attribute before it; one column an attribute."""
    offsets = np.cumsum([0] + [len(grouping.names) for grouping in groupings[:-1]])
    columns = [grouping.ids + offset for grouping, offset in zip(groupings, offsets, strict=True)]
    names = tuple(name for grouping in groupings for name in grouping.names)
    return Grouping(np.concatenate(columns, axis=1).astype(np.int32), names)


def occurring(grouping: Grouping) -> Grouping:
    """The same grouping without the groups that no sample has; ids close up."""
    present, ids = np.unique(grouping.ids, return_inverse=True)
    names = tuple(grouping.names[i] for i in present)
    return Grouping(ids.reshape(grouping.ids.shape).astype(np.int32), names)


def grouping(attributes: Mapping[str, Grouping], expression: str) -> Grouping:
    """The grouping that an expression over attributes means.

    `race*gender` stands for every combination that some sample has, `race+gender` for each
    attribute's groups on their own; `*` binds closer, so that `race*gender+age` has both. Groups
    that no sample has are left out. Where two attributes of a sum share a name, groups are called
    `race=other` and `age=other`.

    Args:
      attributes: groupings by name.
      expression: names of attributes, joined by `*` and `+`.

    Raises:
      UserError: there is no such attribute, a name is missing, or they are joined by commas.
    """
    if "," in expression:
        both = ["*", "+"]
        written = " or ".join(sign.join(expression.replace(" ", "").split(",")) for sign in both)
        raise UserError(
            f"groups {expression!r}: join attributes by * (every combination) or + (each on its "
            f"own); write {written}."
        )
    terms = []
    for term in expression.split("+"):
        names = [name.strip() for name in term.split("*")]
        if "" in names:
            raise UserError(
                f"groups {expression!r}: an attribute is missing beside * or +; known attributes: "
                f"{', '.join(sorted(attributes))}."
            )
        chosen = [select(attributes, name) for name in names]
        terms.append(occurring(chosen[0] if len(chosen) == 1 else intersections(chosen)))
    if len(terms) == 1:
        return terms[0]
    if len({name for term in terms for name in term.names}) < sum(len(t.names) for t in terms):
        terms = [
            Grouping(term.ids, tuple(f"{text.strip()}={name}" for name in term.names))
            for term, text in zip(terms, expression.split("+"), strict=True)
        ]
    return margins(terms)


def group_counts(ids: np.ndarray, num_groups: int) -> np.ndarray:
    """`(group,)` int64 samples of each group; every attribute of a sample counts."""
    return np.bincount(np.asarray(ids).ravel(), minlength=num_groups)
