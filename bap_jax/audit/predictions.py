"""One table with both models' predictions, or one a model, as right or wrong for each sample."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bap_jax._tables import arrow
from bap_jax._tables.arrow import compute, to_numpy
from bap_jax.audit import columns, judging, values
from bap_jax.audit.columns import DENSE, SPARSE, Wanted
from bap_jax.audit.samples import Samples, sha256_of
from bap_jax.audit.tables import Table, open_table
from bap_jax.audit.values import Column, Names
from bap_jax.errors import UserError

_CLASSES = "classes"
_SHOWN = 5
_INTEGER = r"-?[0-9]+"


class Part(NamedTuple):
    """What was read of a table.

    Attributes:
      path: of the table.
      place: what errors call a row.
      label: `(sample,)` or None.
      predictions: by model, `(sample,)`, of models that are not in `correct`.
      scored: the models whose predictions are the classes with the highest score.
      correct: by model, `(sample,)` bool.
      groups: by attribute, `(sample,)`.
      ids: `(sample,)` texts, or None.
      columns: the columns that were used, for people.
    """

    path: str
    place: Callable[[int], str]
    label: Names | None
    predictions: Mapping[str, Names]
    scored: frozenset[str]
    correct: Mapping[str, np.ndarray]
    groups: Mapping[str, Names]
    ids: pa.Array | None
    columns: str


def read_predictions(path: Path, wanted: Wanted) -> Samples:
    """Reads a table that holds the predictions of both models.

    Args:
      path: of the table, see `tables.open_table`.
      wanted: the columns that the user named.

    Raises:
      UserError: a column or a cell is missing, or cannot be understood.
    """
    table = open_table(path)
    attributes = columns.attributes(table.names, wanted)
    part = read_part(table, wanted, (DENSE, SPARSE), attributes)
    if part.ids is not None:
        check_distinct(part.ids, str(path), wanted.id)
    dense, of_dense = correct_of(part, part.label, DENSE)
    sparse, of_sparse = correct_of(part, part.label, SPARSE)
    return Samples(
        dense,
        sparse,
        {name: values.objects(group) for name, group in part.groups.items()},
        f"{path}: {part.columns}",
        {str(path): sha256_of(path)},
        (*of_dense, *of_sparse),
    )


def read_part(
    table: Table,
    wanted: Wanted,
    models: tuple[str, ...],
    attributes: tuple[str, ...],
    id_name: str | None = None,
) -> Part:
    """Reads what a table holds of one model or both.

    Args:
      table: where to read.
      wanted: the columns that the user named.
      models: `DENSE`, `SPARSE` or both.
      attributes: the columns that group samples, as far as this table has them.
      id_name: the column of ids; by default it is looked for.
    """
    names, alone = table.names, len(models) == 1
    right = {m: columns.correct_column(names, wanted, m, alone) for m in models}
    right = {model: name for model, name in right.items() if name is not None}
    predicted = {
        model: columns.prediction_columns(names, wanted, model, alone)
        for model in models
        if model not in right
    }
    _check_different(table, right, predicted)
    label = columns.label_column(names, wanted) if predicted or wanted.label else None
    if predicted and label is None and not alone:
        raise UserError(
            f"{table.path} has no column of labels; name it by --label=COLUMN; "
            f"{columns.listed(names)}."
        )
    id_name = id_name or columns.id_column(names, wanted, needed=False)
    single = [
        *right.values(),
        *([label] if label else []),
        *attributes,
        *([id_name] if id_name else []),
    ]
    used = dict.fromkeys([*single, *(name for group in predicted.values() for name in group)])
    read = table.read(list(used))
    for name in single:
        _check_single(read[name], f"{table.path}: the column {name!r}")
    return _part(table, read, label, predicted, right, attributes, id_name)


def _check_different(table, right, predicted):
    """One column for both models is a slip, and would make the models look alike."""
    chosen = [*((name,) for name in right.values()), *predicted.values()]
    if len(set(chosen)) < len(chosen):
        raise UserError(
            f"{table.path}: the dense and the sparse model have the same column, "
            f"{', '.join(chosen[0])}; name the column of each."
        )


def _part(table, read, label, predicted, right, attributes, id_name):
    classes = _classes(table)
    labels = None
    if label:
        what = f"{table.path}: the label"
        labels = _named(values.names_of(read[label]), classes, f"{table.path}: {label!r}")
        values.check_complete(labels, what, table.place)
    predictions = {m: _predicted(read, names, classes, table) for m, names in predicted.items()}
    used = [label, *(" … ".join(dict.fromkeys((n[0], n[-1]))) for n in predicted.values())]
    return Part(
        table.path,
        table.place,
        labels,
        predictions,
        frozenset(m for m, n in predicted.items() if len(n) > 1 or _is_scores(read[n[0]])),
        {
            model: values.right_or_wrong(
                read[name], f"{table.path}: the column {name!r}", table.place
            )
            for model, name in right.items()
        },
        {name: values.names_of(read[name]) for name in attributes},
        id_name and _ids(read[id_name], f"{table.path}: the column {id_name!r}", table.place),
        ", ".join(filter(None, [*used, *right.values()])),
    )


def correct_of(part: Part, label: Names | None, model: str) -> tuple[np.ndarray, list[str]]:
    """Whether a model is right, `(sample,)` bool, and warnings.

    Args:
      part: what was read.
      label: `(sample,)`, from this table or the other.
      model: `DENSE` or `SPARSE`.

    Raises:
      UserError: there are no labels, or predictions are missing or of another kind than labels.
    """
    if model in part.correct:
        return part.correct[model], []
    if label is None:
        raise UserError(f"{part.path} has no labels; name their column by --label=COLUMN.")
    predicted, what = part.predictions[model], f"{part.path}: the prediction of the {model} model"
    values.check_complete(predicted, what, part.place)
    right = judging.judge(label, predicted, model in part.scored, what)
    return right, judging.warnings(label, predicted, what)


def check_distinct(ids: pa.Array, path: str, given: str | None) -> None:
    """Raises an error that shows the ids which occur twice."""
    counts = compute.value_counts(ids)
    twice = np.flatnonzero(to_numpy(counts.field("counts")) > 1)
    if len(twice):
        shown = [counts.field("values")[int(i)].as_py() for i in twice[: _SHOWN + 1]]
        more = f" and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
        advice = "" if given else " If these are no ids of samples, write --id=COLUMN or --id=''."
        raise UserError(
            f"{path}: {len(twice)} {'id occurs' if len(twice) == 1 else 'ids occur'} more than "
            f"once: {', '.join(shown[:_SHOWN])}{more}; each sample must be there once.{advice}"
        )


def _check_single(column, what):
    if isinstance(column, np.ndarray) and column.ndim != 1:
        raise UserError(f"{what} has shape {column.shape}; expected one value a sample.")


def _classes(table):
    if _CLASSES not in table.names or not table.path.endswith(".npz"):
        return None
    column = table.read([_CLASSES])[_CLASSES]
    _check_single(column, f"{table.path}: {_CLASSES!r}")
    return tuple(map(str, column.tolist()))


def _predicted(read: Mapping[str, Column], names, classes, table):
    """The predicted classes, from one column or from a column of scores for each class."""
    what = f"{table.path}: {names[0]!r}" + (f" to {names[-1]!r}" if len(names) > 1 else "")
    first = read[names[0]]
    if len(names) > 1:
        scores = np.stack([_numbers(read[name], table, name) for name in names], axis=1)
        return values.highest(scores, columns.class_names(names), what, table.place)
    if _is_scores(first):
        known = classes or tuple(map(str, range(first.shape[1])))
        return values.highest(first, known, what, table.place)
    return _named(values.names_of(first), classes, what)


def _is_scores(column):
    return isinstance(column, np.ndarray) and column.ndim == 2


def _numbers(column, table, name):
    what = f"{table.path}: the column {name!r}"
    texts = values.names_of(column)
    values.check_complete(texts, what, table.place)
    try:
        return np.array([float(text) for text in texts.names])[texts.ids]
    except ValueError as error:
        raise UserError(f"{what} must hold numbers, the scores of a class: {error}.") from error


def _named(found: Names, classes, what):
    """Class ids as class names, where the file has a list of these."""
    ids = [values.comparable(name) for name in found.names]
    if classes is None or not all(re.fullmatch(_INTEGER, text) for text in ids):
        return found
    outside = [text for text in ids if not 0 <= int(text) < len(classes)]
    if outside:
        raise UserError(
            f"{what} holds the class id {outside[0]}; {_CLASSES!r} names {len(classes)} classes, "
            f"0 to {len(classes) - 1}."
        )
    return Names(found.ids, tuple(classes[int(text)] for text in ids))


def _ids(column, what, place):
    """`(sample,)` texts of ids; whole numbers without `.0`, all others as they are."""
    if isinstance(column, np.ndarray):
        texts = arrow.texts([_id_text(value) for value in column.tolist()])
    else:
        texts = _texts(column)
    texts = compute.utf8_trim_whitespace(texts)
    nothing = to_numpy(compute.is_null(texts))
    if not nothing.any():
        nothing = to_numpy(compute.utf8_length(texts)) == 0
    values.check_none(nothing, f"{what} has no value", place, "give each an id")
    return compute.replace_substring_regex(texts, r"^(-?[0-9]+)\.0+$", r"\1")


def _id_text(value):
    if isinstance(value, float):
        value = "" if value != value else int(value) if value.is_integer() else value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _texts(column):
    if pa.types.is_floating(column.type) and bool((to_numpy(column.drop_null()) % 1 == 0).all()):
        column = column.cast(pa.int64())
    return column.cast(pa.large_string())
