"""Samples of two language models as lm-evaluation-harness writes them with --log_samples."""

import hashlib
import json

import pytest

from bap_jax.audit.language_models import read_language_models
from bap_jax.errors import UserError
from tests.audit.prediction_files import write_text

DATE, LATER = "2026-09-05T12-00-00.123456", "2026-10-01T08-30-00.000001"
# Two lines as version 0.4.9 writes them, one a filter, by hand.
GSM8K = r"""
{"doc_id": 0, "doc": {"question": "Ann has 3 eggs and buys 4. How many?", "answer": "3 + 4 = 7\n#### 7"}, "target": "3 + 4 = 7\n#### 7", "arguments": {"gen_args_0": {"arg_0": "Question: Ann has 3 eggs and buys 4. How many?\nAnswer:", "arg_1": {"until": ["Question:"], "do_sample": false}}}, "resps": [["She has 7 eggs."]], "filtered_resps": ["[invalid]"], "filter": "strict-match", "metrics": ["exact_match"], "doc_hash": "d0", "prompt_hash": "p0", "target_hash": "t0", "exact_match": 0.0}
{"doc_id": 0, "doc": {"question": "Ann has 3 eggs and buys 4. How many?", "answer": "3 + 4 = 7\n#### 7"}, "target": "3 + 4 = 7\n#### 7", "arguments": {"gen_args_0": {"arg_0": "Question: Ann has 3 eggs and buys 4. How many?\nAnswer:", "arg_1": {"until": ["Question:"], "do_sample": false}}}, "resps": [["She has 7 eggs."]], "filtered_resps": ["7"], "filter": "flexible-extract", "metrics": ["exact_match"], "doc_hash": "d0", "prompt_hash": "p0", "target_hash": "t0", "exact_match": 1.0}
"""  # noqa: E501


def sample(doc_id, correct, **others):
    """A line of a task of multiple choice."""
    doc = {"question": f"question {doc_id}?", "choices": ["yes", "no"], "level": doc_id % 2}
    entry = {
        "doc_id": doc_id,
        "doc": doc,
        "target": str(doc_id % 2),
        "arguments": {"gen_args_0": {"arg_0": f"question {doc_id}?", "arg_1": " yes"}},
        "resps": [[["-1.0", "False"]], [["-3.0", "False"]]],
        "filtered_resps": [["-1.0", "False"], ["-3.0", "False"]],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": hashlib.sha256(json.dumps(doc).encode()).hexdigest(),
        "prompt_hash": f"prompt {doc_id}",
        "target_hash": f"target {doc_id}",
        "acc": float(correct),
        "acc_norm": 1.0 - correct,
    }
    return {key: value for key, value in {**entry, **others}.items() if value is not ...}


def write(folder, task, samples, date=DATE):
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(entry) + "\n" for entry in samples)
    return write_text(folder / f"samples_{task}_{date}.jsonl", text)


@pytest.fixture
def folders(tmp_path):
    """Two tasks, five documents, of which the sparse model loses two, in another order."""
    dense, sparse = tmp_path / "dense" / "org__model", tmp_path / "sparse" / "org__model-4bit"
    write(dense, "mmlu_world_history", [sample(i, 1) for i in range(3)])
    write(dense, "mmlu_law", [sample(i, i) for i in range(2)])
    write(sparse, "mmlu_world_history", [sample(i, i != 1) for i in (2, 0, 1)])
    write(sparse, "mmlu_law", [sample(i, 0) for i in range(2)])
    write_text(dense / f"results_{DATE}.json", "{}")
    return tmp_path / "dense", tmp_path / "sparse"


def right(samples):
    return samples.dense_correct.astype(int).tolist(), samples.sparse_correct.astype(int).tolist()


def test_two_folders(folders):
    samples = read_language_models(*folders)
    assert right(samples) == ([0, 1, 1, 1, 1], [0, 0, 1, 0, 1])
    groups = {"task": ["mmlu_law"] * 2 + ["mmlu_world_history"] * 3}
    assert {name: column.tolist() for name, column in samples.groups.items()} == groups
    assert len(samples.files) == 4 and not samples.warnings
    assert samples.source == f"{folders[0]} and {folders[1]}: 2 tasks, acc"


