"""Networks with preprocessing: the same function, separate keys, and all else still works."""

import jax
import numpy as np
import pytest
from flax import linen, nnx

from bap_jax import data, models, training
from bap_jax.pipeline import masks_from_data
from bap_jax.training.settings import PruningSettings
from bap_jax.types import Dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)
PREPROCESS = data.image_preprocess((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "crop_flip")


class Noisy(linen.Module):
    """Logits, normalised and dropped at random in training."""

    @linen.compact
    def __call__(self, inputs, train):
        x = linen.Dense(5)(inputs.reshape(len(inputs), -1))
        x = linen.BatchNorm(use_running_average=not train)(x)
        return linen.Dropout(0.5, deterministic=not train)(x)


def build(name, **options):
    bare = models.build(name, 4, **options)
    model = models.with_preprocessing(bare, PREPROCESS)
    return bare, model, model.init(jax.random.key(0), IMAGES[:1])


def test_evaluation_is_the_network_on_preprocessed_inputs():
    bare, model, variables = build("mlp", hidden=(6,))
    inputs = PREPROCESS(IMAGES, None, False)
    jax.tree.map(np.testing.assert_array_equal, variables, bare.init(jax.random.key(0), inputs[:1]))
    expected, _ = bare.apply(variables, inputs, train=False, key=None)
    for key in (None, jax.random.key(1)):
        found, _ = model.apply(variables, IMAGES, train=False, key=key)
        np.testing.assert_array_equal(found, expected)
    assert model.module is bare.module and model.export is bare.export
    assert model.network is bare and bare.network is None


def test_augmentation_in_training_only_with_a_key():
    bare, model, variables = build("mlp", hidden=(6,))
    plain, _ = bare.apply(variables, PREPROCESS(IMAGES, None, False), train=True, key=None)
    unkeyed, _ = model.apply(variables, IMAGES, train=True, key=None)
    np.testing.assert_array_equal(unkeyed, plain)
    one, again, other = (
        model.apply(variables, IMAGES, train=True, key=jax.random.key(seed))[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != plain).any() and (one != other).any()


def test_dropout_has_its_own_key():
    keys = []

    def preprocess(inputs, key, train):
        keys.append(key)
        return PREPROCESS(inputs, None, train)

    bare = models.from_linen(Noisy())
    model = models.with_preprocessing(bare, preprocess)
    variables, key = model.init(jax.random.key(0), IMAGES), jax.random.key(7)
    found, _ = model.apply(variables, IMAGES, train=True, key=key)
    inputs = PREPROCESS(IMAGES, None, True)
    shared = [bare.apply(variables, inputs, train=True, key=k)[0] for k in (key, keys[-1])]
    for same_draw in shared:
        assert ((np.asarray(found) == 0) != (np.asarray(same_draw) == 0)).any()
    assert (np.asarray(found) == 0).any()


def test_jit_is_no_jit_and_the_state_moves():
    model = models.with_preprocessing(models.from_linen(Noisy()), PREPROCESS)
    variables, key = model.init(jax.random.key(0), IMAGES), jax.random.key(0)
    plain = model.apply(variables, IMAGES, train=True, key=key)
    jitted = jax.jit(lambda *a: model.apply(*a, train=True, key=key))(variables, IMAGES)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), jitted, plain)
    moved = [
        (a != b).any()
        for a, b in zip(*map(jax.tree.leaves, (plain[1], variables.state)), strict=True)
    ]
    assert any(moved)


@pytest.mark.parametrize("name", ["mlp", pytest.param("resnet", marks=pytest.mark.slow)])
def test_order_and_cost_are_the_networks(name):
    options = {"hidden": (6, 5)} if name == "mlp" else {"depth": 8, "width": 4}
    bare, model, variables = build(name, **options)
    inputs = PREPROCESS(IMAGES, None, False)
    assert models.kernel_order(model, variables, IMAGES) == models.kernel_order(
        bare, variables, inputs
    )
    assert models.cost(model, variables, IMAGES) == models.cost(bare, variables, inputs)


def test_channels_are_cut_with_the_same_preprocessing():
    _, model, variables = build("mlp", hidden=(6, 5))
    params = jax.tree.map(np.array, variables.params)
    for path in ("kernel", "bias"):
        params["dense_0"][path][..., [1, 4]] = 0
    variables = variables._replace(params=params)
    assert models.channel_groups(model) == models.channel_groups(model.module)
    small, few = models.compact(model, None, variables)
    assert small.module.features == (4, 5, 4) and small.preprocess is PREPROCESS
    expected, found = (
        m.apply(v, IMAGES, train=False, key=None)[0] for m, v in ((model, variables), (small, few))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_nnx_and_its_export():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(8 * 8 * 3, 4, rngs=rngs)

        def __call__(self, inputs):
            return self.layer(inputs.reshape(len(inputs), -1))

    bare, variables = models.from_nnx(Network(nnx.Rngs(0)))
    model = models.with_preprocessing(bare, PREPROCESS)
    found, _ = jax.jit(lambda v, x: model.apply(v, x, train=False, key=None))(variables, IMAGES)
    expected = model.export(variables)(PREPROCESS(IMAGES, None, False))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    adapted, _ = models.adapt(model, variables)
    assert adapted is model


@pytest.mark.parametrize("algorithm", ["snip", "synflow", "fairgrape"])
def test_masks_made_in_advance(algorithm):
    """The same from stored images as from preprocessed ones."""
    bare, model, variables = build("mlp", hidden=(6,))
    labels = np.arange(16, dtype=np.int32) % 4
    stored = data.on_device(Dataset(IMAGES, labels, labels[:, None] % 2))
    ready = stored._replace(inputs=PREPROCESS(stored.inputs, None, False))
    settings = training.Settings(
        batch_size=6, pruning=PruningSettings(algorithm=algorithm, sparsity=0.5)
    )
    prunable = jax.tree.map(lambda leaf: leaf.ndim > 1, variables.params)
    found, expected = (
        masks_from_data.make_masks(m, variables, split, prunable, settings, 2)
        for m, split in ((model, stored), (bare, ready))
    )
    assert found["dense_0"]["kernel"].sum() > 0
    same = jax.tree.map(lambda a, b: (a == b).mean(), found, expected)
    assert min(jax.tree.leaves(same)) > 0.99
