"""Data of a config: mistakes are found before images are decoded; splits are own or drawn."""

import json

import pytest

from bap_jax import task
from bap_jax.data import image_cache
from bap_jax.errors import UserError
from bap_jax.training import Execution
from tests.data.images import face
from tests.experiment_files import config_of


@pytest.fixture(scope="module")
def made_up_faces(tmp_path_factory):
    """A folder for images, which the first test makes up."""
    return tmp_path_factory.mktemp("faces")


def load_faces(folder, **changes):
    config = config_of("celeba", "smoke")
    config.data.synthetic = 300
    config.update_from_flattened_dict(changes)
    return task.load_task(json.loads(config.to_json()), Execution(data_cache=str(folder)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data.target": "Smilling"}, "unknown target 'Smilling'; known attributes: 5_o_Clock"),
        ({"data.group_by": "Mael"}, "unknown group attribute 'Mael'; known attributes: 5_o_Clock"),
        ({"data.augmentation": "flipp"}, "unknown augmentation 'flipp'"),
        ({"data.test_fraction": 0.2}, "brings its own test split"),
        (
            {"data.validation_fraction": 1.5, "data.redraw": True},
            r"validation fraction must lie in \(0, 1\)",
        ),
        ({"model.name": "vgg"}, "unknown model 'vgg'; known models: mlp"),
        ({"model.depth": 21}, "depth .*6n . 2.*21"),
        ({"model.pretrained": "nowhere.safetensors"}, "nowhere.safetensors"),
    ],
)
def test_mistakes_cost_no_decoding(changes, text, made_up_faces, monkeypatch):
    monkeypatch.setattr(image_cache, "decode_images", lambda *args: pytest.fail("decoded"))
    with pytest.raises(UserError, match=text):
        load_faces(made_up_faces, **changes)


def test_without_a_mistake_images_are_decoded(made_up_faces):
    assert not list(made_up_faces.glob("celeba-*/32/images.bin"))
    loaded = load_faces(made_up_faces)
    assert sum(loaded.summary["splits"].values()) == 300
    assert len(list(made_up_faces.glob("celeba-*/32/images.bin"))) == 1


def load_splits(**changes):
    """Of the digits experiment with some changes."""
    config = config_of("digits")
    config.update_from_flattened_dict(changes)
    return task.load_splits(config.data.to_dict())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data.test_fraction": 0.0}, "no test split of its own; .* config.data.test_fraction=0.2"),
        (
            {"data.validation_fraction": 0.0},
            "no validation split of its own; .* config.data.validation_fraction=0.2",
        ),
        ({"data.synthetic": 300, "data.dir": "faces"}, "would not read those in faces"),
        ({"data.group_by": "digit*shape"}, "unknown group attribute 'shape'; known .*: digit, ink"),
    ],
)
def test_mistakes_in_splits(changes, text):
    with pytest.raises(UserError, match=text):
        load_splits(**changes)


def test_groups_of_the_data_set_are_the_default():
    splits, _, _ = load_splits(**{"data.group_by": ""})
    assert splits.group_names == tuple("0123456789")


class WithOwnSplits:
    """Twenty samples, the last four for test and validation."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        split = {18: "validation", 19: "validation", 16: "test", 17: "test"}.get(i, "train")
        return {"inputs": [float(i)], "label": i % 2, "site": "ab"[i % 2], "split": split}


OWN = {"data.name": f"{__name__}:WithOwnSplits", "data.group_by": "site"}
KEPT = {"data.test_fraction": 0.0, "data.validation_fraction": 0.0}


def test_own_splits_are_kept():
    splits, preprocess, summary = load_splits(**OWN, **KEPT)
    assert preprocess is None and summary["made_up"] is False
    assert summary["splits"] == {"train": 16, "validation": 2, "test": 2}
    assert splits.test.inputs.take([0, 1]).ravel().tolist() == [16, 17]


def test_other_splits_are_drawn_if_asked_for():
    fractions = {"data.test_fraction": 0.5, "data.validation_fraction": 0.4}
    summary = load_splits(**OWN, **fractions, **{"data.redraw": True})[2]
    assert summary["splits"] == {"train": 6, "validation": 4, "test": 10}


@pytest.mark.parametrize("split", ["test", "validation"])
def test_own_splits_are_not_replaced_by_mistake(split):
    text = f"own {split} split: write config.data.{split}_fraction=0 to use it, or .*redraw=True"
    with pytest.raises(UserError, match=text):
        load_splits(**OWN, **KEPT | {f"data.{split}_fraction": 0.5})


def test_skipped_files_are_mentioned_in_errors_that_they_may_explain(tmp_path):
    face(tmp_path, "20_0_0_2017.jpg")
    face(tmp_path, "30_1_0_2017.jpg")
    face(tmp_path, "holiday.jpg")
    changes = {"data.name": "utkface", "data.dir": str(tmp_path), "data.group_by": "race"}
    changes |= {"data.redraw": True}
    with pytest.raises(
        UserError, match="no sample of .* In addition, 1 sample was left out, the first: holiday"
    ):
        load_splits(**changes)
