"""Two language models judged by lm-evaluation-harness, joined by task, `doc_id` and `doc_hash`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bap_jax.audit.columns import in_expression
from bap_jax.audit.harness_files import Sample, Task, find_files, names_task, read_task
from bap_jax.audit.samples import Samples, sha256_of
from bap_jax.errors import UserError, first_of

TASK = "task"
# Scores that say whether an answer is right, the usual one first.
METRICS = ("acc", "exact_match", "em", "exact", "pass@1", "prompt_level_strict_acc", "acc_norm")
_DOC = "doc."
_SHOWN = 5

# A document of both models: its task, and its sample of each.
Pair = tuple[str, Sample, Sample]


def read_language_models(
    dense: Path,
    sparse: Path,
    *,
    metric: str | None = None,
    filter_name: str | None = None,
    group_by: str = "",
) -> Samples:
    """Reads the samples of two models.

    Args:
      dense: a file, or the folder of the original model.
      sparse: the same of the compressed one.
      metric: the score that says whether an answer is right; by default the first of `METRICS`
        that a task has.
      filter_name: which filter counts in tasks that have several.
      group_by: an expression over `task` and fields of `doc`; by default `task`.

    Raises:
      UserError: a task or document is in one of them only, a document differs, a score is neither
        0 nor 1, or there is no such metric, filter or field.
    """
    files = _files_of_both(dense, sparse)
    _check_same(files[0], files[1], "tasks", dense, sparse)
    pairs, right, metrics, warnings = [], [], {}, []
    for name in files[0]:
        tasks = [read_task(found[name]) for found in files]
        chosen = _filter(name, tasks, filter_name)
        joined = _join(name, tasks, chosen)
        metrics[name] = _metric(name, joined, metric)
        right += [_scores(tasks, pair, metrics[name]) for pair in joined]
        pairs += joined
        warnings += _prompts(name, joined)
    correct = np.array(right, bool).reshape(-1, 2)
    return Samples(
        correct[:, 0],
        correct[:, 1],
        _groups(pairs, group_by),
        f"{dense} and {sparse}: {_tasks(metrics)}",
        {str(path): sha256_of(path) for found in files for path in found.values()},
        tuple(warnings),
    )


def _files_of_both(dense, sparse) -> list[dict[str, Path]]:
    """By task; two files of which a name says no task are of one."""
    files = [find_files(dense), find_files(sparse)]
    if dense.is_file() and sparse.is_file() and not (names_task(dense) and names_task(sparse)):
        [name], [path] = files[0], files[1].values()
        files[1] = {name: path}
    return files


def _tasks(metrics):
    used = ", ".join(dict.fromkeys(metrics.values()))
    return f"{len(metrics)} {'task' if len(metrics) == 1 else 'tasks'}, {used}"


def _check_same(first, second, what, dense, sparse):
    only = [
        f"{len(names)} only in {where}: {first_of(names, _SHOWN)}"
        for names, where in (
            ([name for name in first if name not in second], dense),
            ([name for name in second if name not in first], sparse),
        )
        if names
    ]
    if only:
        raise UserError(f"both models must have answered the same {what}; {'; '.join(only)}.")


def _filter(name: str, tasks: Sequence[Task], wanted: str | None) -> str:
    """The filter that counts in a task."""
    known = [filter_name for filter_name in tasks[0].samples if filter_name in tasks[1].samples]
    if len(known) == 1:
        return known[0]
    if wanted in known:
        return wanted
    if not known:
        shown = " and ".join(", ".join(task.samples) for task in tasks)
        raise UserError(f"task {name}: the models have different filters: {shown}.")
    problem = "has several filters" if wanted is None else f"has no filter {wanted!r}"
    raise UserError(
        f"task {name} {problem}; write "
        f"{' or '.join(f'--filter={filter_name}' for filter_name in known)}."
    )


def _join(name: str, tasks: Sequence[Task], filter_name: str) -> list[Pair]:
    dense, sparse = (task.samples[filter_name] for task in tasks)
    _check_same(dense, sparse, f"documents (doc_id) of task {name}", tasks[0].path, tasks[1].path)
    pairs = [(name, dense[doc_id], sparse[doc_id]) for doc_id in dense]
    for what, differ in (("doc_hash", _documents_differ), ("target_hash", _differ)):
        differing = [pair for pair in pairs if differ(pair, what)]
        if differing:
            _, first, second = differing[0]
            raise UserError(
                f"task {name}: {what} differs in {len(differing)} of {len(pairs)} documents, first "
                f"in {tasks[0].path}, line {first.line}, and {tasks[1].path}, line {second.line}; "
                "both models must be judged on the same version of the task."
            )
    return pairs


def _differ(pair, what):
    hashes = [getattr(sample, what) for sample in pair[1:]]
    return None not in hashes and hashes[0] != hashes[1]


def _documents_differ(pair, what):
    """By their hashes, or where older versions wrote none, by the documents themselves."""
    first, second = pair[1:]
    if first.doc_hash is None or second.doc_hash is None:
        # As texts, since NaN differs from itself.
        return json.dumps(first.doc, sort_keys=True) != json.dumps(second.doc, sort_keys=True)
    return _differ(pair, what)


def _prompts(name, pairs):
    differing = sum(_differ(pair, "prompt_hash") for pair in pairs)
    if not differing:
        return []
    return [
        f"task {name}: {differing} of {len(pairs)} prompts differ between the models (examples, "
        "template or instructions); what they lose is not due to compression alone."
    ]


def _metric(name: str, pairs: Sequence[Pair], wanted: str | None) -> str:
    """The score that says whether an answer of the task is right."""
    known = [
        metric
        for metric in pairs[0][1].scores
        if all(metric in sample.scores for pair in pairs for sample in pair[1:])
    ]
    usual = [wanted] if wanted else METRICS
    found = next((metric for metric in usual if metric in known), None)
    if found is None:
        problem = f"no score {wanted!r}" if wanted else f"none of the scores {', '.join(METRICS)}"
        raise UserError(
            f"task {name} has {problem} in all documents of both models; it has "
            f"{', '.join(known) or 'none'}; name one that is 0 or 1 by --metric=NAME."
        )
    return found


def _scores(tasks, pair, metric):
    right = []
    for task, sample in zip(tasks, pair[1:], strict=True):
        value = sample.scores[metric]
        if not isinstance(value, int | float) or value not in (0, 1):
            raise UserError(
                f"{task.path}, line {sample.line}: {metric} is {value!r}; a score must be 0 or 1. "
                f"Name another by --metric; the scores are {', '.join(sample.scores)}."
            )
        right.append(bool(value))
    return right


def _groups(pairs: Sequence[Pair], group_by: str):
    """By attribute `(document,)` names, None without a value."""
    grouped = {}
    for attribute in in_expression(group_by or TASK):
        names = [_value(pair, attribute) for pair in pairs]
        if not any(name is not None for name in names):
            raise _no_field(pairs, attribute)
        grouped[attribute] = np.array(names, object)
    return grouped


def _value(pair: Pair, attribute: str) -> str | None:
    """The name of a document's group; None if it has none."""
    task, sample, _ = pair
    if attribute == TASK:
        return task
    value: Any = sample.doc
    for field in attribute.removeprefix(_DOC).split("."):
        value = value.get(field) if isinstance(value, Mapping) else None
    if isinstance(value, list | dict):
        raise UserError(
            f"--group-by={attribute}: the field holds {type(value).__name__}s; expected a text or "
            "a number for each document."
        )
    if value is None or value != value:  # Python's JSON has NaN
        return None
    return str(value).strip() or None


def _no_field(pairs, attribute):
    fields = dict.fromkeys(field for _, sample, _ in pairs for field in sample.doc)
    return UserError(
        f"--group-by={attribute}: no document has this field; write task, or a field of doc: "
        f"{first_of(list(fields), 30)}."
    )