def test_two_files(folders):
    files = [next(folder.rglob("samples_mmlu_law_*.jsonl")) for folder in folders]
    samples = read_language_models(*files, group_by="doc.level")
    assert right(samples) == ([0, 1], [0, 0])
    assert samples.groups["doc.level"].tolist() == ["0", "1"]


def test_fields_of_doc_as_groups(folders):
    dense, sparse = (next(f.iterdir()) for f in folders)
    for folder in (dense, sparse):
        docs = [{"subject": "law"}, {"subject": " "}, {"by": {"place": "Rome"}}]
        entries = [sample(i, 1, doc=doc, doc_hash=f"hash {i}") for i, doc in enumerate(docs)]
        write(folder, "mmlu_world_history", entries)
    samples = read_language_models(*folders, group_by="subject*task+doc.by.place")
    assert samples.groups["subject"].tolist() == [None, None, "law", None, None]
    assert samples.groups["task"].tolist()[2:] == ["mmlu_world_history"] * 3
    assert samples.groups["doc.by.place"].tolist() == [None] * 4 + ["Rome"]
    with pytest.raises(
        UserError, match="no document has this field; .* question, choices, level, s"
    ):
        read_language_models(*folders, group_by="subjct")
    with pytest.raises(UserError, match="--group-by=choices: the field holds lists"):
        read_language_models(*folders, group_by="choices")


def test_the_newest_file_of_a_task(folders):
    write(next(folders[1].iterdir()), "mmlu_law", [sample(i, 1) for i in range(2)], LATER)
    assert right(read_language_models(*folders))[1][:2] == [1, 1]


def test_filters(tmp_path):
    files = [write_text(tmp_path / f"samples_gsm8k_{date}.jsonl", GSM8K) for date in (DATE, LATER)]
    with pytest.raises(UserError, match="--filter=strict-match or --filter=flexible-extract"):
        read_language_models(*files)
    with pytest.raises(
        UserError, match="task gsm8k has no filter 'strict'; write --filter=strict-"
    ):
        read_language_models(*files, filter_name="strict")
    assert right(read_language_models(*files, filter_name="strict-match")) == ([0], [0])
    samples = read_language_models(*files, filter_name="flexible-extract")
    assert right(samples) == ([1], [1])
    assert samples.source.endswith("1 task, exact_match")


def test_a_filter_is_asked_for_only_where_there_are_several(folders):
    for folder in folders:
        write_text(next(folder.iterdir()) / f"samples_gsm8k_{DATE}.jsonl", GSM8K)
    samples = read_language_models(*folders, filter_name="flexible-extract")
    assert samples.groups["task"].tolist()[0] == "gsm8k" and len(samples.dense_correct) == 6
    assert samples.source.endswith("3 tasks, exact_match, acc")


def test_metrics(folders):
    assert right(read_language_models(*folders, metric="acc_norm"))[0] == [1, 0, 0, 0, 0]
    with pytest.raises(UserError, match="task mmlu_law has no score 'f1' .* it has acc, acc_norm"):
        read_language_models(*folders, metric="f1")
    for folder in folders:
        entries = [sample(i, 0, metrics=["bleu"], bleu=0.3) for i in range(2)]
        write(next(folder.iterdir()), "mmlu_law", entries)
    with pytest.raises(
        UserError, match="none of the scores acc, exact_match, .* it has bleu; name"
    ):
        read_language_models(*folders)


@pytest.mark.parametrize("score", [0.5, "1", None, [1], 2])
def test_scores_that_are_neither_0_nor_1(folders, score):
    write(next(folders[1].iterdir()), "mmlu_law", [sample(0, 0), sample(1, 0, acc=score)])
    with pytest.raises(UserError, match="line 2: acc is .*; a score must be 0 or 1"):
        read_language_models(*folders)


@pytest.mark.parametrize("score", [True, 1, 1.0])
def test_scores_that_are_right(folders, score):
    write(next(folders[1].iterdir()), "mmlu_law", [sample(0, 0), sample(1, 0, acc=score)])
    assert right(read_language_models(*folders))[1][:2] == [0, 1]


