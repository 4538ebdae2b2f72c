"""Which column holds what: by the names that a user gives, or by the usual ones."""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bap_jax.errors import UserError, first_of

DENSE, SPARSE = "dense", "sparse"
_MODELS = {
    DENSE: ("dense", "baseline", "original", "uncompressed", "reference"),
    SPARSE: ("sparse", "pruned", "compressed", "quantized", "quantised"),
}
_LABELS = ("label", "labels", "y", "y_true", "target", "targets", "true_label", "ground_truth")
_IDS = ("sample_id", "id", "ids", "sample", "image", "image_id", "index", "filename", "path")
_CERTAIN_IDS = 3
_GROUPS = ("group", "groups", "group_id", "group_name", "subgroup", "demographic")
_PREDICTION = ("prediction", "predictions", "pred", "preds", "predicted", "y_pred", "output")
_CORRECT = ("correct", "is_correct", "right", "hit", "acc")
_SCORES = ("logit", "logits", "prob", "probs", "probability", "probabilities", "score", "scores")
_MOST_LISTED = 30


class Wanted(NamedTuple):
    """The names of columns that a user gave; None to look for the usual ones.

    Attributes:
      label, dense, sparse: the label, and what the models predict. Scores of several columns are
        named together, `logits_*` or `cat,dog`.
      dense_correct, sparse_correct: whether the models are right.
      id: of the samples; empty if there is none.
      groups: attributes, if they are not named in `group_by`.
      group_by: an expression over attributes, see `bap_jax.groups.grouping`.
    """

    label: str | None = None
    dense: str | None = None
    sparse: str | None = None
    dense_correct: str | None = None
    sparse_correct: str | None = None
    id: str | None = None
    groups: tuple[str, ...] = ()
    group_by: str = ""


def correct_column(names: Sequence[str], wanted: Wanted, model: str, alone: bool) -> str | None:
    """The column that says whether a model is right; None if its predictions are to be compared.

    Args:
      names: columns of the table.
      wanted: what the user named.
      model: `DENSE` or `SPARSE`.
      alone: whether the table is about this model alone, so that its name need not be in a column.
    """
    flag = f"{model}_correct"
    if getattr(wanted, flag) is None and (getattr(wanted, model) or wanted.label):
        return None
    usual = [f for word in _MODELS[model] for f in _forms(word, _CORRECT)]
    return choose(names, getattr(wanted, flag), [*usual, *(_CORRECT if alone else ())], flag)


def prediction_columns(
    names: Sequence[str], wanted: Wanted, model: str, alone: bool
) -> tuple[str, ...]:
    """The column of a model's predictions, or all columns of its scores.

    Args: as `correct_column`.

    Raises:
      UserError: there is none, or several could be meant; the error lists the columns.
    """
    given = getattr(wanted, model)
    if given is not None:
        return _given_predictions(names, given, model)
    words = [f for word in _MODELS[model] for f in (word, *_forms(word, (*_PREDICTION, *_SCORES)))]
    found = choose(names, None, [*words, *(_PREDICTION + _SCORES if alone else ())], model)
    if found is not None:
        return (found,)
    scores = _score_columns(names, (*_MODELS[model], *(_SCORES if alone else ())))
    if len(scores) > 1:
        return scores
    raise UserError(
        f"found no column with what the {model} model predicts, and none that says whether it is "
        f"right; name it by --{model}=COLUMN or --{model}-correct=COLUMN; {listed(names)}."
    )


def label_column(names: Sequence[str], wanted: Wanted) -> str | None:
    """The column of labels, or None."""
    return choose(names, wanted.label, _LABELS, "label")


def id_column(names: Sequence[str], wanted: Wanted, needed: bool) -> str | None:
    """The column of sample ids, or None.

    Args:
      names: columns of the table, or those that two tables share.
      wanted: what the user named; an empty `id` means that there is none.
      needed: whether a column with a less certain name, such as `path`, is taken, too.
    """
    if wanted.id is not None:
        return known(names, wanted.id, "id") if wanted.id else None
    plain = {_plain(name): name for name in reversed(names)}
    usual = _IDS if needed else _IDS[:_CERTAIN_IDS]
    return next((plain[name] for name in usual if name in plain), None)


