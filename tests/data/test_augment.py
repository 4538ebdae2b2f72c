"""A user's own augmentation: checked before training, applied in training alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import data, models
from bap_jax.data.augment import check_augment, with_augment
from bap_jax.errors import UserError
from bap_jax.types import Variables

TREE = {"ids": np.zeros((10, 5), np.int64), "age": np.zeros((10, 3))}
PIXELS = np.zeros((10, 8, 8, 3), np.uint8)
PAIR = (np.zeros((10, 3), np.float32), np.zeros((10, 3), np.float32))


def noise(key, inputs):
    return {**inputs, "age": inputs["age"] + jax.random.normal(key, inputs["age"].shape)}


@pytest.mark.parametrize(
    ("augment", "inputs"),
    [
        (lambda key, inputs: inputs, TREE),
        (lambda key, inputs: -inputs, PAIR[0]),
        (noise, TREE),
        (lambda key, inputs: jax.nn.relu(jax.nn.silu(inputs)), PAIR[0]),
        (data.AUGMENTATIONS["crop_flip"], PIXELS),
        (noise, data.Records.of_samples(lambda i: {"ids": np.ones(5, int), "age": np.ones(3)}, 4)),
    ],
)
def test_suitable_functions(augment, inputs):
    check_augment(augment, inputs, 4)


@pytest.mark.parametrize(
    ("augment", "inputs", "text"),
    [
        (3, PIXELS, r"a function \(key, inputs\) -> inputs; got 3"),
        (
            lambda key, x: x / 2,
            PIXELS,
            r"expected shape \(4, 8, .* type uint8; got .*float32",
        ),
        (lambda key, x: x[:, ::2], PIXELS, r"got shape \(4, 4, 8, 3\)"),
        (lambda key, x: x[:1], PIXELS, r"got shape \(1, 8, 8, 3\)"),
        (lambda key, x: None, PIXELS, "got no array"),
        (lambda key, x: x["age"], TREE, r"expected inputs\['age'\] \(4, 3\) float32, .* got shape"),
        (lambda key, x: {"age": x["age"]}, TREE, r"; got inputs\['age'\] \(4, 3\) float32\."),
        (
            lambda key, x: x | {"ids": x["ids"] * 1.0},
            TREE,
            r"got .*inputs\['ids'\] \(4, 5\) fl",
        ),
        (
            lambda key, x: list(x),
            PAIR,
            r"expected PyTreeDef\(\(\*, \*\)\); got Py",
        ),
        (lambda x: x, PIXELS, "raised TypeError: .* takes 1 positional argument but 2"),
        (lambda key, x: np.flip(np.asarray(x)), PIXELS, "raised TracerArrayConversionError"),
        (
            lambda key, x: x if jax.random.uniform(key) < 0.5 else -x,
            PAIR[0],
            "raised TracerBoolConversionError: .* Write it with jax.numpy and jax.random",
        ),
        (lambda x, key: x + 1, PIXELS, r"called as augment\(key, inputs\) with a batch of shape"),
        (lambda key, x: x + np.random.normal(), PAIR[0], "draw random numbers from `key`"),
        (
            lambda key, x: x + np.random.normal(size=x.shape).astype("float32"),
            PAIR[0],
            "draw random numbers from `key`, by jax.random, not by NumPy",
        ),
    ],
)
def test_functions_that_cannot_serve(augment, inputs, text):
    with pytest.raises(UserError, match=text):
        check_augment(augment, inputs, 4)


def seen_by(model, inputs, **mode):
    return model.apply(Variables({}, {}), inputs, **mode)[0]


def test_only_training_augments():
    identity = models.Model(
        lambda key, inputs: Variables({}, {}), lambda v, inputs, *, train, key: (inputs, v.state)
    )
    model = models.with_preprocessing(identity, with_augment(noise))
    inputs = {"ids": jnp.ones((4, 5), jnp.int32), "age": jnp.zeros((4, 3))}
    one, same, other = (
        seen_by(model, inputs, train=True, key=jax.random.key(i)) for i in (0, 0, 1)
    )
    assert (one["age"] == same["age"]).all() and (one["age"] != other["age"]).all()
    np.testing.assert_array_equal(one["ids"], inputs["ids"])
    for mode in ({"train": False, "key": None}, {"train": False, "key": jax.random.key(0)}):
        jax.tree.map(np.testing.assert_array_equal, seen_by(model, inputs, **mode), inputs)


def test_stored_pixels_are_augmented_before_they_are_scaled():
    scaled = data.image_preprocess(0.5, 0.5)
    preprocess = with_augment(lambda key, pixels: 255 - pixels, scaled)
    pixels = jnp.full((2, 4, 4, 1), 255, jnp.uint8)
    assert preprocess(pixels, jax.random.key(0), True).min() == -1
    assert preprocess(pixels, jax.random.key(0), False).min() == 1
    assert preprocess(pixels, None, True).min() == 1


def negated(key, pixels):
    """A user's function, as `module:function` names it."""
    return 255 - pixels


def halved(key, pixels):
    return pixels / 2


def test_a_function_by_its_name():
    scale = data.PixelScale((0.5,), (0.5,))
    source = data.Source(np.full((3, 4, 4, 1), 255, np.uint8), {}, "", scale=scale)
    preprocess = source.preprocess(f"{__name__}:negated")
    assert preprocess(source.inputs, jax.random.key(0), True).max() == -1
    assert preprocess(source.inputs, jax.random.key(0), False).min() == 1
    unscaled = source._replace(scale=None).preprocess(f"{__name__}:negated")
    assert unscaled(source.inputs, jax.random.key(0), True).max() == 0
    with pytest.raises(UserError, match="augment must return inputs of the structure, shapes"):
        source.preprocess(f"{__name__}:halved")
    with pytest.raises(UserError, match="augmentation 'nowhere:negated': No module"):
        source.preprocess("nowhere:negated")
    with pytest.raises(UserError, match="or 'module:function' for a function"):
        source._replace(scale=None).preprocess("flip")