def test_files_of_older_versions(tmp_path):
    """They list no metrics, name no filter, and have no hashes: documents are compared."""
    gone = dict.fromkeys(("metrics", "filter", "doc_hash", "prompt_hash", "target_hash"), ...)
    old = [sample(i, 1, **gone) for i in range(2)]
    dense, sparse = write(tmp_path / "dense", "arc", old), write(tmp_path / "sparse", "arc", old)
    assert right(read_language_models(dense, sparse)) == ([1, 1], [1, 1])
    write(tmp_path / "sparse", "arc", [old[0], {**old[1], "doc": {"question": "another"}}])
    with pytest.raises(UserError, match="task arc: doc_hash differs in 1 of 2 documents, first in"):
        read_language_models(dense, sparse)
    write(tmp_path / "sparse", "arc", [*old, *old])
    with pytest.raises(
        UserError, match="doc_id 0 is there twice, in lines 1 and 3, under the filter"
    ):
        read_language_models(dense, sparse)


def test_files_of_which_one_is_older_have_no_hash_in_common(tmp_path):
    old = [sample(i, 1, doc_hash=..., target_hash=...) for i in range(2)]
    dense = write(tmp_path / "dense", "arc", old)
    sparse = write(tmp_path / "sparse", "arc", [sample(0, 1), sample(1, 0)])
    assert right(read_language_models(dense, sparse)) == ([1, 1], [1, 0])
    write(tmp_path / "sparse", "arc", [sample(0, 1), sample(1, 0, doc={"question": "another"})])
    with pytest.raises(UserError, match="task arc: doc_hash differs in 1 of 2 documents, first in"):
        read_language_models(dense, sparse)


def test_two_files_with_names_of_their_own_are_one_task(tmp_path):
    files = [
        write_text(tmp_path / f"{name}.jsonl", json.dumps(sample(0, correct)) + "\n")
        for name, correct in (("llama", 1), ("llama-4bit", 0))
    ]
    samples = read_language_models(*files)
    assert right(samples) == ([1], [0])
    assert samples.groups["task"].tolist() == ["llama"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [sample(0, 1), sample(2, 1)],
            r"the same documents \(doc_id\) of task mmlu_law; 1 only in "
            r".*dense.*: 1; 1 only in .*sparse.*: 2",
        ),
        (
            [sample(0, 1), sample(1, 1, doc_hash="x")],
            "doc_hash differs in 1 of 2 documents, first in "
            ".*line 2, .* the same version of the task",
        ),
        ([sample(0, 1), sample(1, 1, target_hash="x")], "target_hash differs in 1 of 2 documents"),
        ([sample(0, 1, filter="a"), sample(1, 1, filter="a")], "different filters: none and a"),
        (
            [{"label": 1}],
            "line 1 is no sample of lm-evaluation-harness: expected an object with doc_",
        ),
        ([[1]], "line 1 is no sample of lm-evaluation-harness"),
        ([], "holds no samples"),
    ],
)
def test_models_that_cannot_be_compared(folders, entries, message):
    write(next(folders[1].iterdir()), "mmlu_law", entries)
    with pytest.raises(UserError, match=message):
        read_language_models(*folders)


def test_other_prompts_are_a_warning(folders):
    write(next(folders[1].iterdir()), "mmlu_law", [sample(0, 1, prompt_hash="x"), sample(1, 1)])
    [warning] = read_language_models(*folders).warnings
    assert warning.startswith("task mmlu_law: 1 of 2 prompts differ between the models")


def test_folders_that_are_wrong(folders, tmp_path):
    with pytest.raises(UserError, match="holds samples of several models: .*dense.*, .*sparse"):
        read_language_models(tmp_path, folders[1])
    write(next(folders[0].iterdir()), "arc", [sample(0, 1)])
    with pytest.raises(UserError, match="the same tasks; 1 only in .*dense: arc"):
        read_language_models(*folders)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no samples_.* by --log_samples .* --run=.*empty"):
        read_language_models(tmp_path / "empty", folders[1])
    with pytest.raises(UserError, match="there is no file or folder .*nowhere"):
        read_language_models(tmp_path / "nowhere", folders[1])
    file = write_text(tmp_path / f"samples_a_{DATE}.jsonl", '{"doc_id": 0')
    for text in ('{"doc_id": 0', "[" * 100_000):
        with pytest.raises(UserError, match="line 1 is no JSON"):
            read_language_models(write_text(file, text), file)