def attributes(names: Sequence[str], wanted: Wanted) -> tuple[str, ...]:
    """The columns that group samples.

    Raises:
      UserError: one that was named does not exist, or none was named and none has a usual name.
    """
    if wanted.group_by or wanted.groups:
        chosen = wanted.groups or in_expression(wanted.group_by)
        if "," in wanted.group_by and wanted.group_by not in names and not wanted.groups:
            star, plus = (sign.join(map(str.strip, wanted.group_by.split(","))) for sign in "*+")
            raise UserError(
                f"--group-by={wanted.group_by}: write --group-by={plus!r} for each on its own, or "
                f"--group-by={star!r} for every combination; {listed(names)}."
            )
        return tuple(
            known(names, name, "groups" if wanted.groups else "group-by") for name in chosen
        )
    found = choose(names, None, _GROUPS, "group-by")
    if found is None:
        raise UserError(
            "name the columns that group samples: --group-by=race, --group-by=race*gender for "
            f"every combination, --group-by=race+gender for each on its own; {listed(names)}."
        )
    return (found,)


def in_expression(expression: str) -> tuple[str, ...]:
    """The attributes of an expression such as `race*gender+age`, each once, in order."""
    return tuple(dict.fromkeys(name.strip() for name in re.split("[*+]", expression)))


def choose(names: Sequence[str], given: str | None, usual: Iterable[str], flag: str) -> str | None:
    """The column that was named, or the one that has a usual name, or None.

    Capitals, spaces and hyphens do not matter in usual names.

    Raises:
      UserError: the named column does not exist, or several have usual names.
    """
    if given is not None:
        return known(names, given, flag)
    usual = set(usual)
    found = [name for name in names if _plain(name) in usual]
    if len(found) > 1:
        flags = " or ".join(f"--{flag.replace('_', '-')}={name}" for name in found)
        raise UserError(f"several columns could be meant: {', '.join(found)}; write {flags}.")
    return found[0] if found else None


def known(names: Sequence[str], name: str, flag: str) -> str:
    """The name, if there is such a column.

    Raises:
      UserError: there is none; the error lists the columns, and the one with the closest name.
    """
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(
        f"--{flag.replace('_', '-')}: there is no column {name!r}{hint}; {listed(names)}."
    )


def listed(names: Sequence[str]) -> str:
    """The columns there are, for errors."""
    return f"the columns are {first_of(list(names), _MOST_LISTED)}"


def class_names(columns: Sequence[str]) -> tuple[str, ...]:
    """Names of classes: what differs in names of columns of scores, such as `dense_cat`.

    Example:
      >>> class_names(["dense_logit_cat", "dense_logit_cow"])
      ('cat', 'cow')
    """
    start = 0
    while all(len(c) > start and c[start] == columns[0][start] for c in columns):
        start += 1
    start = max(columns[0].rfind(mark, 0, start) for mark in "_. ") + 1
    return tuple(column[start:] for column in columns)


def _plain(name):
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _forms(word, ends):
    return [form for end in ends for form in (f"{word}_{end}", f"{end}_{word}")]


def _given_predictions(names, given, model):
    if given in names:
        return (given,)
    if "*" in given:
        found = tuple(name for name in names if fnmatch.fnmatchcase(name, given))
        if len(found) < 2:
            raise UserError(
                f"--{model}={given}: expected two columns or more, one a class; {listed(names)}."
            )
        return found
    return tuple(known(names, name.strip(), model) for name in given.split(","))


def _score_columns(names, words):
    """Columns such as `dense_0, dense_1` or `dense_logits_cat, dense_logits_dog`."""
    word, score = "|".join(words), "|".join(_SCORES)
    pattern = rf"({word})_(?:\d+|({score})_.+)" + rf"|({score})_({word})_.+"
    return tuple(name for name in names if re.fullmatch(pattern, name, re.IGNORECASE))
