"""Images are packed into a file that is read without pickle, each with a small loss of its own."""

import importlib

import numpy as np
import pytest


@pytest.fixture
def pack_images():
    return importlib.import_module("pack_images")


def smooth_images(count, seed=0):
    """Images of slow waves, each with its own colours, and a little noise."""
    rng = np.random.default_rng(seed)
    places = np.linspace(0, 6, 32)
    waves = np.sin(places[:, None, None] + rng.uniform(0, 6, (count, 1, 1, 3)))
    waves = waves + np.cos(places[None, :, None] * rng.uniform(0, 1, (count, 1, 1, 3)))
    noise = rng.normal(0, 5, (count, 32, 32, 3))
    return np.clip(128 + 50 * waves + noise, 0, 255).astype(np.uint8)


def test_images_come_back_with_a_small_loss(tmp_path, pack_images):
    """More than a mosaic, and a last one that is not full."""
    arrays = {
        "x_train": smooth_images(1003),
        "x_test": smooth_images(7, 1),
        "y_train": np.arange(1003),
        "names": np.array(["a", "b"]),
    }
    np.savez(tmp_path / "packed.npz", **pack_images.pack(arrays))
    size = (tmp_path / "packed.npz").stat().st_size
    assert size < 0.5 * arrays["x_train"].nbytes
    found = pack_images.read_arrays(tmp_path / "packed.npz")
    assert found.keys() == arrays.keys()
    for name in ("y_train", "names"):
        np.testing.assert_array_equal(found[name], arrays[name])
    for name in ("x_train", "x_test"):
        assert found[name].shape == arrays[name].shape and found[name].dtype == np.uint8
        assert pack_images.peak_signal_to_noise(arrays[name], found[name]) > 42
        difference = np.abs(found[name].astype(int) - arrays[name])
        assert difference.max() < 20


def test_images_do_not_change_their_neighbours(pack_images):
    images = smooth_images(60)
    changed = images.copy()
    changed[7] = 255 - changed[7]
    one, other = (pack_images.unpack(pack_images.pack({"x": x}))["x"] for x in (images, changed))
    assert np.flatnonzero((one != other).any((1, 2, 3))).tolist() == [7]


def test_an_ordinary_file_is_read_as_it_is(tmp_path, pack_images):
    np.savez(tmp_path / "cifar100.npz", x_train=smooth_images(3), y_train=np.arange(3))
    found = pack_images.read_arrays(tmp_path / "cifar100.npz")
    np.testing.assert_array_equal(found["x_train"], smooth_images(3))
    assert set(found) == {"x_train", "y_train"}


def test_noise_is_measured_in_decibels(pack_images):
    """An error of one in every pixel is 20 log₁₀ 255 dB."""
    black = np.zeros((1, 8, 8, 3), np.uint8)
    assert pack_images.peak_signal_to_noise(black, black + 1) == pytest.approx(48.13, abs=0.005)
    assert pack_images.peak_signal_to_noise(black, black) == np.inf


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"y": np.arange(3)}, "no array of uint8 images"),
        ({"x": np.zeros((2, 30, 32, 3), np.uint8)}, "multiples of 8"),
        ({"x": np.zeros((2, 32, 32, 1), np.uint8)}, r"expected \(image, height, width, 3\)"),
    ],
)
def test_what_cannot_be_packed_is_named(pack_images, arrays, text):
    with pytest.raises(ValueError, match=text):
        pack_images.pack(arrays)


def test_a_file_that_is_not_complete_is_named(tmp_path, pack_images):
    np.savez(tmp_path / "cut.npz", **pack_images.pack({"x": smooth_images(9)}))
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is not a complete array file"):
        pack_images.read_arrays(tmp_path / "cut.npz")


def test_the_archive_of_the_data_set_can_be_packed(tmp_path, pack_images):
    """The binary files: a byte for each kind of class, then the pixels channel by channel."""
    rng, names = np.random.default_rng(0), ("train", "test")
    pixels = {name: rng.integers(0, 256, (30, 3, 32, 32)).astype(np.uint8) for name in names}
    for name in names:
        classes = np.stack([np.arange(30) % 20, np.arange(30)], 1).astype(np.uint8)
        records = np.concatenate([classes, pixels[name].reshape(30, -1)], 1)
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    arrays = pack_images.from_folder(tmp_path)
    for name in names:
        np.testing.assert_array_equal(arrays[f"x_{name}"], pixels[name].transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(arrays[f"y_{name}"], np.arange(30))
        np.testing.assert_array_equal(arrays[f"y_{name}_coarse"], np.arange(30) % 20)
    assert len(arrays["fine_label_names"]) == 100
