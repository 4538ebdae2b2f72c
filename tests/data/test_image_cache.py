"""Images decoded once: caches, whole and damaged, and images that are no images."""

import io
import json
import logging as std_logging

import numpy as np
import pytest
from PIL import Image

from bap_jax import data
from bap_jax.data import image_cache, image_sets
from bap_jax.data.images import decode, encode_jpeg
from bap_jax.errors import UserError
from tests.data.images import COUNTS, face


@pytest.fixture
def odd_images(tmp_path):
    """Grey, CMYK, transparent, truncated and no image at all, beside two whole ones."""
    for i in range(2):
        face(tmp_path, f"{20 + i}_0_{i}_2017.jpg")
    grey = np.full((20, 20), 90, np.uint8)
    Image.fromarray(grey).save(tmp_path / "30_1_0_2017.jpg", "JPEG")
    Image.fromarray(grey).convert("CMYK").save(tmp_path / "31_1_1_2017.jpg", "JPEG")
    whole = face(tmp_path, "40_1_2_2017.jpg", (200, 200)).read_bytes()
    (tmp_path / "40_1_2_2017.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "41_1_3_2017.jpg").write_text("no image")
    return tmp_path


def test_damaged_images_are_listed_and_odd_ones_counted(odd_images, tmp_path):
    found = data.load("utkface", data.Request(str(odd_images), 16, cache=tmp_path / "cache"))
    assert len(found.inputs) == 4 == len(found.labelled()[0])
    assert found.converted == 2
    assert len(found.skipped) == 2
    assert "40_1_2_2017.jpg' cannot be read: " in found.skipped[0]
    assert "truncated" in found.skipped[0] and "41_1_3" in found.skipped[1]
    np.testing.assert_array_equal(found.attributes["race"].ids[:, 0], [0, 1, 0, 1])
    np.testing.assert_allclose(found.inputs.take(range(4)).astype(int), 90, atol=2)


def test_without_a_cache_damaged_images_are_found_before_training_too(odd_images, tmp_path):
    request = data.Request(str(odd_images), 16)
    found = data.load("utkface", request)
    cached = data.load("utkface", request._replace(cache=tmp_path / "cache"))
    assert found.skipped == cached.skipped and found.converted == cached.converted == 2
    np.testing.assert_array_equal(found.digests, cached.digests)
    np.testing.assert_array_equal(found.inputs.take([3]), cached.inputs.take([3]))


def test_a_restored_image_is_back(odd_images, tmp_path):
    request = data.Request(str(odd_images), 16, cache=tmp_path / "cache")
    before = data.load("utkface", request)
    path = odd_images / "40_1_2_2017.jpg"
    size = path.stat().st_size
    content = encode_jpeg(np.full((20, 20, 3), 90, np.uint8))
    path.write_bytes(content + b"\0" * (size - len(content)))
    assert len(data.load("utkface", request).inputs) == len(before.inputs) + 1
    assert path.stat().st_size == size


def test_more_than_eight_bits_are_no_image_and_turned_photos_are_turned(tmp_path):
    deep = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match="more than 8 bits a channel .mode I;16.; save it with 8"):
        decode(str(tmp_path / "deep.png"), "image")
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned to the right
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=turned)
    found = decode(str(tmp_path / "photo.png"), "image").pixels
    assert (
        found.shape == (30, 20, 3) and (found[:, 10:] == 255).all() and (found[:, :10] == 0).all()
    )


def test_a_failing_disk_is_no_damaged_image(tmp_path):
    with pytest.raises(IsADirectoryError):
        decode(str(tmp_path), "image")


def test_images_of_several_sizes_want_a_size(tmp_path):
    face(tmp_path, "20_0_0_2017.jpg")
    face(tmp_path, "21_0_1_2017.jpg", (24, 20))
    with pytest.raises(
        UserError, match=r"has shape \(24, 20, 3\), others \(20, 20, 3\); write conf"
    ):
        data.load("utkface", data.Request(str(tmp_path), cache=tmp_path / "cache"))


def test_no_image_can_be_read(tmp_path):
    for i in range(3):
        (tmp_path / f"2{i}_0_0_2017.jpg").write_text("nothing")
    for request in (data.Request(str(tmp_path)), data.Request(str(tmp_path), 8, cache=tmp_path)):
        with pytest.raises(UserError, match="none of 3 images can be read; the last one"):
            data.load("utkface", request)


def test_the_middle_square_is_cut_out():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    found = decode(buffer.getvalue(), "image", 10)
    assert found.pixels.shape == (10, 10, 3) and found.pixels.min() == 200 and found.mode == "RGB"


def cached(tmp_path, images):
    names = [f"{i}.png" for i in range(len(images))]
    return image_cache.decode_images(lambda i: images[i], names, 0, tmp_path / "cache")


def test_a_damaged_cache_is_made_anew(tmp_path, caplog):
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3)).astype(np.uint8)
    first = cached(tmp_path, images)
    np.testing.assert_array_equal(first.records.take(range(9)), images)
    path = tmp_path / "cache" / "images.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    with caplog.at_level(std_logging.WARNING, logger="absl"):
        second = cached(tmp_path, images)
    assert "is damaged (its images do not match their checksum); decoding again" in caplog.text
    np.testing.assert_array_equal(second.records.take(range(9)), images)


