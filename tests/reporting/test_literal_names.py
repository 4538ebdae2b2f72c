"""Names of groups are literal in every file and on every page, whatever signs they hold."""

import json
import re
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from bap_jax import audit, data, experiment, reporting
from bap_jax._tables.shown import clipped, visible
from bap_jax.audit.run_folder import read_run
from bap_jax.config import default_config
from tests.audit.page_reader import read as read_page
from tests.reporting.fakes import judged_report, run_record, splits_of, write_metrics
from tests.reporting.test_tradeoff import report as sweep_report

NAMES = (
    "$50K-$100K",
    "$x_{",
    r"\alpha^2 \$ \\",
    "<b>bold</b> &amp; 'it' \"q\"",
    "two\nlines",
    "\x1b[31mred\r",
    "\u202eright to left שלום",
    "中文",
    "_a*b+c=d,e",
    "%s {0} {names}",
    "long " + 60 * "name ",
    "e\u0301",
)
COUNT = 12 * len(NAMES)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a run with groups and labels of such names."""
    folder = tmp_path_factory.mktemp("names")
    i = np.arange(COUNT)
    rng = np.random.default_rng(0)
    names = np.array(NAMES)[i % len(NAMES)]
    split = np.array(["train", "validation", "test"])[i // len(NAMES) % 3]
    label = np.array(NAMES[:2])[rng.integers(0, 2, COUNT)]
    inputs = rng.normal(size=(COUNT, 4)).astype(np.float32)
    np.savez(folder / "mine.npz", inputs=inputs, label=label, income=names, split=split)
    changes = {"data.name": "npz", "data.dir": str(folder / "mine.npz"), "data.group_by": "income"}
    changes |= {"data.test_fraction": 0.0, "data.validation_fraction": 0.0, "model.hidden": (4,)}
    changes |= {"dense.epochs": 1, "pruning.epochs": 1, "finetune_epochs": 1, "batch_size": 48}
    changes |= {"constraint.min_group_size": 4, "constraint.buffer_size": 2}
    config = default_config()
    config.update_from_flattened_dict(changes)
    found = []
    experiment.run_experiment(config, folder / "w", on_warning=found.append)
    assert found == []
    return folder / "w"


def names_of(rows):
    return sorted(row["name"] for row in rows)


def test_files_hold_the_names_as_they_are(run):
    report = json.loads((run / "report.json").read_text())
    summary = json.loads((run / "data.json").read_text())
    for split in report["splits"].values():
        assert names_of(split["groups"]) == sorted(NAMES)
    assert names_of(summary["groups"]) == sorted(NAMES)
    assert names_of(summary["labels"]) == sorted(NAMES[:2])
    assert names_of(report["feasibility"]["constraints"]) == sorted(NAMES)
    with np.load(run / "ceag-seed0" / "predictions.npz") as arrays:
        assert sorted(arrays["group_names"].tolist()) == sorted(NAMES)
    assert set(read_run(run, "test").samples.groups["income"]) == set(NAMES)
    assert (run / "disparity.png").read_bytes().startswith(b"\x89PNG")


def is_plain(text):
    return not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)


def test_texts_for_the_terminal(run):
    report = json.loads((run / "report.json").read_text())
    summary = json.loads((run / "data.json").read_text())
    whole = reporting.format_report(report, verbose=True)
    table = data.format_summary(summary)
    assert is_plain(whole) and is_plain(table) and is_plain(reporting.format_report(report))
    for name in NAMES:
        assert any(line.startswith(visible(name)) for line in whole.splitlines())
        assert any(clipped(name, 40) in line for line in table.splitlines())
    rows = [line for line in table.splitlines() if line.startswith("  ")]
    assert max(map(len, rows)) < 100


def check_page(page):
    words = read_page(page).text
    assert "<b>bold" not in page
    for name in NAMES:
        assert visible(name) in words


def test_the_page_of_an_audit(run):
    judged = read_run(run, "test").samples
    found = audit.compare(
        judged.dense_correct, judged.sparse_correct, judged.groups, tolerance=0.01, min_group_size=2
    )
    check_page(found.to_html())
    assert is_plain(found.to_text(verbose=True))


def test_the_page_of_a_run(tmp_path):
    report, predictions = judged_report(sizes=(31,) * len(NAMES))
    report = with_names(report) | {"selection": "last", "versions": {}}
    report["sparsity"]["layers"] = {"dense/kernel": 0.95}
    write_metrics(tmp_path / "metrics.jsonl", constraints=len(NAMES))
    splits = splits_of(predictions)._replace(group_names=NAMES)
    record = run_record(tmp_path)._replace(
        report=report, predictions=predictions, splits=splits, constraint_names=NAMES
    )
    check_page(reporting.render_run(record))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved; any warning is an error."""
    figures, save = [], Figure.savefig

    def spy(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield figures


def with_names(report):
    """The report with these names for its groups."""
    for split in report["splits"].values():
        split["deciding_group"] = NAMES[int(split["deciding_group"].removeprefix("group "))]
        for group, name in zip(split["groups"], NAMES, strict=True):
            group["name"] = name
    return report


@pytest.mark.parametrize("usetex", [False, True])
def test_the_figure_of_a_workdir(usetex, tmp_path, drawn):
    report, _ = judged_report(sizes=(31,) * len(NAMES))
    report = with_names(report)
    reports = {"ceag": [report], "_mine, data.dir=$a$/b_c": [report]}
    with matplotlib.rc_context({"text.usetex": usetex}):
        reporting.draw_disparity(reports, tmp_path / "any name")
    assert (tmp_path / "any name").read_bytes().startswith(b"\x89PNG")
    order = sorted(report["splits"]["test"]["groups"], key=lambda group: -group["excess_gap"])
    panel = drawn[0].axes[0]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == [
        clipped(group["name"], 24) for group in order
    ]
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert sorted(texts) == [" _MINE, data.dir=$a$/b_c", "CEAG", "ε = 2 points"]
    shown = [*panel.get_yticklabels(), *drawn[0].legends[0].get_texts()]
    assert not any(text.get_parse_math() or text.get_usetex() for text in shown)


def test_the_figure_of_a_sweep(tmp_path, drawn):
    values = ["$5", "_x", "a" * 300]
    rows = [
        {"config": {"data.group_by": value, "seed": 0}, "report": sweep_report(0.01 * i, 0.9)}
        for i, value in enumerate(values)
    ]
    reporting.draw_tradeoff(rows, tmp_path / "sweep.png")
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == ["$5", " _x", clipped("a" * 300, 80), "tolerance"]
