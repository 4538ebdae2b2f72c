"""The page on outputs and the files that runs write have the same keys, types and paths."""

import csv
import io
import json

import numpy as np
import pytest

from bap_jax import experiment, sweep
from bap_jax.config import default_config
from bap_jax.workdir import flatten_config
from tests import output_page
from tests.output_page import check, entries, fits

RATES = (0.01, 1e30)  # the second one diverges
CHECKPOINTS = ("dense", "pruned", "last_good")


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    """Samples of three groups, one of which is too small to constrain."""
    file = tmp_path_factory.mktemp("data") / "mine.npz"
    i = np.arange(360)
    inputs = np.random.default_rng(0).normal(size=(i.size, 4)).astype(np.float32)
    group = np.where(i < 18, "tiny", np.where(i % 2, "left", "right"))
    split = np.array(["train", "validation", "test"])[i % 3]
    np.savez(file, inputs=inputs, label=i // 3 % 2, group=group, split=split)
    return file


def tiny(data_file, **changes):
    """Three epochs in a second."""
    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.name": "npz",
            "data.dir": str(data_file),
            "data.group_by": "group",
            "data.test_fraction": 0.0,
            "data.validation_fraction": 0.0,
            "model.hidden": (8,),
            "batch_size": 60,
            "dense.epochs": 1,
            "pruning.epochs": 1,
            "finetune_epochs": 2,
            **changes,
        }
    )
    return config


@pytest.fixture(scope="module")
def run(data_file, tmp_path_factory):
    """The workdir of a run without constraints, whose weights are averaged."""
    folder = tmp_path_factory.mktemp("run")
    experiment.run_experiment(tiny(data_file, method="nft", selection="average"), folder)
    return folder


@pytest.fixture(scope="module")
def swept(data_file, tmp_path_factory):
    """The workdir of a sweep of two members with constraints and a replay buffer; one diverges."""
    folder = tmp_path_factory.mktemp("sweep")
    axes = {"optimizer.learning_rate": RATES}
    rows = sweep.run_sweep(
        tiny(data_file, **{"dual.rule": "ascent"}), folder, axes, on_progress=lambda line: None
    )
    assert [row["report"] is None for row in rows] == [False, True]
    return folder


def read(path):
    return json.loads(path.read_text())


def reports(run, swept):
    paths = [*run.glob("*/report.json"), *swept.glob("members/*/report.json")]
    assert len(paths) == 2
    return list(map(read, paths))


def test_report(run, swept, data_file):
    both = reports(run, swept)
    assert not check(("The run", "Accuracies and gaps", "Feasibility", "Multipliers"), both)
    for report in both:
        whole = flatten_config(tiny(data_file).to_dict())
        assert flatten_config(report["config"]).keys() == whole.keys()
    assert read(run / "report.json") == both[0]


@pytest.mark.parametrize("kind", ["steps", "epochs"])
def test_metrics(kind, run, swept):
    lines = [
        *(run / "nft-seed0" / "metrics.jsonl").read_text().splitlines(),
        *next(swept.glob("members/*=0.01-*/metrics.jsonl")).read_text().splitlines(),
    ]
    rows = [row for row in map(json.loads, lines) if ("step" in row) == (kind == "steps")]
    assert not check(f"Rows of {kind}", rows)
    assert {row["epoch"] for row in rows} == {0, 1, 2}


def test_predictions(run, swept):
    kinds = {"int64": "i8", "int32": "i4", "bool": "b1", "text": "U"}
    table = {
        row["array"].strip("`").replace("SPLIT", split): row
        for row in output_page.tables()["predictions.npz"]
        for split in output_page.SPLITS
    }
    files = [*run.glob("*/predictions.npz"), *swept.glob("members/*/predictions.npz")]
    assert len(files) == 2
    for file in files:
        report = read(file.parent / "report.json")
        with np.load(file) as arrays:
            assert sorted(arrays) == sorted(table)
            for name, row in table.items():
                kind = kinds[row["type"]]
                assert arrays[name].dtype.kind == kind[0] and kind[1:] in arrays[name].dtype.str
                assert arrays[name].ndim == row["shape"].replace(",)", ")").count(",") + 1
            for split in output_page.SPLITS:
                assert len(arrays[f"{split}_id"]) == report["splits"][split]["n"]
                right = arrays[f"{split}_sparse_correct"]
                assert right.sum() / right.size == report["splits"][split]["sparse_accuracy"]
            assert set(arrays["attribute_of_group"]) == {"group"}
            assert arrays["group_names"].tolist() == ["left", "right", "tiny"]


