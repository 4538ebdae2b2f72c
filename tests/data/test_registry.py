"""Data sets by name: the shipped ones, a user's own, and options that a data set does not take."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bap_jax import data, groups
from bap_jax.data.images import encode_jpeg
from bap_jax.data.registry import find_dataset
from bap_jax.errors import UserError
from tests.experiment_files import NAMES, ROOT, config_of


@pytest.fixture(autouse=True)
def datasets(monkeypatch):
    """A copy of the registry, for one test."""
    copy = dict(data.DATASETS)
    monkeypatch.setattr("bap_jax.data.registry.DATASETS", copy)
    return copy


def load_coins(request):
    sides = groups.encode(["heads", "tails"] * 10)
    return data.Source(np.ones((20, 4), np.float32), {"side": sides}, "side")


COINS = data.DatasetSpec("coins", load=load_coins, group_by="side", takes_size=False)


def test_a_users_data_set_is_loaded_by_its_name():
    with pytest.raises(UserError, match="unknown data set 'coins'"):
        data.load("coins")
    data.register_dataset(COINS)
    assert data.load("coins").labelled()[1] == ("heads", "tails")
    with pytest.raises(UserError, match="known data sets: digits, .*, images, coins; or write"):
        data.load("dice")


def test_a_spec_can_be_named_by_its_module():
    name = f"{__name__}:COINS"
    assert find_dataset(name) is COINS
    assert len(data.load(name).inputs) == 20


def list_leaves(folder):
    """Files CLASS_CAMERA_NUMBER.jpg."""
    paths = sorted(Path(folder).glob("*.jpg"))
    words = [path.stem.split("_") for path in paths]
    attributes = {
        "health": groups.encode([word[0] for word in words]),
        "camera": groups.encode([word[1] for word in words]),
    }
    splits = np.array([0 if int(word[2]) < 4 else 2 for word in words], np.int8)
    return data.Listing.from_paths(paths, attributes, splits=splits)


def write_leaves(folder, count, rng):
    for i in range(count):
        name = f"{'healthy' if i % 2 else 'sick'}_{'old' if i % 3 else 'new'}_{i // 6}.jpg"
        pixels = rng.integers(0, 256, (12, 10, 3), np.uint8)
        (folder / name).write_bytes(encode_jpeg(pixels))


LEAVES = data.DatasetSpec(
    "leaves",
    list_files=list_leaves,
    target="health",
    group_by="camera",
    scale=data.PixelScale((0.5,) * 3, (0.25,) * 3),
    made_up=data.MadeUpImages(write_leaves, least=30),
)


def test_a_users_images_are_decoded_and_cached(tmp_path):
    data.register_dataset(LEAVES)
    (tmp_path / "leaves").mkdir()
    write_leaves(tmp_path / "leaves", 36, np.random.default_rng(0))
    request = data.Request(str(tmp_path / "leaves"), 8, cache=tmp_path / "cache")
    source = data.load("leaves", request)
    assert source.inputs.shape == (len(list((tmp_path / "leaves").iterdir())), 8, 8, 3)
    assert source.target == "health" and source.scale == LEAVES.scale
    assert len(list((tmp_path / "cache").glob("leaves-*/8/images.bin"))) == 1
    before = source.identity
    written = sorted((tmp_path / "leaves").iterdir())[0]
    written.write_bytes(encode_jpeg(np.zeros((12, 10, 3), np.uint8)))
    assert data.load("leaves", request).identity != before


def test_a_users_made_up_images(tmp_path):
    data.register_dataset(LEAVES)
    source = data.load("leaves", data.Request(size=8, synthetic=30, cache=tmp_path))
    assert source.grouped_by("camera")[1] == ("new", "old")
    with pytest.raises(UserError, match="at least 30 samples of leaves; got 29"):
        data.load("leaves", data.Request(synthetic=29))


def test_registering_again_replaces(datasets):
    """As a cell of a notebook does that is run twice."""
    data.register_dataset(COINS)
    data.register_dataset(dataclasses.replace(COINS, target="other"))
    assert datasets["coins"].target == "other"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            dataclasses.replace(COINS, name="digits"),
            "the library ships a data set 'digits'; choose",
        ),
        (dataclasses.replace(COINS, name="a:b"), "'a:b' contains a colon"),
        (load_coins, "expected a DatasetSpec; got <function load_coins"),
    ],
)
def test_what_cannot_be_registered(spec, text, datasets):
    before = dict(datasets)
    with pytest.raises(UserError, match=text):
        data.register_dataset(spec)
    assert datasets == before


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": "x"}, "data set 'x' must have either list_files, .* or load"),
        ({"name": "x", "list_files": list_leaves, "load": load_coins}, "must have either"),
        ({"name": "", "load": load_coins}, "a data set needs a name"),
        (
            {"name": "x", "load": load_coins, "builder": "module:class"},
            "'x': builder needs list_files",
        ),
    ],
)
def test_mistakes_in_a_spec(fields, text):
    with pytest.raises(UserError, match=text):
        data.DatasetSpec(**fields)


@pytest.mark.parametrize(
    ("name", "request_options", "text"),
    [
        ("digits", {"size": 8}, "inputs of data set 'digits' are not resized; .*data.size=0"),
        ("digits", {"synthetic": 300}, "data set 'digits' has no synthetic form"),
        ("digits", {"dir": "faces"}, "'digits' reads no files of yours; leave --data_dir out"),
        ("npz", {"size": 8}, "inputs of data set 'npz' are not resized"),
        ("npz", {"synthetic": 300}, "data set 'npz' has no synthetic form"),
        ("images", {"synthetic": 300}, "data set 'images' has no synthetic form"),
    ],
)
def test_options_that_a_data_set_does_not_take(name, request_options, text):
    with pytest.raises(UserError, match=text):
        data.load(name, data.Request(**request_options))


def test_every_experiment_file_belongs_to_a_data_set():
    files = {spec.experiment for spec in data.DATASETS.values() if spec.experiment}
    assert files == {f"experiments/{name}.py" for name in NAMES}
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("name", NAMES)
def test_experiment_files_use_the_label_and_groups_of_their_data_set(name):
    config, spec = config_of(name).data, data.DATASETS[name]
    assert config.name == name
    assert config.group_by == spec.group_by
    assert config.target in ("", spec.target) if spec.list_files else config.target == ""
