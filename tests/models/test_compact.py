"""Smaller networks that compute what the masked ones do."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bap_jax import models
from bap_jax.errors import UserError
from bap_jax.types import ChannelGroup, Variables
from tests.models.smaller import (
    IMAGES,
    apply_masks,
    assert_same,
    both_modes,
    channel_masks,
    dead_at_random,
    drawn,
)

ROWS = jax.random.normal(jax.random.key(2), (5, 6))


def test_an_mlp_by_hand():
    """Of three hidden units the second is masked; the third has no weights, but a bias."""
    module = models.MLP((3, 2))
    params = {
        "dense_0": {"kernel": jnp.array([[1.0, 5.0, 0.0]]), "bias": jnp.array([2.0, 0.0, 7.0])},
        "dense_1": {"kernel": jnp.arange(6.0).reshape(3, 2), "bias": jnp.array([8.0, 9.0])},
    }
    masks = jax.tree.map(lambda leaf: None, params)
    masks["dense_0"]["kernel"] = jnp.array([[1, 0, 1]], jnp.uint8)
    small, variables = models.compact(module, masks, {"params": params})
    assert small == models.MLP((2, 2))
    expected = {
        "dense_0": {"kernel": [[1, 0]], "bias": [2, 7]},
        "dense_1": {"kernel": [[0, 1], [4, 5]], "bias": [8, 9]},
    }
    assert jax.tree.map(np.ndarray.tolist, jax.tree.map(np.asarray, variables["params"])) == (
        expected
    )
    assert set(variables) == {"params"}


def test_a_channel_with_a_masked_bias_is_removed():
    module, masks = models.MLP((3, 2)), {"kernel": None, "bias": None}
    variables = drawn(models.from_linen(module), ROWS)
    masks = {
        "dense_0": {"kernel": jnp.ones((6, 3)).at[:, 1].set(0), "bias": jnp.array([1, 0, 1])},
        "dense_1": masks,
    }
    small, _ = assert_same(models.from_linen(module), variables, masks, ROWS)
    assert small.module == models.MLP((2, 2))


@pytest.mark.parametrize("kept", [(4, 1), (1, 5), (0, 3), (0, 0)])
def test_an_mlp_with_random_dead_channels(kept):
    model = models.build("mlp", 3, hidden=(8, 7))
    variables = drawn(model, ROWS)
    masks = dead_at_random(variables.params, models.channel_groups(model), kept)
    small, _ = assert_same(model, variables, masks, ROWS)
    assert small.module.features == (*np.maximum(kept, 1), 3)


def test_weights_that_are_zero_need_no_mask():
    model = models.build("mlp", 3, hidden=(8, 7))
    variables = drawn(model, ROWS)
    masks = dead_at_random(variables.params, models.channel_groups(model), (3, 4))
    zeros = variables._replace(params=apply_masks(variables.params, masks))
    one, other = models.compact(model, masks, variables), models.compact(model, None, zeros)
    assert one[0].module == other[0].module
    chex.assert_trees_all_equal(one[1], other[1])


class Images(nn.Module):
    """Convolution, a plain norm, and a dense layer that reads flattened positions."""

    width: int = 4

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(self.width, (3, 3), name="conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        return nn.Dense(3, name="head")(x)

    def channel_groups(self):
        return (
            ChannelGroup(
                "conv",
                producers=("conv/kernel",),
                vectors=("conv/bias", "norm/scale", "norm/bias"),
                states=("batch_stats/norm/mean", "batch_stats/norm/var"),
                consumers=("head/kernel",),
            ),
        )

    def with_channels(self, widths):
        return self.clone(width=widths["conv"])


def test_a_users_own_module_with_flattened_images():
    model = models.from_linen(Images())
    variables = drawn(model, IMAGES)
    masks = channel_masks(variables.params, model.module.channel_groups(), [2])
    small, few = assert_same(model, variables, masks, IMAGES)
    assert small.module == Images(2)
    kernel = variables.params["head"]["kernel"].reshape(16, 4, 3)
    alive = np.flatnonzero(np.asarray(masks["norm"]["bias"]))
    np.testing.assert_array_equal(few.params["head"]["kernel"], kernel[:, alive].reshape(32, 3))
    module, collections = models.compact(Images(), masks, models.linen.join(variables))
    assert module == Images(2) and set(collections) == {"params", "batch_stats"}
    chex.assert_trees_all_equal(collections, models.linen.join(few))


@pytest.mark.parametrize(
    ("masked", "mean", "width"),
    [
        (("conv/kernel",), 0.0, 4),
        (("conv/kernel", "conv/bias"), 0.0, 4),
        (("conv/kernel", "norm/bias"), 0.0, 4),
        (("conv/bias", "norm/bias", "norm/scale"), 0.0, 4),
        (("conv/kernel", "conv/bias", "norm/bias"), 0.5, 4),
        (("conv/kernel", "conv/bias", "norm/bias"), 0.0, 3),
        (("conv/kernel", "conv/bias", "norm/bias", "norm/scale"), 0.5, 3),
    ],
)
def test_after_a_plain_norm_only_channels_without_effect_are_removed(masked, mean, width):
    model = models.from_linen(Images())
    variables = drawn(model, IMAGES)
    variables.state["batch_stats"]["norm"]["mean"] = jnp.array([1.0, 1.0, mean, 1.0])
    masks = {
        layer: {
            name: jnp.ones(leaf.shape, bool).at[..., 2].set(False)
            if f"{layer}/{name}" in masked
            else None
            for name, leaf in leaves.items()
        }
        for layer, leaves in variables.params.items()
    }
    small, _ = assert_same(model, variables, masks, IMAGES)
    assert small.module.width == width


def from_numpy(key, shape, dtype):
    """An initializer that compiles nothing."""
    return jnp.asarray(np.random.default_rng(0).normal(0, 0.4, shape), dtype)


DRAWN = {"kernel_init": from_numpy, "bias_init": from_numpy, "rngs": nnx.Rngs(0)}


class Nnx(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(2, 4, (3, 3), **DRAWN)
        self.norm = nnx.BatchNorm(4, rngs=DRAWN["rngs"])
        self.drop = nnx.Dropout(0.5, rngs=DRAWN["rngs"])
        self.dense = nnx.List([nnx.Linear(256, 6, **DRAWN), nnx.Linear(6, 3, **DRAWN)])

    def __call__(self, x):
        x = self.drop(nnx.relu(self.norm(self.conv(x))).reshape(x.shape[0], -1))
        return self.dense[1](nnx.relu(self.dense[0](x)))


NNX_GROUPS = (
    ChannelGroup(
        "conv",
        ("conv/kernel",),
        ("conv/bias", "norm/scale", "norm/bias"),
        ("norm/mean", "norm/var"),
        ("dense/0/kernel",),
    ),
    ChannelGroup("dense", ("dense/0/kernel",), ("dense/0/bias",), (), ("dense/1/kernel",)),
)


def test_an_nnx_network():
    module = Nnx()
    module.norm.mean[...] = jnp.arange(4.0)
    module.norm.bias[...] = jnp.arange(4.0) + 1
    model, variables = models.from_nnx(module)
    masks = channel_masks(variables.params, NNX_GROUPS, [3, 2])
    small = models.compact(module, masks, groups=NNX_GROUPS)
    masked = variables._replace(params=apply_masks(variables.params, masks))
    trained, few = models.from_nnx(small)
    expected, _ = both_modes(model)(masked, IMAGES)[0]
    (found, _), (noisy, _) = both_modes(trained)(few, IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert noisy.shape == (3, 3)
    assert (small.conv.in_features, small.conv.out_features) == (2, 3)
    assert small.conv.kernel_shape == small.conv.kernel.shape == (3, 3, 2, 3)
    assert small.norm.num_features == 3 and small.norm.mean.shape == (3,)
    assert (small.dense[0].in_features, small.dense[0].out_features) == (192, 2)
    assert (small.dense[1].in_features, small.dense[1].out_features) == (2, 3)
    assert module.conv.kernel.shape == (3, 3, 2, 4) and module.conv.out_features == 4


def test_an_nnx_sequence():
    module = nnx.Sequential(nnx.Linear(6, 5, **DRAWN), nnx.relu, nnx.Linear(5, 3, **DRAWN))
    groups = [ChannelGroup("g", ("layers/0/kernel",), ("layers/0/bias",), (), ("layers/2/kernel",))]
    for leaf in (module.layers[0].kernel, module.layers[0].bias):
        leaf[...] = leaf[...].at[..., jnp.array([0, 3])].set(0)
    expected = module(ROWS)
    small = models.compact(module, None, groups=groups)
    assert (small.layers[0].out_features, small.layers[2].in_features) == (3, 3)
    np.testing.assert_allclose(small(ROWS), expected, rtol=1e-5, atol=1e-6)
    bias = np.asarray(module.layers[2].bias[...])
    small.layers[2].bias[...] = jnp.zeros(3)
    np.testing.assert_array_equal(module.layers[2].bias[...], bias)


class Mixing(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(4, 4, (3, 3), feature_group_count=2, **DRAWN)
        self.dense, self.norm = nnx.Linear(4, 4, **DRAWN), nnx.LayerNorm(4, rngs=DRAWN["rngs"])


MLP = models.MLP((4, 3))
PARAMS = drawn(models.from_linen(MLP), ROWS).params
NONE = jax.tree.map(lambda leaf: None, PARAMS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MLP, NONE), "a Linen module needs its trained variables"),
        ((len, NONE), r"expected a flax\.nnx\.Module, .*; got builtin_function"),
        ((MLP, {"dense_0": None}, {"params": PARAMS}), r"masks must be a tree like the parameters"),
        (
            (MLP, {**NONE, "dense_1": {"bias": None, "kernel": jnp.ones(3)}}, {"params": PARAMS}),
            r"a mask of the parameter's shape; got masks .*\(3,\).* of parameters .*\(4, 3\)",
        ),
        ((nn.Dense(3), None, {"params": {}}), r"Dense does not say .*channel_groups\(self\)"),
        (
            (nn.Dense(3), None, {"params": {}}, []),
            r"Dense cannot be built with fewer .*with_channels\(self, widths\) on the Linen module",
        ),
        (
            (MLP, None, {"params": PARAMS}, [ChannelGroup("g", ("dense_9/kernel",))]),
            r"group 'g' names 'dense_9/kernel', which does not exist; known paths: dense_0/bias",
        ),
        (
            (models.Model(None, None), None, Variables(PARAMS, {})),
            r"has no module .*; pass the Linen module and its variables, or the nnx",
        ),
        ((Mixing(), None), r"Mixing does not say .* or pass groups=\(\.\.\.,\)"),
        (
            (Mixing(), None, None, [ChannelGroup("g", ("conv/kernel",))]),
            r"'conv/kernel' of a Conv, which combines several channels.*leave the group out",
        ),
        (
            (
                Mixing(),
                None,
                None,
                [ChannelGroup("g", ("dense/kernel",), ("norm/bias",))],
            ),
            r"'norm/bias' of a LayerNorm, which combines several channels",
        ),
    ],
)
def test_what_cannot_be_compacted(arguments, message):
    with pytest.raises(UserError, match=message):
        models.compact(*arguments)
