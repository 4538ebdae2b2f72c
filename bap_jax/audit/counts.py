"""From two columns of right and wrong, and groups, to tables of counts: all that the audit needs.

Samples are counted in *cells*, the distinct combinations of the groups of all partitions; with one
partition the cells are its groups. A partition is a way to divide all samples into groups: one
attribute, or the intersections of several. Tables of cells of two parts of the data can be merged.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bap_jax.audit.group_names import encode_names
from bap_jax.errors import UserError, first_of
from bap_jax.groups import Grouping, grouping


class Table(NamedTuple):
    """Counts of samples, one entry for each group or cell.

    Attributes:
      n: `(group,)` samples.
      harmed: `(group,)` dense model right, sparse model wrong (b).
      helped: `(group,)` dense model wrong, sparse model right (c).
      both_right: `(group,)` both right.
    """

    n: np.ndarray
    harmed: np.ndarray
    helped: np.ndarray
    both_right: np.ndarray


class Partition(NamedTuple):
    """One way to divide the samples into groups.

    Attributes:
      attribute: its name, such as "race*gender"; "" for the single attribute of an array.
      names: of its groups.
      group_of_cell: `(cell,)` ids into `names`.
    """

    attribute: str
    names: tuple[str, ...]
    group_of_cell: np.ndarray


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of samples by the groups of all partitions.

    Attributes:
      cells: one entry for each combination of groups that occurs.
      partitions: which group of each partition a cell belongs to.
      missing: for each attribute the samples without a value.
    """

    cells: Table
    partitions: tuple[Partition, ...]
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)


def of_groups(
    n: Sequence[int] | np.ndarray,
    harmed: Sequence[int] | np.ndarray,
    helped: Sequence[int] | np.ndarray,
    both_right: Sequence[int] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    attribute: str = "",
) -> Counts:
    """Counts that are known already, of the groups of one partition.

    Args:
      n: `(group,)` samples.
      harmed: `(group,)` samples that only the dense model has right.
      helped: `(group,)` samples that only the sparse model has right.
      both_right: `(group,)` samples that both have right; without it accuracies are NaN.
      names: of the groups; by default "0", "1", ...
      attribute: name of the partition.

    Raises:
      UserError: lengths differ, names repeat, or counts are negative or exceed n.
    """
    unknown = np.full(len(n), np.nan)
    columns = (n, harmed, helped, unknown if both_right is None else both_right)
    table = Table(*(np.asarray(column) for column in columns))
    names = tuple(map(str, range(len(n)) if names is None else names))
    if len(set(names)) < len(names) or {len(names)} != {len(column) for column in table}:
        raise UserError("every group needs its own name and one entry in every column of counts.")
    for name, size, *parts in zip(names, *table, strict=True):
        if min(parts) < 0 or size < np.nansum(parts):
            raise UserError(
                f"group {name!r} has n={size}, harmed={parts[0]}, helped={parts[1]}, "
                f"both_right={parts[2]}; counts are at least 0 and together at most n."
            )
    return Counts(table, (Partition(attribute, names, np.arange(len(names))),))


def of_samples(dense_correct, sparse_correct, groups, group_by: str = "") -> Counts:
    """Counts samples by whether each model has them right and by their groups.

    Args:
      dense_correct: `(sample,)` bool or 0/1.
      sparse_correct: `(sample,)` bool or 0/1, in the same order.
      groups: `(sample,)` names (text, numbers, bools), or a dict of such columns by attribute.
        Samples without a value (None, NaN, "") form the group "missing".
      group_by: for a dict: `"race*gender"` (every combination), `"race+gender"` (each on its own);
        by default every attribute on its own.

    Raises:
      UserError: a column has another length or a value that is not allowed, or an attribute is
        unknown.
    """
    dense = right_or_wrong(dense_correct, "dense_correct")
    sparse = right_or_wrong(sparse_correct, "sparse_correct")
    named = isinstance(groups, Mapping)
    if not named and group_by:
        raise UserError(
            f"group_by={group_by!r} needs groups by name; pass groups as a dict of columns, such "
            'as {"race": [...], "gender": [...]}.'
        )
    columns = groups if named else {"": groups}
    if not columns:
        raise UserError("groups is an empty dict; give at least one column of group names.")
    attributes, missing = {}, {}
    for attribute, values in columns.items():
        what = f"groups[{attribute!r}]" if named else "groups"
        attributes[attribute], missing[attribute] = encode_names(values, what)
    _check_lengths(dense, sparse, attributes)
    terms = [*dict.fromkeys(map(str.strip, group_by.split("+")))] if group_by else list(columns)
    chosen = [grouping(attributes, term) if group_by else attributes[term] for term in terms]
    used = [name for name in columns if not group_by or name in _names_in(group_by)]
    cells, group_of_cell = _cells([part.ids[:, 0] for part in chosen])
    return Counts(
        _table(cells, len(group_of_cell[0]), dense, sparse),
        tuple(map(Partition, terms, (part.names for part in chosen), group_of_cell)),
        {name: missing[name] for name in used},
    )


