"""The page of a run: the audit of the test split, training, sparsity and harmed samples."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from bap_jax import reporting
from bap_jax.audit.page import Pictures
from bap_jax.audit.svg.figure import Table
from bap_jax.reporting.html import command_line
from bap_jax.reporting.training_curves import MOST_CURVES, MOST_STEPS, training_parts
from bap_jax.reporting.verdict_text import verdict_sentence
from bap_jax.reporting.verdicts import audit_of_counts, counts_of
from bap_jax.reporting.worst_samples import worst_samples
from tests.reporting.fakes import (
    RUN_GROUPS,
    judged_report,
    run_record,
    splits_of,
    write_metrics,
)

NAMES = RUN_GROUPS


@pytest.fixture
def record(tmp_path):
    return run_record(tmp_path)


def test_the_page_has_every_part(record):
    page = reporting.render_run(record)
    for needed in (
        verdict_sentence(record.report, "test"),
        verdict_sentence(record.report, "train"),
        verdict_sentence(record.report, "validation"),
        "95.0\N{NO-BREAK SPACE}% of 640",
        "jax 1.2.3",
        "abc123",
    ):
        assert needed in page, needed
    names = re.findall(r'<section id="([^"]+)"', page)
    for needed in ("gaps", "chance", "flips", "parts", "training", "sparsity", "samples"):
        assert needed in names
    assert len(names) == len(set(names))
    figures = re.findall(r'<figure id="([^"]+)"', page)
    assert {"figure-violations", "figure-multipliers", "figure-loss"} <= set(figures)
    assert page.count('src="data:image/png;base64,') == page.count(", predicted ") // 2


def test_a_run_without_a_verdict_has_a_page_too(record):
    report, predictions = judged_report(sizes=(5, 6, 7))
    report["sparsity"]["layers"] = {"dense/kernel": 0.95}
    report |= {"selection": "last", "versions": {}}
    page = reporting.render_run(
        record._replace(report=report, predictions=predictions, splits=splits_of(predictions))
    )
    assert "Not assessed at ε" in page and '<section id="gaps"' not in page


def harmed_samples(shape, dtype=np.float32):
    report, predictions = judged_report(flips=0.3)
    splits = splits_of(predictions, shape, dtype)
    counts = counts_of(predictions["test"], NAMES, splits.attribute_of_group())
    audit = audit_of_counts(counts, report["tolerance"])
    _, part = worst_samples(audit, predictions["test"], splits).parts
    return audit, predictions["test"], splits, part


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 8), np.float32), ((9, 7, 1), np.uint8), ((70, 80, 3), np.uint8)]
)
def test_harmed_samples_are_shown(shape, dtype):
    audit, test, _splits, part = harmed_samples(shape, dtype)
    assert isinstance(part, Pictures) and len(part.items) == 18
    seen = []
    for picture in part.items:
        found = re.fullmatch(r"sample (\d+), label (\d), predicted (\d), group (.+)", picture.alt)
        row, label, predicted = map(int, found.groups()[:3])
        assert test.dense_correct[row] and not test.sparse_correct[row]
        assert (label, predicted) == (test.label[row], test.sparse[row])
        assert NAMES[test.group[row, 0]] == found.group(4)
        seen.append(found.group(4))
    assert list(dict.fromkeys(seen)) == [row.name for row in audit.groups]
    size = image_of(picture).size
    assert min(size) >= 64 and size[0] % shape[1] == size[1] % shape[0] == 0


def image_of(picture):
    import base64

    return Image.open(io.BytesIO(base64.b64decode(picture.source.split(",")[1])))


def test_pixels_keep_their_values():
    _, _test, splits, part = harmed_samples((70, 80, 3), np.uint8)
    row = int(re.search(r"sample (\d+)", part.items[0].alt).group(1))
    np.testing.assert_array_equal(np.asarray(image_of(part.items[0])), splits.test.inputs[row])


def test_large_images_are_reduced():
    *_, part = harmed_samples((300, 200, 3), np.uint8)
    assert {image_of(picture).size for picture in part.items} == {(85, 128)}


@pytest.mark.parametrize("shape", [(5,), (50, 3), (8, 8, 2), ()])
def test_samples_that_are_no_images_are_listed(shape):
    _, test, _, part = harmed_samples(shape)
    assert isinstance(part, Table) and len(part.rows) == 18
    row = int(part.rows[0][0])
    assert test.dense_correct[row] and not test.sparse_correct[row]


def test_no_harmed_samples():
    report, predictions = judged_report(flips=0.0)
    splits = splits_of(predictions)
    counts = counts_of(predictions["test"], NAMES, splits.attribute_of_group())
    audit = audit_of_counts(counts, report["tolerance"])
    (words,) = worst_samples(audit, predictions["test"], splits).parts
    assert words.words.startswith("There are none")


def test_curves_are_few_and_thin(tmp_path):
    write_metrics(tmp_path / "metrics.jsonl")
    names = [f"c{i}" for i in range(12)]
    _violations, multipliers, loss = training_parts(tmp_path / "metrics.jsonl", names)
    assert f"the {MOST_CURVES} of 12" in multipliers.title
    shown = [key.words for key in multipliers.key]
    assert shown[0] == "c11" and "c0" not in str(multipliers.table.columns)
    assert max(path.count("L") for path in str(loss.drawing).split("<path")) < MOST_STEPS
    assert loss.table.rows[0][0] == "0" and loss.table.rows[-1][0] == "999"


def test_runs_without_constraints_show_their_loss(tmp_path):
    write_metrics(tmp_path / "metrics.jsonl", constraints=0)
    (loss,) = training_parts(tmp_path / "metrics.jsonl", [])
    assert loss.name == "figure-loss"
    (tmp_path / "metrics.jsonl").write_text("")
    assert training_parts(tmp_path / "metrics.jsonl", []) == []


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/a/bap_jax/sweep/__main__.py", "--x=a b"], "python -m bap_jax.sweep '--x=a b'"),
        (["train.py", "--fast"], "python train.py --fast"),
        (["/usr/bin/pytest", "-q"], ""),
        (["-c"], ""),
    ],
)
def test_the_command_as_typed(arguments, shown):
    assert command_line(arguments) == shown
