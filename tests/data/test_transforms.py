"""Normalised, flipped and cropped images: closed forms, draws of their own, jit = no jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.data import transforms
from bap_jax.errors import UserError

CROP_FLIP = transforms.AUGMENTATIONS["crop_flip"]


def images(batch=64, height=6, width=5, dtype=np.uint8):
    """Every pixel another value, none 0."""
    flat = 1 + np.arange(height * width * 3) % 250
    one = flat.reshape(height, width, 3)
    return np.broadcast_to(one, (batch, height, width, 3)).astype(dtype)


@pytest.mark.parametrize("mean", [0.5, (0.1, 0.5, 0.9)])
@pytest.mark.parametrize("std", [0.25, (0.1, 0.2, 0.3)])
@pytest.mark.parametrize(("scale", "dtype"), [(255.0, np.uint8), (1.0, np.float32)])
def test_normalisation(mean, std, scale, dtype):
    found = transforms.normalize(mean, std, scale)(images(2, dtype=dtype))
    expected = (images(2).astype(np.float64) / scale - np.array(mean)) / np.array(std)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_normalisation_of_other_ranks():
    found = transforms.normalize(0.5, 0.5)(np.array([[0, 255]], np.uint8))
    np.testing.assert_allclose(found, [[-1, 1]], atol=1e-6)


@pytest.mark.parametrize("changes", [{"std": 0}, {"std": (1, -1, 1)}, {"scale": 0}])
def test_normalisation_divides_by_something_positive(changes):
    with pytest.raises(UserError, match="std and scale must be positive; got std"):
        transforms.normalize(**{"mean": 0.5, "std": 0.5, **changes})


def test_flips_are_mirror_images_of_half_of_them():
    before = images(400)
    after = np.asarray(transforms.random_flip(jax.random.key(0), before))
    same = (after == before).all((1, 2, 3))
    mirrored = (after == before[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def shifted(image, down, right):
    """What the crop shows of an image, written as loops."""
    height, width, _ = image.shape
    out = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            if 0 <= i + down < height and 0 <= j + right < width:
                out[i, j] = image[i + down, j + right]
    return out


@pytest.mark.parametrize("padding", [1, 2])
def test_every_crop_is_a_shift_and_every_shift_occurs(padding):
    before = images(400)
    after = np.asarray(transforms.random_crop(jax.random.key(0), before, padding))
    reach = range(-padding, padding + 1)
    shifts = {(i, j): shifted(before[0], i, j) for i in reach for j in reach}
    found = [[shift for shift, image in shifts.items() if (image == one).all()] for one in after]
    assert all(len(candidates) == 1 for candidates in found)
    counts = {shift: sum(one == [shift] for one in found) for shift in shifts}
    expected = 400 / len(shifts)
    assert all(0.3 * expected < count < 2 * expected for count in counts.values())


def test_no_padding_is_no_crop():
    before = images(3)
    np.testing.assert_array_equal(transforms.random_crop(jax.random.key(0), before, 0), before)


@pytest.mark.parametrize("augment", [transforms.random_flip, transforms.random_crop, CROP_FLIP])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shape_and_type_stay_and_the_key_decides(augment, dtype):
    before = images(64, dtype=dtype)
    one, again, other = (np.asarray(augment(jax.random.key(seed), before)) for seed in (0, 0, 1))
    assert one.shape == before.shape and one.dtype == dtype
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert len({image.tobytes() for image in one}) > 1  # every image its own draw


@pytest.mark.parametrize("augment", [transforms.random_flip, transforms.random_crop, CROP_FLIP])
def test_jit_vmap_and_scan(augment):
    before, keys = jnp.asarray(images(8)), jax.random.split(jax.random.key(0), 3)
    expected = np.stack([augment(key, before) for key in keys])
    found = [
        np.stack([jax.jit(augment)(key, before) for key in keys]),
        jax.vmap(augment, (0, None))(keys, before),
        jax.lax.scan(lambda carry, key: (carry, augment(key, before)), 0, keys)[1],
    ]
    for each in found:
        np.testing.assert_array_equal(each, expected)


def test_crop_and_flip_are_drawn_apart():
    before = images(200)
    after = np.asarray(CROP_FLIP(jax.random.key(0), before))
    reach = range(-4, 5)
    shifts = [shifted(before[0], i, j) for i in reach for j in reach]
    plain = sum(any((image == one).all() for image in shifts) for one in after)
    mirrored = sum(any((image[:, ::-1] == one).all() for image in shifts) for one in after)
    assert plain > 60 and mirrored > 60 and plain + mirrored >= 200


@pytest.mark.parametrize("name", list(transforms.AUGMENTATIONS))
def test_evaluation_and_no_key_augment_nothing(name):
    preprocess = transforms.image_preprocess((0.4, 0.5, 0.6), 0.2, name)
    expected = transforms.normalize((0.4, 0.5, 0.6), 0.2)(images())
    for key, train in ((None, True), (None, False), (jax.random.key(0), False)):
        np.testing.assert_array_equal(preprocess(images(), key, train), expected)
    augmented = preprocess(images(), jax.random.key(0), True)
    assert augmented.dtype == jnp.float32
    assert (np.asarray(augmented) != np.asarray(expected)).any() == (name != "none")


def test_pixels_are_moved_before_they_are_normalised():
    """What comes in from outside is black, and not the mean."""
    preprocess = transforms.image_preprocess(0.5, 0.25, transforms.random_crop)
    found = preprocess(images(), jax.random.key(0), True)
    assert np.isclose(np.asarray(found).min(), -2, atol=1e-6)


def test_unknown_augmentation():
    with pytest.raises(UserError, match="unknown augmentation 'mixup'; known.*none, flip, crop_f"):
        transforms.image_preprocess(0.5, 0.5, "mixup")