def test_data(run, swept):
    summary, of_sweep = read(run / "data.json"), read(swept / "data.json")
    assert not check("data.json", [summary])
    check("data.json of a sweep", [of_sweep])
    check("data.json", [of_sweep[0]["summary"]])


def test_config(run, swept, data_file):
    whole = tiny(data_file).to_dict()
    assert read(run / "config.json").keys() == whole.keys() - {"method", "seed", "log"}
    assert read(swept / "config.json").keys() == (
        flatten_config(whole).keys() - {"optimizer.learning_rate", "log"}
    )


def test_sweep_json(swept):
    rows = read(swept / "sweep.json")
    assert not check("sweep.json", [rows])
    assert rows["rows"][0]["report"] == read(next(swept.glob("members/*/report.json")))


def test_sweep_csv(swept):
    lines = list(csv.DictReader(io.StringIO((swept / "sweep.csv").read_text())))
    columns = [entry.path[0] for entry in entries("sweep.csv", "column", separator=None)]
    axis = "optimizer.learning_rate"
    assert sorted(axis if name == "AXIS" else name for name in columns) == sorted(lines[0])
    first, *_, last = lines[0]
    assert (first, last) == (axis, "error")
    assert [line[axis] for line in lines] == ["0.01", "1e+30"]
    filled = {name for name, cell in lines[1].items() if cell}
    assert filled == {axis, "error"} and lines[0]["error"] == ""


def test_failed_json(swept):
    (failed,) = map(read, swept.glob("members/*/failed.json"))
    check("failed.json", [failed])
    assert "last_good" in failed["error"]


@pytest.mark.parametrize("name", ["run", "sweep"])
def test_files(name, request):
    root = request.getfixturevalue({"run": "run", "sweep": "swept"}[name])
    table = entries(f"Files of a {name}", "path", separator=None)
    written = sorted(_files(root, root))
    for path in written:
        known = any(fits((path,), entry.path) for entry in table)
        assert known, f"{path} is not on the page"
    for entry in table:
        if entry.is_always:
            assert any(fits((path,), entry.path) for path in written), entry


def _files(folder, root):
    """Paths from the root of all files; a checkpoint counts as one, and ends in a slash."""
    for path in folder.iterdir():
        name = path.relative_to(root).as_posix()
        if path.is_dir() and ((path / "digest.json").exists() or path.name == "data_cache"):
            yield f"{name}/"
        elif path.is_dir():
            yield from _files(path, root)
        else:
            yield name


def test_checkpoints(run, swept):
    table = {
        (row["folder"], row["array"]) for row in output_page.tables()["Arrays of a checkpoint"]
    }
    paths = [*run.rglob("digest.json"), *swept.rglob("digest.json")]
    digests = {path.parent: read(path) for path in paths}
    check("digest.json", list(digests.values()))
    found = set()
    for folder, digest in digests.items():
        kind = next(
            name for name in CHECKPOINTS if name in folder.relative_to(folder.parents[1]).parts
        )
        found |= {(f"`{kind}/`", f"`{path.split('/')[0]}`") for path in digest["arrays"]}
    empty = {("`dense/`", "`state`")}  # of a perceptron
    assert found == table - empty


def test_the_example_reads_a_network(run, capsys, monkeypatch):
    (code,) = _blocks("python")
    (printed,) = _blocks("text")
    monkeypatch.chdir(run.parent)
    exec(code.replace("runs/digits/ceag-seed0", f"{run.name}/nft-seed0"), {})
    assert capsys.readouterr().out == printed


def _blocks(language):
    _, *pieces = output_page.PAGE.read_text().split(f"```{language}\n")
    return [piece.split("```")[0] for piece in pieces]


def test_a_difference_is_noticed():
    table = "failed.json"
    whole = {"config": {}, "error": "loss is nan"}
    check(table, [whole])
    for wrong, message in (
        ({"config": {}}, "error is missing"),
        ({**whole, "step": 3}, "does not document step"),
        ({**whole, "error": None}, "error is None, not string"),
    ):
        with pytest.raises(AssertionError, match=message):
            check(table, [wrong])