@pytest.mark.parametrize("missing", ["images.bin", "digests.npy", "kept.npy", "cache.json"])
def test_a_cache_that_lacks_a_file_is_made_anew(missing, tmp_path):
    images = np.ones((3, 4, 4, 3), np.uint8)
    cached(tmp_path, images)
    (tmp_path / "cache" / missing).unlink()
    np.testing.assert_array_equal(cached(tmp_path, images).records.take(range(3)), images)


def test_a_full_disk_gets_nothing(folders, tmp_path, monkeypatch, caplog):
    class Full:
        free = 10

    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: Full)
    request = data.Request(str(folders["utkface"]), 8, cache=tmp_path / "cache")
    with caplog.at_level(std_logging.WARNING, logger="absl"):
        found = data.load("utkface", request)
    assert "has no room" in caplog.text and not (tmp_path / "cache").exists()
    assert len(found.inputs) == len(found.digests) == COUNTS["utkface"]
    assert found.inputs.take([2]).std() > 0


def test_other_files_are_another_cache(copied, tmp_path):
    folder = copied("utkface")
    request = data.Request(str(folder), 8, cache=tmp_path / "cache")
    before = data.load("utkface", request)
    face(folder, "33_1_1_99999999999999999.jpg")
    after = data.load("utkface", request)
    assert len(after.inputs) == len(before.inputs) + 1


def test_json_of_the_cache_tells_what_was_left_out(odd_images, tmp_path):
    data.load("utkface", data.Request(str(odd_images), 16, cache=tmp_path / "cache"))
    (path,) = (tmp_path / "cache").rglob("cache.json")
    record = json.loads(path.read_text())
    assert record["samples"] == 6 and record["shape"] == [4, 16, 16, 3]
    assert len(record["skipped"]) == 2


def test_other_pixels_under_the_same_names_are_other_samples(odd_images, tmp_path):
    request = data.Request(str(odd_images), 16, cache=tmp_path / "cache")
    before = data.load("utkface", request)
    assert data.load("utkface", request).identity == before.identity
    face(odd_images, "20_0_0_2017.jpg", (20, 20), colour=200)
    assert data.load("utkface", request).identity != before.identity


def test_pixels_are_not_resized_and_nothing_is_prepared(folders, tmp_path):
    request = data.Request(str(folders["cifar100"]), 64, cache=tmp_path / "cache")
    with pytest.raises(UserError, match=r"shape \(32, 32, 3\); .* Write config.data.size=0"):
        data.load("cifar100", request)
    assert not (tmp_path / "cache").exists()


def test_a_whole_cache_need_not_be_writable(folders, tmp_path, monkeypatch):
    request = data.Request(str(folders["utkface"]), 8, cache=tmp_path)
    before = data.load("utkface", request)

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(image_sets, "locked", refuse)
    assert data.load("utkface", request).identity == before.identity
    with pytest.raises(UserError, match=r"cannot be written: .*Name another one by --data_c"):
        data.load("utkface", request._replace(size=9))


def half_transparent(mode):
    """Red, whose left half is transparent and its stored colour green."""
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:, :10], pixels[:, 10:] = (0, 255, 0, 0), (255, 0, 0, 255)
    if mode == "RGB":  # one colour of the image stands for transparency
        image, options = Image.fromarray(pixels[..., :3]), {"transparency": (0, 255, 0)}
    elif mode == "P":
        image = Image.fromarray((pixels[..., 3] > 0).astype(np.uint8), "L").convert("P")
        image.putpalette([0, 255, 0, 255, 0, 0])
        options = {"transparency": 0}
    elif mode == "LA":
        image, options = Image.fromarray(pixels[..., 2:], "LA"), {}
    else:
        image, options = Image.fromarray(pixels), {}
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_what_is_transparent_is_white(mode):
    found = decode(half_transparent(mode), "image")
    assert (found.pixels[:, :10] == 255).all() and found.mode != "RGB"
    expected = (0, 0, 0) if mode == "LA" else (255, 0, 0)
    assert (found.pixels[:, 10:] == expected).all()
    resized = decode(half_transparent(mode), "image", 10).pixels
    assert (resized[:, :4] == 255).all() and (resized[:, 6:] == expected).all()


def test_half_opaque_pixels_mix_with_white():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 4), (0, 100, 200, 128), np.uint8)).save(buffer, "PNG")
    found = decode(buffer.getvalue(), "image").pixels.astype(int)
    share = 128 / 255
    wanted = [255 - share * (255 - colour) for colour in (0, 100, 200)]
    np.testing.assert_allclose(found[0, 0], wanted, atol=1)


def test_a_cache_that_showed_transparent_colours_is_made_again(odd_images, tmp_path):
    request = data.Request(str(odd_images), 16, cache=tmp_path / "cache")
    first = data.load("utkface", request)
    [record] = (tmp_path / "cache").rglob("cache.json")
    cached = json.loads(record.read_text())
    del cached["transparent"]
    record.write_text(json.dumps(cached))
    assert image_cache.open_cache(record.parent, cached["samples"]) is None
    record.write_text(json.dumps(cached | {"converted": 0}))
    assert image_cache.open_cache(record.parent, cached["samples"]) is not None
    record.write_text(json.dumps(cached))
    again = data.load("utkface", request)
    np.testing.assert_array_equal(again.digests, first.digests)
    assert json.loads(record.read_text())["transparent"] == "white"
