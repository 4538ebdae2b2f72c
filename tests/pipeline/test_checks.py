"""Mistakes that shapes, settings and group sizes show are found without training anything."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bap_jax
from bap_jax import data, models, pipeline, pruning
from bap_jax.errors import UserError
from bap_jax.pipeline.checks import check_run
from bap_jax.pruning import registry
from bap_jax.training.settings import ConstraintSettings, PruningSettings, Settings
from bap_jax.types import Dataset

SAMPLES = 24


def splits_of(inputs, sizes=(12, 12)):
    """All splits alike; groups `a`, `b`, … of these sizes."""
    ids = np.repeat(np.arange(len(sizes)), sizes)[:, None]
    samples = Dataset(inputs, np.arange(SAMPLES) % 2, ids)
    names = [chr(ord("a") + i) for i in range(len(sizes))]
    return data.Splits(samples, samples, samples, num_classes=2, group_names=names)


IMAGES = splits_of(np.zeros((SAMPLES, 32, 32, 3), np.float32))
VECTORS = splits_of(np.zeros((SAMPLES, 8), np.float32))


@functools.cache
def network(name, **options):
    """A built-in network with arrays of zeros."""
    model = models.build(name, 2, **options)
    inputs = (VECTORS if name == "mlp" else IMAGES).train.inputs[:1]
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return model, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def check(model, variables, splits, settings=None, **chosen):
    pruning_settings = PruningSettings(**{"sparsity": 0.5, "epochs": 2} | chosen)
    settings = dataclasses.replace(settings or Settings(), pruning=pruning_settings)
    check_run(model, variables, splits, settings)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (
            {"type": "nm_2,4"},
            r"'.*/kernel', a tensor of shape \(3, 3, 1, \d+\), has 1 .*not divisible by M = 4.*"
            "pruning.prunable",
        ),
        ({"type": "nm_2,4", "prunable": "nowhere/kernel"}, "unknown parameter path 'nowhere/kern"),
        ({"type": "channel", "sparsity": 0.99}, r"0 of the 32 channels of '.*kernel' would stay"),
        ({"type": "channel_7"}, r"channel axis 7: '.*kernel', a tensor of shape.*no such axis"),
        ({"type": "block_4096,4096"}, r"0 of the 1 blocks of '.*kernel'.*Use smaller blocks"),
        ({"type": "block_4096,4096", "counting": "round"}, "1 of the 1 blocks of '.*kernel'"),
        ({"algorithm": "channels"}, "MobileNetV2 does not say which of its channels belong"),
    ],
)
def test_what_mobilenet_cannot_do(chosen, text):
    with pytest.raises(UserError, match=text):
        check(*network("mobilenet_v2"), IMAGES, **chosen)


def test_what_mobilenet_can_do():
    for chosen in ({}, {"type": "nm_1,1"}, {"type": "channel", "sparsity": 0.5}):
        check(*network("mobilenet_v2"), IMAGES, **chosen)


def test_every_algorithm_passes_where_nothing_is_wrong():
    for algorithm in pruning.algorithm_names():
        check(*network("mlp", hidden=(8, 8)), VECTORS, algorithm=algorithm, prunable="kernels")


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"type": "nm_3,5"}, r"m = 5 along its inputs: 'dense_0/kernel', .*\(8, 6\), has 8"),
        ({"type": "nm_2,4,0"}, "unknown sparsity type"),
        ({"type": "nm_2,4", "prunable": "dense_0/bias"}, "no product of the network uses 'dense_0"),
        ({"type": "block_9,9", "prunable": "dense_0/kernel"}, "0 of the 1 blocks of 'dense_0/ker"),
        ({"algorithm": "set", "type": "nm_2,4"}, "SET exchanges single weights"),
        ({"algorithm": "global_magnitude", "type": "block_2,2"}, "compares single weights"),
        ({"algorithm": "channels", "prunable": "dense_1/bias"}, "no group of channels has only pr"),
    ],
)
def test_what_an_mlp_cannot_do(chosen, text):
    with pytest.raises(UserError, match=text):
        check(*network("mlp", hidden=(6, 8)), VECTORS, **{"prunable": "kernels"} | chosen)


def test_a_criterion_without_masks():
    class Nothing(pruning.FixedMasks):
        needs_data = True

    pruning.register_algorithm("nothing", Nothing)
    try:
        with pytest.raises(UserError, match="'nothing' declares needs_data, but has no make_masks"):
            check(*network("mlp", hidden=(8, 8)), VECTORS, algorithm="nothing", prunable="kernels")
    finally:
        registry.unregister_algorithm("nothing")


@pytest.mark.parametrize("method", ["ceag", "pairwise", "floor", "distillation", "el", "penalty"])
def test_a_method_for_groups_that_are_all_too_small(method):
    splits, parts = splits_of(VECTORS.train.inputs, (12, 12)), network("mlp", hidden=(8, 8))
    constraint = ConstraintSettings(min_group_size=13)
    settings = Settings(method=method, constraint=constraint)
    with pytest.raises(UserError, match="at least 13 training samples.*none: a has 12, b has 12"):
        check(*parts, splits, settings, prunable="kernels")
    check(*parts, splits, Settings(method="nft", constraint=constraint), prunable="kernels")
    check(*parts, splits, Settings(method="group_dro", constraint=constraint), prunable="kernels")
    check(*parts, splits_of(splits.train.inputs, (20, 4)), settings, prunable="kernels")


def test_a_method_that_cannot_be_built():
    parts = network("mlp", hidden=(8, 8))

    def reads_numbers(reference, settings):
        return float(reference.accuracy)

    for build, text in (
        (reads_numbers, "cannot be traced"),
        (lambda *_: 3, "must return a Method"),
    ):
        with pytest.raises(UserError, match=text):
            check(*parts, VECTORS, Settings(method=build), prunable="kernels")


class Attention(nnx.Module):
    """Tokens, attention, mean, logits."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(num_heads=2, in_features=8, decode=False, rngs=rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, ids):
        return self.head(self.attention(self.embed(ids)).mean(1))


