"""Runs from a config: files, caches, the command line, and mistakes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from bap_jax import checkpoint, data, experiment, flags, main, models, reporting, training
from bap_jax.config import check_flags, default_config, to_settings
from bap_jax.data import synthetic
from bap_jax.dense_network import differences, made_of
from bap_jax.errors import UserError
from bap_jax.types import Variables
from tests.audit.page_reader import read as read_page
from tests.commands import error_of, run_command
from tests.models.torch_files import torch_arrays
from tests.reporting.fakes import fake_report

ROOT = Path(__file__).parents[1]
DIGITS = f"--config={ROOT / 'experiments' / 'digits.py'}"
SPLIT_KEYS = {
    "n",
    "dense_accuracy",
    "sparse_accuracy",
    "overall_gap",
    "max_excess_gap",
    "min_excess_gap",
    "pairwise_disparity",
    "groups",
    "verdict",
    "why_not_assessed",
    "harmed",
    "helped",
    "flip_rate",
    "lower",
    "certifiable_tolerance",
    "deciding_group",
    "samples_needed",
    "assessed_max_excess_gap",
    "expected_by_chance",
    "p_value",
    "spread",
    "bayes_max",
}
GROUP_KEYS = {"name", "n", "dense_accuracy", "sparse_accuracy", "gap", "excess_gap"}
GROUP_KEYS |= {"harmed", "helped", "lower", "upper", "shrunken", "verdict"}
FLAGS = [
    "--config.model.hidden=(16,)",
    "--config.dense.epochs=3",
    "--config.pruning.epochs=2",
    "--config.finetune_epochs=2",
    "--config.dual.rule=nu_pi",
    "--config.scheme=extragradient",
]


def tiny(**changes):
    """Digits in a second."""
    config = default_config()
    config.model.hidden = (16,)
    config.dense.epochs = 3
    config.pruning.epochs = 2
    config.finetune_epochs = 2
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir with CEAG's and NFT's run."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    for method in ("ceag", "nft"):
        experiment.run_experiment(tiny(method=method), folder)
    return folder


@pytest.fixture(autouse=True)
def no_figure(workdir, monkeypatch):
    """Drawing takes half the time of a run; `workdir` has its figure."""
    monkeypatch.setattr(reporting, "draw_disparity", lambda *args, **options: None)


def command(*flags, config="experiments/digits.py"):
    return subprocess.run(
        [sys.executable, "-m", "bap_jax.main", f"--config={config}", *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_report_is_whole(workdir):
    report = json.loads((workdir / "ceag-seed0" / "report.json").read_text())
    assert {
        "config",
        "versions",
        "method",
        "seed",
        "tolerance",
        "params_sha256",
        "sparsity",
        "seconds",
        "splits",
        "last",
        "feasibility",
        "multipliers",
        "unconstrained_groups",
    } <= set(report)
    assert set(report["sparsity"]) == {"target", "prunable", "total", "layers"}
    assert report["sparsity"]["prunable"] == pytest.approx(0.95, abs=1e-3)
    assert set(report["last"]) >= {"params_sha256", "sparsity", "splits"}
    for splits in (report["splits"], report["last"]["splits"]):
        assert list(splits) == ["train", "validation", "test"]
        assert sum(split["n"] for split in splits.values()) == 1797
        for split in splits.values():
            assert set(split) == SPLIT_KEYS
            assert all(set(group) == GROUP_KEYS for group in split["groups"])
            gaps = [group["excess_gap"] for group in split["groups"]]
            assert split["max_excess_gap"] == max(gaps)
            assert split["pairwise_disparity"] == max(gaps) - min(gaps)
    assert report["splits"]["test"]["n"] == 540


def test_files_of_the_newest_run_lie_on_top(workdir):
    for name in ("report.json", "metrics.jsonl"):
        assert (workdir / name).read_text() == (workdir / "nft-seed0" / name).read_text()
    assert (workdir / "disparity.png").read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "accuracy"} <= set(rows[0])


def test_the_pruned_network_is_saved(workdir):
    run = workdir / "ceag-seed0"
    report = json.loads((run / "report.json").read_text())
    params = models.build("mlp", 10, hidden=(16,)).init(jax.random.key(1), jnp.zeros((1, 64)))[0]
    masks = {
        name: {"kernel": np.ones(leaf["kernel"].shape, np.uint8), "bias": None}
        for name, leaf in params.items()
    }
    masks["dense_1"]["kernel"] = None  # the last layer stays dense
    like = {"variables": Variables(params, {}), "masks": masks}
    saved = checkpoint.restore(run / "pruned", like)["variables"].params
    assert reporting.tree_sha256(saved) == report["params_sha256"]


def hashes(report):
    return report["params_sha256"], report["last"]["params_sha256"]


def first_hashes(workdir):
    return hashes(json.loads((workdir / "ceag-seed0" / "report.json").read_text()))


def test_same_config_and_seed_give_the_same_hash(workdir, tmp_path):
    afresh = experiment.run_experiment(tiny(), tmp_path / "elsewhere")
    assert hashes(afresh) == first_hashes(workdir)


@pytest.mark.smoke
def test_the_dense_model_is_trained_once(workdir, monkeypatch):
    """Other methods and seeds start from it, and a run that is repeated ends as before."""
    monkeypatch.setattr(
        experiment.pipeline, "train_dense", lambda *args, **options: pytest.fail("trained again")
    )
    expected = first_hashes(workdir)
    assert hashes(experiment.run_experiment(tiny(), workdir)) == expected
    other = hashes(experiment.run_experiment(tiny(method="el", seed=2), workdir))
    assert not set(other) & set(expected)


def test_seeds_differ(workdir):
    other = hashes(experiment.run_experiment(tiny(seed=1), workdir))
    assert not set(other) & set(first_hashes(workdir))


def test_a_damaged_dense_model_is_noticed_and_trained_anew(workdir, tmp_path, caplog):
    shutil.copytree(workdir, tmp_path / "w")
    digest = tmp_path / "w" / "dense" / "digest.json"
    digest.write_text(digest.read_text().replace('"sha256": "', '"sha256": "0'))
    again = experiment.run_experiment(tiny(), tmp_path / "w")
    assert "digest mismatch" in caplog.text
    assert hashes(again) == first_hashes(workdir)


@pytest.mark.smoke
def test_a_dense_model_of_another_network_is_an_error(tmp_path):
    experiment.run_experiment(tiny(**{"model.hidden": (9,)}), tmp_path / "wide")
    experiment.run_experiment(tiny(), tmp_path / "w")
    shutil.rmtree(tmp_path / "w" / "dense")
    shutil.copytree(tmp_path / "wide" / "dense", tmp_path / "w" / "dense")
    with pytest.raises(
        UserError, match="checkpoint .*w/dense does not match this network: params/dense_0/bias is "
    ):
        experiment.run_experiment(tiny(), tmp_path / "w")


def test_a_run_that_diverges_keeps_its_last_good_state(tmp_path):
    config = tiny(**{"optimizer.learning_rate": 1e30, "dense.optimizer.learning_rate": 0.05})
    text = r"is (nan|-?inf) at step \d+ \(epoch 0\).*last_good holds the start"
    with pytest.raises(training.DivergedError, match=text) as caught:
        experiment.run_experiment(config, tmp_path / "w")
    state = caught.value.last_good.state
    like = {"variables": state.variables, "masks": state.masks}
    like["multipliers"] = state.lagrangian.multipliers
    saved = checkpoint.restore(tmp_path / "w" / "ceag-seed0" / "last_good", like)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved["variables"]))
    assert not (tmp_path / "w" / "ceag-seed0" / "report.json").exists()


@pytest.mark.parametrize(
    ("groups", "count"),
    [pytest.param("digit*ink", 20, marks=pytest.mark.slow), ("digit+ink", 12)],
)
def test_several_attributes(groups, count, tmp_path):
    changes = {"data.group_by": groups}
    report = experiment.run_experiment(tiny(**changes), tmp_path / "w")
    found = report["splits"]["test"]["groups"]
    assert len(found) == count == len(report["feasibility"]["constraints"])
    assert ("3*heavy" if "*" in groups else "heavy") in [g["name"] for g in found]


@pytest.mark.parametrize(("method", "says"), [("ceag", True), ("nft", False)])
def test_all_reports_say_how_the_multipliers_behaved(method, says, workdir):
    folder = workdir / f"{method}-seed0"
    report = json.loads((folder / "report.json").read_text())
    page = read_page((folder / "report.html").read_text()).text
    terminal = " ".join(reporting.format_report(report).split())
    if says:
        sentence = report["multipliers"]["sentence"]
        assert sentence.startswith("Multipliers: too few epochs to tell")
        assert len(report["multipliers"]["constraints"]) == 10
        assert sentence in page and terminal.endswith(sentence)
    else:
        assert report["multipliers"] is None
        assert "Multipliers: " not in page and "Multipliers: " not in terminal


@pytest.mark.parametrize("method", [pytest.param("ceag", marks=pytest.mark.slow), "pairwise"])
def test_groups_too_small_are_reported(method, tmp_path):
    config = tiny(**{"constraint.min_group_size": 106, "constraint.buffer_size": 2})
    config.method = method
    report = experiment.run_experiment(config, tmp_path / "w")
    small = report["unconstrained_groups"]
    sizes = {g["name"]: g["n"] for g in report["splits"]["train"]["groups"]}
    assert small == {name: n for name, n in sizes.items() if n < 106} and small
    table = reporting.format_report(report)
    assert "Too small to constrain" in table and "Never observed" not in table
    status = {row["name"]: row["status"] for row in report["feasibility"]["constraints"]}
    assert {name for name, state in status.items() if state == "left out"} >= set(small)
    assert report["feasibility"]["status"] != "not observed"


@pytest.fixture
def trains_no_dense_network(monkeypatch):
    monkeypatch.setattr(
        experiment.pipeline, "train_dense", lambda *args, **options: pytest.fail("trained again")
    )


def test_a_run_with_another_config_has_its_own_folder(workdir, trains_no_dense_network):
    before = (workdir / "ceag-seed0" / "report.json").read_text()
    report = experiment.run_experiment(tiny(**{"pruning.sparsity": 0.9}), workdir)
    assert report["sparsity"]["prunable"] == pytest.approx(0.9, abs=1e-3)
    (folder,) = workdir.glob("ceag-seed0-pruning.sparsity=0.9-*")
    assert json.loads((folder / "report.json").read_text()) == report
    assert json.loads((folder / "config.json").read_text()) == report["config"]
    assert (workdir / "ceag-seed0" / "report.json").read_text() == before
    assert (workdir / "report.json").read_text() == (folder / "report.json").read_text()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dense.epochs": 4}, "config.dense.epochs is 3 in the workdir and 4 now"),
        ({"model.hidden": (9,)}, r"config.model.hidden is \[16\] in the workdir and \[9\] now"),
        ({"precision": "bfloat16"}, "config.precision is float32 in the workdir and bfloat16"),
        ({"data.split_seed": 3}, "it was trained on other samples, another training split or from"),
    ],
)
def test_finished_runs_and_a_new_one_start_from_one_dense_network(
    changes, text, workdir, trains_no_dense_network
):
    with pytest.raises(UserError, match=f"{text}.*Use a separate --workdir"):
        experiment.run_experiment(tiny(**changes), workdir)
    assert not list(workdir.glob(f"*{next(iter(changes))}*"))


@pytest.mark.smoke
def test_a_corrected_command_works_in_the_workdir_of_one_that_failed(tmp_path, monkeypatch):
    """The dense network is kept, and read; another one does not cost it."""
    trained, train = [], experiment.pipeline.train_dense

    def counted(*args, **options):
        trained.append(options["epochs"])
        return train(*args, **options)

    def broken(*args):
        raise UserError("found only now")

    monkeypatch.setattr(experiment.pipeline, "train_dense", counted)
    with monkeypatch.context() as patch, pytest.raises(UserError, match="found only now"):
        patch.setattr(experiment.pipeline, "make_tuner", broken)
        experiment.run_experiment(tiny(tolerance=0.5), tmp_path)
    with monkeypatch.context() as patch, pytest.raises(UserError, match="found only now"):
        patch.setattr(experiment.pipeline, "make_tuner", broken)
        experiment.run_experiment(tiny(**{"dense.epochs": 2}), tmp_path)
    assert trained == [3, 2] and len(list(tmp_path.glob("dense-*/digest.json"))) == 1
    report = experiment.run_experiment(tiny(batch_size=100), tmp_path)
    assert trained == [3, 2]
    assert json.loads((tmp_path / "ceag-seed0" / "report.json").read_text()) == report
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 100
    assert json.loads((tmp_path / "dense.json").read_text())["dense.epochs"] == 3


def test_a_run_leaves_nothing_of_one_that_diverged_in_its_folder(workdir, tmp_path):
    folder = shutil.copytree(workdir / "ceag-seed0", tmp_path / "ceag-seed0")
    (folder / "last_good" / "arrays").mkdir(parents=True)
    experiment._remove_reports([folder])
    left = {path.name for path in folder.iterdir()}
    assert {"config.json", "metrics.jsonl"} <= left
    assert not left & {"report.json", "report.html", "predictions.npz", "pruned", "last_good"}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"pruning.sparsity": 0.5, "method": "nft", "seed": 3, "tolerance": 0.1}, True),
        ({"data.dir": "moved", "data.group_by": "digit*ink", "data.missing": "group"}, True),
        ({"model.depth": 8, "model.width": 4}, True),  # of another network
        ({"model.hidden": (16, 16)}, False),
        ({"data.augmentation": "flip"}, False),
        ({"dense.optimizer.momentum": 0.5}, False),
        ({"precision": "bfloat16"}, False),
        ({"model.name": "resnet"}, False),
    ],
)
def test_what_makes_a_dense_network(changes, same):
    first = made_of(json.loads(tiny().to_json()))
    second = made_of(json.loads(tiny(**changes).to_json()))
    assert bool(differences(first, second)) != same
    assert (first == second) == same


def test_a_workdir_may_hold_other_files(tmp_path):
    (tmp_path / "slurm-1.out").write_text("started")
    (tmp_path / "report.json").write_text("precious")
    with pytest.raises(
        UserError, match="holds report.json, which would be overwritten, and no run"
    ):
        experiment.run_experiment(tiny(), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["report.json", "slurm-1.out"]


def test_a_page_or_a_figure_that_fails_is_a_warning(tmp_path, monkeypatch):
    def fails(*args):
        raise RuntimeError("no such font\nand more")

    monkeypatch.setattr(reporting, "draw_disparity", fails)
    monkeypatch.setattr(reporting, "render_run", fails, raising=False)
    warnings = []
    report = experiment.run_experiment(tiny(method="nft"), tmp_path, on_warning=warnings.append)
    kept = "could not be made, all other results are kept: RuntimeError: no such font"
    assert warnings == [f"report.html {kept}", f"disparity.png {kept}"]
    for folder in (tmp_path, tmp_path / "nft-seed0"):
        assert json.loads((folder / "report.json").read_text()) == report
        assert not (folder / "report.html").exists() and (folder / "metrics.jsonl").exists()
    assert (tmp_path / "nft-seed0" / "predictions.npz").exists()
    assert not list(tmp_path.glob("*disparity*")) and not list(tmp_path.glob(".*"))


def test_a_users_method_by_its_module(tmp_path):
    method = "tests.training.my_methods:floor_constraint"
    report = experiment.run_experiment(tiny(method=method), tmp_path / "w")
    assert report["method"] == method and report["feasibility"]["constraints"]
    saved = tmp_path / "w" / "tests.training.my_methods.floor_constraint-seed0" / "report.json"
    assert json.loads(saved.read_text()) == report


def own_data(tmp_path, count=300):
    """A file with splits of its own, and a config for it."""
    i = np.arange(count)
    inputs = np.random.default_rng(0).normal(size=(count, 8, 8)).astype(np.float32)
    split = np.array(["train", "validation", "test"])[i % 3]
    np.savez(tmp_path / "mine.npz", inputs=inputs, label=i % 2, side=i // 3 % 2, split=split)
    changes = {"data.name": "npz", "data.dir": str(tmp_path / "mine.npz"), "data.group_by": "side"}
    return tiny(**changes, **{"data.test_fraction": 0.0, "data.validation_fraction": 0.0})


def test_parts_of_ones_own_are_kept(tmp_path):
    config = own_data(tmp_path)
    splits = experiment.load_task(json.loads(config.to_json())).splits
    assert [split.size for split in splits[:3]] == [100, 100, 100]
    for split, text in (
        ("test", "brings its own test split"),
        ("validation", "own validation split"),
    ):
        again = config.copy_and_resolve_references()
        again.data[f"{split}_fraction"] = 0.2
        with pytest.raises(UserError, match=f"{text}: write config.data.{split}_fraction=0"):
            experiment.load_task(json.loads(again.to_json()))
        again.data.redraw = True
        again.data.validation_fraction = 0.2  # the file's own may lie in the new test split
        assert experiment.load_task(json.loads(again.to_json())).splits.test.size > 0


@pytest.mark.smoke
def test_other_data_want_another_dense_network(tmp_path):
    config = own_data(tmp_path)
    experiment.run_experiment(config, tmp_path / "w")
    experiment.run_experiment(config, tmp_path / "w")
    own_data(tmp_path, 330)
    with pytest.raises(UserError, match="was trained on other samples, .*Use a separate --workd"):
        experiment.run_experiment(config, tmp_path / "w")


@pytest.mark.smoke
def test_another_pretrained_file_of_that_name_wants_another_dense_network(tmp_path):
    config = own_data(tmp_path)
    config.model.name, config.model.depth, config.model.width = "resnet", 8, 4
    config.model.pretrained = str(tmp_path / "weights.safetensors")
    config.dense.epochs = 0
    inputs = np.random.default_rng(0).integers(0, 255, (300, 8, 8, 3)).astype(np.uint8)
    i = np.arange(300)
    split = np.array(["train", "validation", "test"])[i % 3]
    np.savez(tmp_path / "mine.npz", inputs=inputs, label=i % 2, side=i // 3 % 2, split=split)
    network = models.build("resnet", 2, depth=8, width=4)
    save_file(torch_arrays(network, seed=0), config.model.pretrained)
    report = experiment.run_experiment(config, tmp_path / "w")
    found = models.load_torch(config.model.pretrained, network).variables
    kept = checkpoint.restore(tmp_path / "w" / "dense", found)
    chex.assert_trees_all_equal(kept.params, found.params)
    assert 0 < report["splits"]["train"]["dense_accuracy"] < 1
    save_file(torch_arrays(network, seed=1), config.model.pretrained)
    with pytest.raises(UserError, match="or from another pretrained file"):
        experiment.run_experiment(config, tmp_path / "w")


def test_mistakes_that_files_left_out_may_explain_name_them(tmp_path):
    folder = synthetic.make_folder(
        data.DATASETS["fairface"], data.Request(synthetic=105, cache=tmp_path)
    )
    shutil.rmtree(folder / "val")
    changes = {"data.name": "fairface", "data.dir": str(folder), "data.size": 8}
    changes |= {"data.test_fraction": 0.0, "data.group_by": "race", "model.name": "mlp"}
    with pytest.raises(
        UserError, match="no test split of its own.* 21 samples were left out, the "
    ):
        experiment.run_experiment(tiny(**changes), tmp_path / "w")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"method": "dro"}, "unknown method 'dro'; known: nft, el, ceag"),
        (
            {"method": "el", "scheme": "switching"},
            "does not suit method 'el'; methods it suits: nft, ceag, floor, distillation",
        ),
        ({"method": "pairwise", "dual.rule": "augmented"}, "bound that method 'pairwise' needs"),
        ({"scheme": "gda"}, "unknown scheme 'gda'; known: simultaneous, dual_primal"),
        ({"dual.rule": "pid"}, "unknown dual.rule 'pid'; known: auto, ascent, nu_pi, augm"),
        ({"constraint.estimator": "best"}, "unknown estimator 'best'; known: plain, paired"),
        ({"data.group_by": "digit,ink"}, r"write digit\*ink or digit\+ink"),
        ({"data.target": "race"}, "unknown target 'race'; known attributes: digit, ink"),
        ({"data.augmentation": "flip"}, "augmentation 'flip' is for images stored as uint8"),
        ({"data.synthetic": 300}, "'digits' has no synthetic form"),
        ({"data.name": "utkface"}, "no folder of the data was named: write --data_dir=DIR; expect"),
        ({"model.depth": 0}, "model.depth must be an integer ≥ 1; got 0"),
        ({"pruning.sparsity": 1.5}, r"pruning.sparsity must lie in \[0, 1\)"),
        ({"tolerance": -0.1}, "tolerance must be a number ≥ 0"),
        ({"data.name": "mnist"}, "unknown data set 'mnist'; known data sets: digits"),
        ({"data.group_by": "race"}, "unknown group attribute 'race'; known attributes: digit, ink"),
        ({"data.test_fraction": 1.5}, r"test fraction must lie in \(0, 1\), got 1.5"),
        ({"data.validation_fraction": 0.0}, "'digits' has no validation split of its own"),
        ({"data.test_fraction": 0.0}, "'digits' has no test split of its own"),
        (
            {"dense.epochs": 0, "model.pretrained": "none.pt"},
            "PyTorch weights can be read for ResNet, .* got MLP",
        ),
        (
            {"dense.epochs": 0, "model.pretrained": "x.pt", "model.pretrained_head": "new"},
            "a new head must be trained .* write config.dense.epochs ≥ 1",
        ),
        ({"model.pretrained_head": "0:7"}, "needs a pretrained network; name its file in config.m"),
        (
            {"data.name": "utkface", "data.synthetic": 300, "data.dir": "faces"},
            "synthetic=300 makes images up, and would not read those in faces",
        ),
        ({"model.name": "vgg"}, "unknown model 'vgg'; known models: mlp"),
        ({"model.hidden": (0,)}, "model.hidden must be an integer ≥ 1; got 0"),
        ({"dense.epochs": 0}, "dense.epochs must be an integer ≥ 1; got 0"),
        ({"pruning.prunable": "dense_7/kernel"}, "unknown parameter path 'dense_7/kernel'; known"),
        (
            {"pruning.type": "nm_2,3"},
            r"N:M sparsity with m = 3 along its inputs: 'dense_0/kernel', .* has 64 there",
        ),
        ({"pruning.type": "block_900,900"}, "0 of the 1 blocks of 'dense_0/kernel' would stay"),
        ({"constraint.min_group_size": 5000}, "at least 5000 training samples, and there is none"),
        ({"dual.weight_limit": 0.0}, "dual.weight_limit must be a number > 0; got 0.0"),
    ],
)
def test_mistakes_cost_nothing(changes, text, tmp_path, monkeypatch):
    monkeypatch.setattr(
        experiment.pipeline, "train_dense", lambda *args, **options: pytest.fail("trained")
    )
    with pytest.raises(UserError, match=text):
        experiment.run_experiment(tiny(**changes), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_unknown_keys_in_a_config_file_are_errors():
    config = tiny()
    config.dual.learning_rte = 0.1
    with pytest.raises(
        UserError,
        match="unknown config key config.dual.learning_rte; known keys: "
        "config.dual.bound, config.dual.dampening, .*config.dual.learning_rate",
    ):
        to_settings(config.to_dict())


def test_the_method_of_a_config_is_a_name():
    """Its values are written to JSON."""
    with pytest.raises(UserError, match="config.method must be a name; got .*register_method"):
        experiment.run_experiment(ConfigDict({"method": len}), "w")
    with pytest.raises(UserError, match="config.method must be a name; got None"):
        to_settings({**tiny().to_dict(), "method": None})
    with pytest.raises(TypeError) as error:
        tiny().method = len
    assert "write config.method = 'mine', or" in str(flags._first_mistake(error.value))


@pytest.mark.parametrize("key", ["optimizer.name", "optimizer.schedule", "dual.optimizer"])
def test_the_optimizer_of_a_config_is_a_name(key):
    section, name = key.split(".")
    plain = tiny().to_dict()
    plain[section][name] = len
    with pytest.raises(UserError, match=f"config.{key} must be a name; got .*register_(opt|sched)"):
        to_settings(plain)
    with pytest.raises(TypeError) as error:
        setattr(tiny()[section], name, lambda step: step)
    assert "In a config file call bap_jax.register_" in str(flags._first_mistake(error.value))
    with pytest.raises(TypeError) as error:  # not what it says is a function, but a number
        tiny().data.name = 3
    assert flags._first_mistake(error.value) is None


def test_the_command_prints_its_warnings_after_the_table(tmp_path, monkeypatch, capsys):
    def run(config, workdir, execution, on_warning, **others):
        on_warning("disparity.png could not be made")
        return fake_report()

    monkeypatch.setattr(experiment, "run_experiment", run)
    monkeypatch.setattr(flags, "start", lambda: None)
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    run_command(main.main, DIGITS, f"--workdir={tmp_path}")
    printed = capsys.readouterr().out
    assert "largest excess gap" in printed and "report.html" not in printed  # there is none
    assert printed.endswith("\nwarning: disparity.png could not be made\n")


def test_unknown_flags_are_errors():
    with pytest.raises(UserError, match="config.tolerence; known keys: .*config.tolerance"):
        check_flags([DIGITS, "--config.tolerence=1"])
    with pytest.raises(UserError, match="config.seed.x; known keys: none below it"):
        check_flags(["--config.seed.x", "1"])
    check_flags(["--config.dual.learning_rate=1", "--workdir=w", "config.nonsense"])


def test_missing_flags_are_named():
    folder, config = "--workdir=w", "--config=experiments/digits.py"
    assert error_of(main.main).startswith("error: missing --config and --workdir. For a first run")
    assert error_of(main.main, folder).startswith("error: missing --config. ")
    assert error_of(main.main, config).startswith("error: missing --workdir. ")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--config.dual.learning_rate=0.3"], "dual.learning_rate has no effect: the multipliers"),
        (["--config.method=el", "--config.dual.penalty=2"], "Add --config.dual.rule=augmented"),
        (["--config.dual.rule=ascent", "--config.dual.nu=0.5"], "Add --config.dual.rule=nu_pi"),
    ],
)
def test_what_the_rule_does_not_read_is_a_mistake(flags, text, tmp_path):
    config, folder = f"--config={ROOT}/experiments/digits.py", f"--workdir={tmp_path / 'w'}"
    assert text in error_of(main.main, config, folder, *flags)
    assert not (tmp_path / "w").exists()


@pytest.mark.smoke
@pytest.mark.parametrize("program", ["bap_jax.main", "bap_jax.sweep"])
def test_help_lists_the_flags_of_every_command(program):
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"], capture_output=True, text=True, check=False
    )
    for flag in ("config", "workdir", "data_dir", "devices"):
        assert f"\n  --{flag}: " in done.stdout


def test_no_key_is_an_attribute_of_its_config_dict():
    """Such a key could not be set by a flag: the library would find its own method instead."""

    def check(level):
        for key, value in level.items():
            assert key not in dir(type(level)), key
            if hasattr(value, "items"):
                check(value)

    check(default_config())


@pytest.mark.smoke
def test_command_line(tmp_path):
    done = command(f"--workdir={tmp_path / 'w'}", *FLAGS, "--config.method=nft")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    verdict, table = (
        done.stdout.index(" at ε = 1 point on 540 test"),
        done.stdout.index("NFT, seed"),
    )
    assert verdict < table < done.stdout.index("by chance") < done.stdout.index("report.html")
    assert (tmp_path / "w" / "report.json").exists()
    page, copy = (tmp_path / "w" / name for name in ("nft-seed0/report.html", "report.html"))
    assert page.read_text() == copy.read_text() and "bap_jax.main" in page.read_text()


CONFIG_FILE = """
import bap_jax
from bap_jax import constraints
from bap_jax.config import default_config


