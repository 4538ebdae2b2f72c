"""Runs from configs with a loss and correctness of the user's own, and the files they leave."""

import json

import numpy as np
import pytest

from bap_jax import audit, config, data, experiment, metrics, pipeline
from bap_jax.audit.run_folder import read_run
from bap_jax.audit.several_runs import read_runs
from bap_jax.errors import UserError
from bap_jax.sweep.folder import SweepFolder
from bap_jax.task import load_task
from tests.test_own_criteria import BITS, COUNT, SIDE, X

MODULE = """
import jax.numpy as jnp
import numpy as np
import optax
from bap_jax import data, groups

def source():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 6)).astype(np.float32)
    side = groups.encode(rng.choice(["north", "south"], 240))
    return data.Source(x, {"side": side}, "label", test_indices=np.arange(0, 240, 3),
                       labels=(x[:, :4] > 0).astype(np.float32))

class Rows:
    def __len__(self):
        return 240

    def __getitem__(self, i):
        x = source().inputs[i]
        return {"inputs": x, "label": x[:4] > 0, "side": "ns"[i % 2]}

def loss(logits, labels):
    return optax.sigmoid_binary_cross_entropy(logits, labels).sum(1)

def correct(logits, labels):
    return ((logits > 0) == labels).all(1)
"""


@pytest.fixture
def nothing_is_trained(monkeypatch):
    monkeypatch.setattr(pipeline, "train_dense", lambda *args, **options: pytest.fail("trained"))


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "labels_of_my_own.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "labels_of_my_own"


def config_of(module, loader="source", **changes):
    plain = config.default_config()
    changes = {
        "data.name": f"{module}:{loader}",
        "data.group_by": "side",
        "data.test_fraction": 0.0 if loader == "source" else 0.3,
        "model.hidden": (8, 8),
        "model.num_outputs": 4,
        "dense.epochs": 2,
        "pruning.epochs": 1,
        "pruning.sparsity": 0.5,
        "finetune_epochs": 1,
        "loss": f"{module}:loss",
        "correct": f"{module}:correct",
    } | changes
    plain.update_from_flattened_dict(changes)
    return plain


@pytest.fixture
def finished(own_module, tmp_path):
    report = experiment.run_experiment(config_of(own_module), tmp_path / "run")
    return tmp_path / "run", report


@pytest.mark.smoke
def test_a_run_from_a_config_and_its_files(finished):
    workdir, report = finished
    (folder,) = workdir.glob("ceag-seed0")
    with np.load(folder / "predictions.npz") as arrays:
        assert {"test_dense_correct", "test_sparse_correct", "test_label"} <= set(arrays)
        assert not {"test_dense", "test_sparse"} & set(arrays)
        assert arrays["test_label"].shape == (80, 4)
        accuracy = arrays["test_sparse_correct"].mean()
    assert report["splits"]["test"]["sparse_accuracy"] == pytest.approx(accuracy)
    run = read_run(folder, "test")
    found = audit.compare(*run.samples[:3], tolerance=run.tolerance, min_group_size=2)
    assert found.max_excess_gap == pytest.approx(report["splits"]["test"]["max_excess_gap"])
    runs = read_runs([workdir])
    assert runs.correct["ceag"].shape == (1, 80)
    page = (folder / "report.html").read_text()
    assert "Samples that pruning cost" in page and "predicted" not in page.split("samples")[-1]
    summary = json.loads((workdir / "data.json").read_text())
    assert summary["labels"] == summary["label_by_group"] == []
    # The dense network is trained with the loss: the same run from Python ends the same.
    session = experiment.Session(config.to_plain(config_of("labels_of_my_own")), workdir / "dense")
    assert session.context.criterion.loss.__name__ == "loss"
    assert session.context.dense_means("test").accuracy == pytest.approx(
        report["splits"]["test"]["dense_accuracy"]
    )


def test_samples_of_an_object_have_labels_of_any_shape(own_module):
    task = load_task(config.to_plain(config_of(own_module, "Rows")))
    assert task.splits.train.labels.shape[1:] == (4,)
    assert task.splits.num_classes is None


def test_arrays_in_a_file_have_labels_of_any_shape(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, inputs=X, label=BITS, side=SIDE)
    source = data.load("npz", data.Request(dir=str(path)))
    samples, names = source.grouped_by("side")
    np.testing.assert_array_equal(samples.labels, BITS)
    assert names == ("north", "south")
    half = source.take(np.arange(0, COUNT, 2)).grouped_by("side")[0]
    np.testing.assert_array_equal(half.labels, BITS[::2])
    np.savez(path, inputs=X, label=BITS[1:], side=SIDE)
    with pytest.raises(UserError, match="column 'label' has shape"):
        data.load("npz", data.Request(dir=str(path)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"correct": "labels_of_my_own:gone"}, "has no attribute 'gone'"),
        ({"model.num_outputs": 0}, "config.model.num_outputs=N"),
        ({"model.num_outputs": 3}, "loss cannot be called with logits and labels of shapes"),
        ({"model.num_outputs": -1}, "model.num_outputs must be an integer ≥ 0"),
        (
            {"loss": "classification", "correct": ""},
            "are no class ids.*config.loss=",
        ),
        ({"method": "distillation"}, "divergence="),
    ],
)
@pytest.mark.usefixtures("nothing_is_trained")
def test_mistakes_in_a_config_are_found_before_anything_is_trained(
    own_module, tmp_path, changes, text
):
    with pytest.raises(UserError, match=text):
        experiment.run_experiment(config_of(own_module, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "dense").exists()


@pytest.mark.smoke
def test_class_ids_of_a_data_set_and_another_measure():
    plain = config.default_config()
    plain.correct = "top_3"
    task = load_task(config.to_plain(plain))
    assert task.criterion.loss is metrics.cross_entropy and not task.criterion.has_classes
    assert task.splits.num_classes == 10 and len(task.summary["labels"]) == 10
    plain.correct = "top_10"
    with pytest.raises(UserError, match="with 10 classes every sample would be right"):
        load_task(config.to_plain(plain))
    plain.correct, plain.loss = "", "ordinal"
    plain.model.num_outputs = 9
    assert load_task(config.to_plain(plain)).criterion is metrics.ORDINAL
    plain.loss = "classification"
    with pytest.raises(UserError, match="9 logits for 10 classes"):
        load_task(config.to_plain(plain))


def test_each_loss_of_a_sweep_has_its_own_dense_network(tmp_path):
    plain = config.to_plain(config.default_config())
    folders = [SweepFolder(tmp_path).dense(plain | change) for change in ({}, {"loss": "top_5"})]
    assert folders[0] != folders[1]
    assert folders[0] == SweepFolder(tmp_path).dense(plain | {"correct": "top_5"})