def tune(settings, **options):
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, 11, (40, 3)), rng.integers(0, 2, 40)
    groups = np.where(np.arange(40) % 2, "odd", "even")
    return bap_jax.prune_and_tune(
        Attention(nnx.Rngs(0)),
        ids,
        labels,
        groups,
        test_indices=range(8),
        settings=settings,
        **options,
    )


@pytest.mark.smoke
def test_prune_and_tune_finds_the_inputs_of_attention_by_itself():
    chosen = PruningSettings(type="nm_2,4", epochs=1, sparsity=0.5, prunable="kernels")
    settings = Settings(pruning=chosen, finetune_epochs=1, constraint=ConstraintSettings(-1, 1))
    result = tune(settings)
    kept = jax.tree.map(lambda leaf: np.asarray(leaf) != 0, nnx.state(result.pruned, nnx.Param))
    attention = nnx.to_pure_dict(kept)["attention"]
    for name in ("query", "key", "value"):
        counts = attention[name]["kernel"].reshape(2, 4, 8).sum(1)
        np.testing.assert_array_equal(counts, 2)
    np.testing.assert_array_equal(attention["out"]["kernel"].reshape(2, 4, 8).sum(1), 2)


def test_prune_and_tune_names_a_tensor_before_it_evaluates_the_network(monkeypatch):
    monkeypatch.setattr(pipeline, "make_context", lambda *args: pytest.fail("evaluated"))
    chosen = PruningSettings(type="nm_3,6", epochs=1, prunable="kernels")
    with pytest.raises(UserError, match="'attention/(key|query|value)/kernel'.*has 8 there"):
        tune(Settings(pruning=chosen, finetune_epochs=1))


def test_stacked_layers_of_a_network_are_pruned_apart():
    class Stack(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=4)
            @nnx.vmap
            def make(rngs):
                return nnx.Linear(8, 8, rngs=rngs)

            self.layers, self.head = make(rngs), nnx.Linear(8, 2, rngs=rngs)
            scales = jnp.asarray([4.0, 0.01, 1.0, 0.1])[:, None, None]
            self.layers.kernel[...] = self.layers.kernel[...] * scales

        def __call__(self, x):
            scan = nnx.scan(
                lambda x, layer: nnx.relu(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry
            )
            return self.head(scan(x, self.layers))

    model, variables = models.from_nnx(Stack(nnx.Rngs(0)))
    settings = Settings(pruning=PruningSettings(sparsity=0.5, prunable="kernels"))
    pruner = pipeline.pruner_from_settings(model, variables, VECTORS.train, settings, 2)
    _, masks = pruner.updater.instant_sparsify(variables.params)
    removed = (np.asarray(masks["layers"]["kernel"]) == 0).mean((1, 2))
    np.testing.assert_array_equal(removed, 0.5)