def lenient(reference, settings):
    return constraints.worst_group_floor(reference, 2 * settings.tolerance)


def get_config():
    bap_jax.register_method("lenient", lenient)
    config = default_config()
    config.method = METHOD
    return config
"""


@pytest.mark.smoke
def test_a_config_file_brings_a_method(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CONFIG_FILE.replace("METHOD", "'lenient'"))
    done = command(f"--workdir={tmp_path / 'w'}", *FLAGS, config=path)
    assert done.returncode == 0, done.stderr
    assert "LENIENT, seed 0" in done.stdout
    path.write_text(CONFIG_FILE.replace("METHOD", "lenient"))
    done = command(f"--workdir={tmp_path / 'other'}", config=path)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "error: config.method must be a name. In a config file call" in done.stderr


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--config.tolerence=1", "error: unknown config key config.tolerence; known keys: "),
        ("--config.method=dro", "error: unknown method 'dro'; known: nft, el, ceag"),
        ("--config=nowhere.py", "error: --config=nowhere.py: there is no such file"),
        ("--config.tolerance=much", "could not convert string to float"),
    ],
)
def test_command_line_mistakes_have_no_traceback(flag, text, tmp_path):
    flags = [f"--workdir={tmp_path / 'w'}", flag]
    if not flag.startswith("--config="):
        flags.insert(0, DIGITS)
    assert text in error_of(main.main, *flags)
    assert not (tmp_path / "w").exists()


def test_a_mistake_is_one_line_and_exit_code_1(tmp_path):
    done = command(f"--workdir={tmp_path / 'w'}", "--config.method=dro")
    assert done.returncode == 1 and not (tmp_path / "w").exists()
    assert done.stderr.startswith("error: unknown method 'dro'; known: nft, el, ceag")
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""
