"""What is wrong with a config of images is said before any of them is decoded."""

import json

import pytest

from bap_jax import task
from bap_jax.data import image_cache
from bap_jax.training import Execution
from bap_jax.types import UserError
from tests.experiment_files import config_of


def load(tmp_path, **changes):
    config = config_of("celeba", "smoke")
    config.data.synthetic = 300
    config.update_from_flattened_dict(changes)
    return task.load_task(json.loads(config.to_json()), Execution(data_cache=str(tmp_path)))


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
def test_mistakes_cost_no_decoding(changes, text, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "decoded", lambda *args: pytest.fail("decoded"))
    with pytest.raises(UserError, match=text):
        load(tmp_path, **changes)


def test_without_a_mistake_images_are_decoded(tmp_path):
    found = load(tmp_path)
    assert sum(found.summary["splits"].values()) == 300
    assert len(list(tmp_path.glob("celeba-*/32/images.bin"))) == 1
