"""Names ↔ ids of groups: one attribute, several, their intersections or their margins.

Every grouping is one array `(sample, attribute)` of ids into one list of names. A single attribute
and an intersection have one column. Margins have one column for each attribute, and the ids of an
attribute start where those of the attribute before it end.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bap_jax.errors import UserError

if TYPE_CHECKING:
    from bap_jax.types import Array

__all__ = [
    "Grouping",
    "attribute_names",
    "encode",
    "group_counts",
    "grouping",
    "intersections",
    "margins",
    "occurring",
    "select",
]


class Grouping(NamedTuple):
    """Which group each sample belongs to.

    Attributes:
      ids: `(sample, attribute)` int32 group ids.
      names: one name for each group; its length is the number of groups.
    """

    ids: np.ndarray
    names: tuple[str, ...]


def encode(values: "Sequence | Array", names: Sequence[str] | None = None) -> Grouping:
    """Turns the group name of each sample into an id.

    Args:
      values: `(sample,)` names (strings, numbers or booleans).
      names: the known names, in the order of the ids; by default the sorted distinct values.

    Returns:
      A grouping with one column.

    Raises:
      UserError: `values` is not one-dimensional, holds None or NaN, or has a value that is not
        among `names`.

    Example:
      >>> encode(["b", "a", "b"])
      Grouping(ids=array([[1],
             [0],
             [1]], dtype=int32), names=('a', 'b'))
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise UserError(
            f"there must be one group name for each sample, shape (sample,); got {array.shape}."
        )
    if array.dtype == object and any(value is None or value != value for value in array):
        raise UserError("some samples have no group name (None or NaN); give every sample a name.")
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
      UserError: there is no such attribute; the message lists the known ones.
    """
    if name not in attributes:
        raise UserError(
            f"unknown group attribute {name!r}; known attributes: {', '.join(sorted(attributes))}. "
            "Choose some of them with group_by."
        )
    return attributes[name]


def intersections(groupings: Sequence[Grouping]) -> Grouping:
    """Every combination of one group of each attribute, numbered in C order.

    A combination that no sample has is a group of zero samples; `data.make_splits` raises an error
    that names it, `occurring` leaves it out.

    Raises:
      UserError: one of the groupings has several columns, as the margins of several attributes do.

    Example:
      >>> both = intersections([encode(["b", "a", "b"]), encode(["y", "x", "x"])])
      >>> both.names
      ('a*x', 'a*y', 'b*x', 'b*y')
      >>> both.ids[:, 0].tolist()
      [3, 0, 2]
    """
    _check_single(groupings)
    sizes = tuple(len(grouping.names) for grouping in groupings)
    columns = tuple(grouping.ids[:, 0] for grouping in groupings)
    ids = np.ravel_multi_index(columns, sizes).astype(np.int32)
    combinations = itertools.product(*(grouping.names for grouping in groupings))
    return Grouping(ids[:, None], tuple("*".join(names) for names in combinations))


def _check_single(groupings):
    for grouping in groupings:
        if grouping.ids.shape[1] != 1:
            raise UserError(
                f"intersections need groupings of one attribute each; got one of "
                f"{grouping.ids.shape[1]} ({', '.join(grouping.names)}). Intersect before you take "
                "margins."
            )


def margins(groupings: Sequence[Grouping]) -> Grouping:
    """The groups of every attribute on its own: one column for each attribute.

    Example:
      >>> both = margins([encode(["b", "a", "b"]), encode(["y", "x", "x"])])
      >>> both.names
      ('a', 'b', 'x', 'y')
      >>> both.ids.tolist()
      [[1, 3], [0, 2], [1, 2]]
    """
    offsets = np.cumsum([0] + [len(grouping.names) for grouping in groupings[:-1]])
    columns = [grouping.ids + offset for grouping, offset in zip(groupings, offsets, strict=True)]
    names = tuple(name for grouping in groupings for name in grouping.names)
    return Grouping(np.concatenate(columns, axis=1).astype(np.int32), names)


def occurring(grouping: Grouping) -> Grouping:
    """The same grouping without the groups that no sample has; ids are renumbered."""
    present, ids = np.unique(grouping.ids, return_inverse=True)
    names = tuple(grouping.names[i] for i in present)
    return Grouping(ids.reshape(grouping.ids.shape).astype(np.int32), names)


def _occurring_combinations(groupings: Sequence[Grouping]) -> Grouping:
    """`occurring(intersections(groupings))` without a name for each combination that nobody has."""
    _check_single(groupings)
    ids = np.zeros(len(groupings[0].ids), np.int64)
    names = ("",)
    for i, grouping in enumerate(groupings):
        size = len(grouping.names)
        present, ids = np.unique(ids * size + grouping.ids[:, 0], return_inverse=True)
        joint = "*" if i else ""
        names = [f"{names[j // size]}{joint}{grouping.names[j % size]}" for j in present]
    return Grouping(ids.astype(np.int32)[:, None], tuple(names))


def grouping(attributes: Mapping[str, Grouping], expression: str) -> Grouping:
    """The grouping that an expression over attributes describes.

    `race*gender` makes every combination that some sample has a group, `race+gender` makes the
    groups of each attribute groups on their own. `*` binds closer than `+`, so `race*gender+age`
    has both. Groups that no sample has are left out. If two attributes of a sum have a group of the
    same name, their groups are called `race=other` and `age=other`.

    Args:
      attributes: groupings by name.
      expression: names of attributes, joined by `*` and `+`.

    Raises:
      UserError: there is no such attribute, a name is missing, or names are joined by commas.

    Example:
      >>> attributes = {"race": encode(["b", "a", "b"]), "age": encode(["y", "x", "x"])}
      >>> grouping(attributes, "race*age").names
      ('a*x', 'b*x', 'b*y')
      >>> grouping(attributes, "race+age").names
      ('a', 'b', 'x', 'y')
    """
    if "," in expression:
        names = expression.replace(" ", "").split(",")
        raise UserError(
            f"group_by={expression!r}: join attributes by * (every combination) or + (each on its "
            f"own); write {'*'.join(names)} or {'+'.join(names)}."
        )
    terms = []
    for term in expression.split("+"):
        names = [name.strip() for name in term.split("*")]
        if "" in names:
            raise UserError(
                f"group_by={expression!r}: the name of an attribute is missing; known attributes: "
                f"{', '.join(sorted(attributes))}."
            )
        factors = [select(attributes, name) for name in names]
        terms.append(
            occurring(factors[0]) if len(factors) == 1 else _occurring_combinations(factors)
        )
    if len(terms) == 1:
        return terms[0]
    if len({name for term in terms for name in term.names}) < sum(len(t.names) for t in terms):
        terms = [
            Grouping(term.ids, tuple(f"{text.strip()}={name}" for name in term.names))
            for term, text in zip(terms, expression.split("+"), strict=True)
        ]
    return margins(terms)


def attribute_names(expression: str) -> tuple[str, ...]:
    """The names of the columns of a grouping: the terms of the expression that describes it.

    Example:
      >>> attribute_names("race * gender + age")
      ('race*gender', 'age')
    """
    return tuple(term.replace(" ", "") for term in expression.split("+"))


def group_counts(ids: "Array", num_groups: int) -> np.ndarray:
    """How many samples each group has.

    Args:
      ids: `(sample, attribute)` group ids in `[0, num_groups)`.
      num_groups: number of groups of all attributes.

    Returns:
      `(group,)` int64. A sample counts once for each attribute.
    """
    return np.bincount(np.asarray(ids).ravel(), minlength=num_groups)
