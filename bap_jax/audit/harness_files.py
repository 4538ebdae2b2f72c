"""Files of samples as EleutherAI's lm-evaluation-harness writes them with `--log_samples`.

A task has one file `samples_TASK_DATE.jsonl` in a folder of the model, beside `results_DATE.json`;
an evaluation that is repeated adds files with a later date. A line is a sample under one filter,
which is the way in which the answer was taken from the text (`strict-match`, `flexible-extract`):

    {"doc_id": 0, "doc": {"question": …, "subject": …}, "target": "B", "arguments": …, "resps": …,
     "filtered_resps": …, "filter": "none", "metrics": ["acc"], "doc_hash": …, "prompt_hash": …,
     "target_hash": …, "acc": 1.0}

The score of each metric is a key of its own. Older versions wrote no `metrics`, no `filter` and no
hashes.

Source: https://github.com/EleutherAI/lm-evaluation-harness, `lm_eval/evaluator.py` and
`lm_eval/loggers/evaluation_tracker.py` (`save_results_samples`).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bap_jax.errors import UserError, first_of

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d{2}-\d{2}T[\d:.-]+)\.jsonl")
_WITHOUT_DATE = re.compile(r"samples_(?P<task>.+)\.jsonl")
# Keys of a sample that are no scores, for files that do not list their metrics.
_NO_SCORES = {
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
}
_SHOWN = 5


class Sample(NamedTuple):
    """A document under one filter.

    Attributes:
      doc: the document, as the task's data set has it.
      doc_hash, target_hash, prompt_hash: SHA-256 of it, of the right answer and of what the model
        was asked; None in older files.
      filter: how the answer was taken from the text; `none` if the file does not say.
      scores: by metric.
      line: of the file, from 1.
    """

    doc: Mapping[str, Any]
    doc_hash: str | None
    target_hash: str | None
    prompt_hash: str | None
    filter: str
    scores: Mapping[str, Any]
    line: int


class Task(NamedTuple):
    """A file of samples: `samples[filter][doc_id]`."""

    path: Path
    samples: Mapping[str, Mapping[str, Sample]]


def find_files(path: Path) -> dict[str, Path]:
    """The newest file of samples of each task.

    Args:
      path: a file, or a folder of one model; folders in it are searched, too.

    Raises:
      UserError: there are none, or they are of several models.
    """
    if not path.exists():
        raise UserError(f"there is no file or folder {path}.")
    found = [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl"))
    if not found:
        raise UserError(
            f"{path} holds no samples_*.jsonl; let lm-evaluation-harness write them by "
            "--log_samples --output_path=FOLDER. A finished run of bap_jax is audited by "
            f"--run={path}."
        )
    folders = sorted({str(file.parent) for file in found})
    if len(folders) > 1:
        raise UserError(
            f"{path} holds samples of several models: {first_of(folders, _SHOWN)}; name the folder "
            "of one."
        )
    newest = {}
    for file in sorted(found, key=lambda file: _task_and_date(file)[1]):
        newest[_task_and_date(file)[0]] = file
    return dict(sorted(newest.items()))


def names_task(file: Path) -> bool:
    """Whether the name of a file says of which task it is."""
    return bool(_WITHOUT_DATE.fullmatch(file.name))


def _task_and_date(file):
    match = _NAME.fullmatch(file.name)
    if match:
        return match["task"], match["date"]
    match = _WITHOUT_DATE.fullmatch(file.name)
    return (match["task"] if match else file.stem), ""


def read_task(path: Path) -> Task:
    """Reads a file of samples.

    Raises:
      UserError: a line is no sample, or a document is there twice under one filter.
    """
    samples: dict[str, dict[str, Sample]] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                doc_id, sample = _sample(line, path, number)
                same_filter = samples.setdefault(sample.filter, {})
                if doc_id in same_filter:
                    raise _twice(path, doc_id, same_filter[doc_id].line, number, sample.filter)
                same_filter[doc_id] = sample
    if not samples:
        raise UserError(f"{path} holds no samples.")
    return Task(path, samples)


def _sample(line, path, number):
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}, line {number} is no JSON: {error}.") from error
    if not isinstance(entry, dict) or "doc_id" not in entry or "doc" not in entry:
        raise UserError(
            f"{path}, line {number} is no sample of lm-evaluation-harness: expected an object with "
            "doc_id and doc, as --log_samples writes it."
        )
    doc = entry["doc"]
    known = entry.get("metrics")
    names = known if isinstance(known, list) else [n for n in entry if n not in _NO_SCORES]
    scores = {name: entry[name] for name in names if name in entry and not name.endswith("_hash")}
    return str(entry["doc_id"]), Sample(
        doc if isinstance(doc, dict) else {"doc": doc},
        entry.get("doc_hash"),
        entry.get("target_hash"),
        entry.get("prompt_hash"),
        str(entry.get("filter", "none")),
        scores,
        number,
    )


def _twice(path, doc_id, first, second, filter_name):
    return UserError(
        f"{path}: doc_id {doc_id} is there twice, in lines {first} and {second}, under the filter "
        f"{filter_name!r}. Older versions of lm-evaluation-harness do not say which filter a line "
        "belongs to; repeat the evaluation with a newer one, or keep one line a document."
    )