def merge(first: Counts, second: Counts) -> Counts:
    """The counts of two parts of the data together.

    Raises:
      UserError: the two are grouped by different attributes.
    """
    kinds = [[part.attribute for part in counts.partitions] for counts in (first, second)]
    if kinds[0] != kinds[1]:
        raise UserError(f"counts by {kinds[0]} and by {kinds[1]} cannot be merged.")
    _check_missing(first, second)
    columns, names = [], []
    for one, two in zip(first.partitions, second.partitions, strict=True):
        index = {name: i for i, name in enumerate(dict.fromkeys(one.names + two.names))}
        ids = [np.array([index[name] for name in part.names], int) for part in (one, two)]
        columns.append(np.r_[ids[0][one.group_of_cell], ids[1][two.group_of_cell]])
        names.append(tuple(index))
    cells, group_of_cell = _cells(columns)
    size = len(group_of_cell[0])
    stacked = (np.r_[one, two] for one, two in zip(first.cells, second.cells, strict=True))
    table = Table(*(_sums(cells, column, size) for column in stacked))
    both = dict.fromkeys((*first.missing, *second.missing))
    missing = {key: first.missing.get(key, 0) + second.missing.get(key, 0) for key in both}
    return Counts(table, tuple(map(Partition, kinds[0], names, group_of_cell)), missing)


def by_group(counts: Counts, partition: Partition) -> Table:
    """The counts of each group of a partition."""
    size = len(partition.names)
    return Table(*(_sums(partition.group_of_cell, column, size) for column in counts.cells))


def right_or_wrong(values, name: str) -> np.ndarray:
    """`(sample,)` bool from bools or 0/1.

    Raises:
      UserError: not one-dimensional, empty, or other values; the message names the first rows.
    """
    array = np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise UserError(
            f"{name} must hold True or False (1 or 0) for each sample, shape (sample,); got shape "
            f"{array.shape}."
        )
    wrong = np.zeros(len(array), bool)
    if np.ma.isMaskedArray(values):
        wrong |= np.ma.getmaskarray(values)
    if array.dtype == object:
        wrong |= [not _is_zero_or_one(value) for value in array]
    elif array.dtype.kind in "biuf":
        wrong |= (array != 0) & (array != 1)
    else:
        wrong[:] = True
    if wrong.any():
        rows = np.flatnonzero(wrong)
        shown = first_of([f"{array[row]!s} in row {row}" for row in rows[:3]], 3)
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        raise UserError(
            f"{name} must hold True or False (1 or 0) for each sample; got {shown}{more} (rows are "
            "numbered from 0)."
        )
    return array.astype(bool)


def _is_zero_or_one(value):
    return isinstance(value, int | float | np.number | np.bool_) and value in (0, 1)


def _check_lengths(dense, sparse, attributes: Mapping[str, Grouping]):
    lengths = {"dense_correct": len(dense), "sparse_correct": len(sparse)}
    for name, part in attributes.items():
        lengths[f"groups[{name!r}]" if name else "groups"] = len(part.ids)
    if len(set(lengths.values())) > 1:
        raise UserError(
            "every column needs one entry for each sample; got lengths "
            + ", ".join(f"{name}: {length}" for name, length in lengths.items())
            + "."
        )


def _names_in(group_by):
    return {name.strip() for name in group_by.replace("*", "+").split("+")}


def _check_missing(first, second):
    for one, two in zip(first.partitions, second.partitions, strict=True):
        names = {*one.names, *two.names}
        if "missing" in names and "missing (no value)" in names:
            raise UserError(
                f"attribute {one.attribute!r} has a group that is called 'missing'; give it "
                "another name before merging, as samples without a value are called so."
            )


def _cells(columns):
    """Ids `(sample,)` of the distinct combinations, and `(cell,)` ids of each column."""
    cells, group_of_cell = columns[0], [np.arange(columns[0].max() + 1)]
    for column in columns[1:]:
        size = int(column.max()) + 1
        present, cells = np.unique(cells.astype(np.int64) * size + column, return_inverse=True)
        group_of_cell = [ids[present // size] for ids in group_of_cell] + [present % size]
    return cells, group_of_cell


def _table(ids, size, dense, sparse):
    # One pass over the samples: 2 bits say which models are right.
    outcome = 2 * dense.astype(np.int8) + sparse
    counts = np.bincount(ids * np.int64(4) + outcome, minlength=4 * size).reshape(size, 4)
    return Table(counts.sum(axis=1), counts[:, 2], counts[:, 1], counts[:, 3])


def _sums(ids, values, size):
    sums = np.bincount(ids, weights=values, minlength=size)
    return sums if values.dtype.kind == "f" else np.rint(sums).astype(np.int64)


class Assessed(NamedTuple):
    """The groups of a partition that have enough samples.

    Attributes:
      attribute: name of the partition.
      names: of the assessed groups.
      table: their counts, `(group,)`.
      group_of_cell: `(cell,)` ids into `names`, −1 for cells of other groups.
    """

    attribute: str
    names: tuple[str, ...]
    table: Table
    group_of_cell: np.ndarray


def assessed_groups(counts: Counts, partition: Partition, min_group_size: int) -> Assessed:
    """Leaves out the groups of fewer than `min_group_size` samples; the rest may be empty."""
    table = by_group(counts, partition)
    kept = table.n >= min_group_size
    ids = np.where(kept, np.cumsum(kept) - 1, -1)
    names = tuple(name for name, keep in zip(partition.names, kept, strict=True) if keep)
    table = Table(*(column[kept] for column in table))
    return Assessed(partition.attribute, names, table, ids[partition.group_of_cell])
