"""Names ↔ ids of groups: one attribute, several, their intersections or their margins.

Every grouping is one array `(sample, attribute)` of ids into one list of names. A single attribute
and an intersection have one column. Margins have one column for each attribute, and the ids of an
attribute start where those of the attribute before it end.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bap_jax._tables.encoding import encoded
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
    "terms_of",
]


class Grouping(NamedTuple):
    """Which group each sample belongs to.

    Attributes:
      ids: `(sample, attribute)` int32 group ids.
      names: one name for each group; its length is the number of groups.
    """

    ids: np.ndarray
    names: tuple[str, ...]


def encode(
    values: "Sequence | Array", names: Sequence | None = None, *, missing: str = "error"
) -> Grouping:
    """Turns the group name of each sample into an id.

    Values may be texts, bytes, numbers, booleans, dates or any other object with a text, in a list
    or an array, a masked one, or a column of pandas, pyarrow or another library. They are compared
    as text: 1 and "1" are one group, with a warning where types are mixed. Whole numbers that are
    stored as floats are called `1`, not `1.0`. A value is missing where it is None, NaN, NaT or NA,
    masked, an empty text, or a text that says so: `nan`, `NULL`, `NA`, `N/A`, `None`.

    Args:
      values: `(sample,)` names.
      names: the known names, in the order of the ids; by default the sorted distinct values. A text
        such as `None` is a name if it is one of them.
      missing: `error`, or `group` to put samples without a name into a group of their own, called
        `missing`, which comes last.

    Returns:
      A grouping with one column.

    Raises:
      UserError: `values` is not one-dimensional, misses a name or holds one that is not among
        `names`; the message names the first rows.

    Example:
      >>> encode(["b", "a", "b"])
      Grouping(ids=array([[1],
             [0],
             [1]], dtype=int32), names=('a', 'b'))
      >>> encode(["b", None, float("nan")], missing="group").names
      ('b', 'missing')
    """
    return Grouping(*encoded(values, names, missing=missing))


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
    return Grouping(ids[:, None], _joined(list(combinations)))


def _joined(combinations):
    """`a*x` of each combination; in quotes where names with stars make two of them the same."""
    names = tuple("*".join(names) for names in combinations)
    if len(set(names)) < len(names):
        names = tuple("*".join(map(repr, names)) for names in combinations)
    return names


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
    combinations = [()]
    for grouping in groupings:
        size = len(grouping.names)
        present, ids = np.unique(ids * size + grouping.ids[:, 0], return_inverse=True)
        combinations = [(*combinations[j // size], grouping.names[j % size]) for j in present]
    return Grouping(ids.astype(np.int32)[:, None], _joined(combinations))


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
    _check_expression(attributes, expression)
    terms = []
    for term in terms_of(expression, attributes):
        factors = [select(attributes, name) for name in term]
        terms.append(
            occurring(factors[0]) if len(factors) == 1 else _occurring_combinations(factors)
        )
    if len(terms) == 1:
        return terms[0]
    if len({name for term in terms for name in term.names}) < sum(len(t.names) for t in terms):
        texts = attribute_names(expression, attributes)
        terms = [
            Grouping(term.ids, tuple(f"{text}={name}" for name in term.names))
            for term, text in zip(terms, texts, strict=True)
        ]
    return margins(terms)


def _check_expression(attributes, expression):
    if "," in expression and expression not in attributes:
        names = [name.strip() for name in expression.split(",")]
        raise UserError(
            f"group_by={expression!r}: join attributes by * (every combination) or + (each on its "
            f"own); write {'*'.join(names)} or {'+'.join(names)}."
        )
    terms = attribute_names(expression, attributes)
    if any(not name for term in terms_of(expression, attributes) for name in term):
        raise UserError(
            f"group_by={expression!r}: the name of an attribute is missing; known attributes: "
            f"{', '.join(sorted(attributes))}."
        )
    if len(set(terms)) < len(terms):
        twice = next(term for term in terms if terms.count(term) > 1)
        raise UserError(f"group_by={expression!r} names {twice} twice; write it once.")
    for term in terms_of(expression, attributes):
        twice = next((name for name in term if term.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"group_by={expression!r} combines {twice} with itself; write it once.")


def terms_of(expression: str, attributes: Collection[str] = ()) -> list[list[str]]:
    """The attributes of an expression: a list for each term of the sum.

    Args:
      expression: see `grouping`.
      attributes: the known ones; an expression that is the name of one means that attribute, so
        that a name may hold a sign.

    Example:
      >>> terms_of("race * gender + age"), terms_of("age+sex", ["age+sex"])
      ([['race', 'gender'], ['age']], [['age+sex']])
    """
    if expression in attributes:
        return [[expression]]
    return [[name.strip() for name in term.split("*")] for term in expression.split("+")]


def attribute_names(expression: str, attributes: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the columns of a grouping: the terms of the expression that describes it.

    Args:
      expression: see `grouping`.
      attributes: see `terms_of`.

    Example:
      >>> attribute_names("race * gender + age")
      ('race*gender', 'age')
    """
    return tuple("*".join(names) for names in terms_of(expression, attributes))


def group_counts(ids: "Array", num_groups: int) -> np.ndarray:
    """How many samples each group has.

    Args:
      ids: `(sample, attribute)` group ids in `[0, num_groups)`.
      num_groups: number of groups of all attributes.

    Returns:
      `(group,)` int64. A sample counts once for each attribute.
    """
    return np.bincount(np.asarray(ids).ravel(), minlength=num_groups)
