"""The transformer: its formula, its mask, its groups of channels, and networks with fewer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bap_jax
from bap_jax import models, pipeline, pruning
from bap_jax.errors import UserError
from bap_jax.models.transformer import check_tokens
from bap_jax.training import PruningSettings, Settings
from bap_jax.trees import leaves_by_path
from bap_jax.types import Dataset, group_sizes

OPTIONS = {"vocabulary": 11, "width": 8, "depth": 2, "heads": 2, "expansion": 3}
TOKENS = jnp.asarray(np.random.default_rng(1).integers(0, 11, (5, 6)))


@pytest.fixture(scope="module")
def network():
    """A `Model` and variables without zeros, so that no part of the formula is idle."""
    model = models.build("transformer", 3, **OPTIONS)
    variables = model.init(jax.random.key(0), TOKENS)
    rng = np.random.default_rng(0)

    def moved(leaf):
        return np.asarray(leaf) + 0.3 * rng.normal(size=leaf.shape).astype(np.float32)

    params = jax.tree.map(jnp.asarray, jax.tree.map(moved, variables.params))
    return model, variables._replace(params=params)


@functools.cache
def apply_of(model):
    return jax.jit(
        lambda variables, inputs: model.apply(variables, inputs, train=False, key=None)[0]
    )


def logits(network, inputs):
    model, variables = network
    return np.asarray(apply_of(model)(variables, inputs))


def by_hand(params, tokens):
    """The formula in NumPy, one sample `(length,)`."""
    p = {path: np.asarray(leaf, np.float64) for path, leaf in leaves_by_path(params).items()}

    def normed(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[f"{name}/scale"] + p[f"{name}/bias"]

    def linear(x, name, rule="li,io->lo"):
        return np.einsum(rule, x, p[f"{name}/kernel"]) + p[f"{name}/bias"]

    x = p["embedding/embedding"][np.asarray(tokens)]
    angles = np.arange(len(x))[:, None] / 10000 ** (np.arange(4) / 4)
    x = x + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    for block in ("block_0", "block_1"):
        y = normed(x, f"{block}/attention_norm")
        query, key, value = (
            linear(y, f"{block}/attention/{name}", "li,ihd->lhd")
            for name in ("query", "key", "value")
        )
        scores = np.exp(np.einsum("lhd,mhd->hlm", query, key) / np.sqrt(4))
        scores /= scores.sum(-1, keepdims=True)
        mixed = np.einsum("hlm,mhd->lhd", scores, value)
        x = x + linear(mixed, f"{block}/attention/out", "lhd,hdo->lo")
        hidden = linear(normed(x, f"{block}/hidden_norm"), f"{block}/up")
        x = x + linear(np.maximum(hidden, 0), f"{block}/down")
    return linear(normed(x, "norm").mean(0)[None], "head")[0]


def test_it_computes_its_formula(network):
    expected = [by_hand(network[1].params, tokens) for tokens in TOKENS]
    np.testing.assert_allclose(logits(network, TOKENS), expected, rtol=1e-4, atol=1e-4)


def test_masked_tokens_do_not_count(network):
    mask = jnp.arange(6)[None] < jnp.array([1, 2, 4, 5, 6])[:, None]
    found = logits(network, {"tokens": jnp.where(mask, TOKENS, 0), "mask": mask})
    for i, length in ((0, 1), (2, 4)):
        alone = logits(network, np.asarray(TOKENS)[i : i + 1, :length])
        np.testing.assert_allclose(found[i : i + 1], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits(network, {"tokens": TOKENS}), logits(network, TOKENS))


def test_every_key_draws_other_parameters():
    model = models.build("transformer", 3, **OPTIONS)
    first, again, other = (model.init(jax.random.key(seed), TOKENS).params for seed in (0, 0, 1))
    for path, leaf in leaves_by_path(first).items():
        np.testing.assert_array_equal(leaf, leaves_by_path(again)[path])
        is_drawn = path.endswith(("kernel", "embedding"))
        assert is_drawn != np.array_equal(leaf, leaves_by_path(other)[path])


def test_kernels_are_used_in_their_order(network):
    paths = list(leaves_by_path(network[1].params))
    used = [paths[use.leaf] for use in models.kernel_order(*network, TOKENS)]
    assert [path.removeprefix("block_0/") for path in used[:6]] == [
        *(f"attention/{name}/kernel" for name in ("query", "key", "value", "out")),
        "up/kernel",
        "down/kernel",
    ]
    assert len(used) == 13 and used[-1] == "head/kernel"


def test_a_wrapped_module_has_the_groups_of_the_module(network):
    module = network[0].export(network[1])
    assert models.channel_groups(models.from_nnx(module)[0]) == module.channel_groups()


def test_heads_and_hidden_units_are_its_channels(network):
    groups = {group.name: group for group in models.channel_groups(network[0])}
    assert list(groups) == [f"block_{i}/{kind}" for i in (0, 1) for kind in ("heads", "hidden")]
    sizes = group_sizes(list(groups.values()), leaves_by_path(network[1].params))
    assert sizes == (2, 24, 2, 24)
    pruner = pruning.ChannelPruning(groups=list(groups.values()), sparsity=0.5)
    params, masks = pruner.instant_sparsify(network[1].params)
    kept = np.asarray(masks["block_1"]["attention"]["query"]["kernel"])
    assert kept.mean() == 0.5 and kept.mean((0, 2)).max() == 1  # one whole head
    for part, leaf in (("key", "kernel"), ("value", "kernel"), ("key", "bias"), ("value", "bias")):
        mask = np.asarray(masks["block_1"]["attention"][part][leaf])
        np.testing.assert_array_equal(mask, np.broadcast_to(kept[0, :, :], mask.shape))
    small, variables = models.compact(network[0], None, network[1]._replace(params=params))
    assert variables.params["block_1"]["attention"]["out"]["kernel"].shape == (1, 4, 8)
    assert variables.params["block_1"]["up"]["kernel"].shape == (8, 12)
    expected = logits((network[0], network[1]._replace(params=params)), TOKENS)
    np.testing.assert_allclose(logits((small, variables), TOKENS), expected, rtol=1e-5, atol=1e-5)


def test_a_smaller_network_computes_the_same(network):
    model, variables = network
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.uint8), variables.params)
    for block, kept in (("block_0", [0, 5, 23]), ("block_1", [])):
        for leaf in ("kernel", "bias"):
            masks[block]["up"][leaf][..., np.delete(np.arange(24), kept)] = 0
    for part in ("query", "key", "value"):
        masks["block_0"]["attention"][part]["kernel"][:, 0] = 0
        masks["block_0"]["attention"][part]["bias"][0] = 0
    # A head whose values alone are 0 stays: it is not written by zeros everywhere.
    masks["block_1"]["attention"]["value"]["kernel"][:, 1] = 0
    masked = variables._replace(params=jax.tree.map(jnp.multiply, variables.params, masks))
    small = models.compact(model, masks, variables)
    shapes = {path: leaf.shape for path, leaf in leaves_by_path(small[1].params).items()}
    assert shapes["block_0/up/kernel"] == (8, 3) and shapes["block_1/down/kernel"] == (1, 8)
    assert shapes["block_0/attention/key/kernel"] == (8, 1, 4)
    assert shapes["block_0/attention/out/kernel"] == (1, 4, 8)
    assert shapes["block_1/attention/value/bias"] == (2, 4)
    expected = logits((model, masked), TOKENS)
    np.testing.assert_allclose(logits(small, TOKENS), expected, rtol=1e-5, atol=1e-5)
    module = small[0].export(small[1])
    attention = module.block_0.attention
    assert isinstance(module, nnx.Module) and module.block_0.up.out_features == 3
    assert (attention.num_heads, attention.num_kv_heads, attention.qkv_features) == (1, 1, 4)
    assert attention.value.out_features == (1, 4) and attention.out.in_features == (1, 4)
    np.testing.assert_allclose(jax.jit(module)(TOKENS), expected, rtol=1e-5, atol=1e-5)


def test_a_smaller_network_keeps_precision_and_preprocessing(network):
    def swap(tokens, key, train):
        return 10 - tokens

    low = models.in_precision(network[0], "bfloat16")
    model = models.with_preprocessing(low, swap)
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.uint8), network[1].params)
    for mask in masks["block_0"]["up"].values():
        mask[...] = 0
    masked = network[1]._replace(params=jax.tree.map(jnp.multiply, network[1].params, masks))
    small, variables = models.compact(model, masks, network[1])
    assert (small.precision, small.preprocess) == ("bfloat16", swap)
    expected = logits((model, masked), TOKENS)
    np.testing.assert_allclose(logits((small, variables), TOKENS), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (jnp.zeros((2, 6)), "takes integer tokens .*; got float32 of shape"),
        (jnp.zeros((2, 6, 3), int), r"got int32 of shape \(2, 6, 3\)"),
        ({"words": TOKENS}, "got a mapping with words"),
        ({"tokens": TOKENS, "mask": jnp.ones((5, 7))}, r"got a mask of shape \(5, 7\), tokens"),
    ],
)
def test_inputs_that_are_not_tokens(network, inputs, text):
    with pytest.raises(UserError, match=text):
        logits(network, inputs)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"heads": 3}, "even and a multiple of its 3 heads; got 8. Write .* model.width="),
        ({"width": 9, "heads": 1}, "even and a multiple of its 1 heads; got 9"),
        ({"depth": 0}, "depth of a transformer must be at least 1; got 0"),
        ({"vocabulary": 0}, "vocabulary of a transformer must be at least 1; got 0"),
    ],
)
def test_impossible_sizes(options, text):
    with pytest.raises(UserError, match=text):
        models.build("transformer", 2, **(OPTIONS | options))


def test_tokens_without_an_embedding(network):
    module = network[0].module
    check_tokens(module, TOKENS)
    check_tokens(models.MLP((3,)), 10 * TOKENS)  # no tokens at all
    with pytest.raises(UserError, match=r"token 11; .*in \[0, 10\]. .*model.vocabulary=12"):
        check_tokens(module, TOKENS.at[3, 3].set(11))
    with pytest.raises(UserError, match="token -1"):
        check_tokens(module, {"tokens": TOKENS.at[0, 0].set(-1)})


def test_two_of_four_inputs_stay_in_every_kernel(network):
    """Along the axes that products sum over: also `head` and `feature` of the kernel `out`."""
    settings = Settings(pruning=PruningSettings(type="nm_2,4", prunable="kernels"))
    prunable = pipeline.find_prunable(*network, TOKENS, settings)
    pruner = pipeline.pruner_from_settings(
        *network, Dataset(TOKENS, np.zeros(5, int), np.zeros((5, 1), int)), settings, 1
    )
    masks = pruner.updater.instant_sparsify(network[1].params)[1]
    found = {path: np.asarray(mask) for path, mask in leaves_by_path(masks).items()}
    flags = leaves_by_path(prunable)
    assert sum(flags.values()) == len(found) == 13
    for path, mask in found.items():
        num_inputs = 2 if path.endswith("out/kernel") else 1
        columns = mask.reshape(np.prod(mask.shape[:num_inputs]), -1)
        assert (columns.reshape(-1, 4, columns.shape[1]).sum(1) == 2).all(), path


@pytest.mark.smoke
def test_texts_of_different_lengths_are_pruned_under_a_constraint():
    rng = np.random.default_rng(0)
    mask = np.arange(6)[None] < rng.integers(2, 7, 96)[:, None]
    tokens = np.where(mask, rng.integers(1, 11, (96, 6)), 0)
    labels = (tokens == 3).any(1).astype(int)
    module = models.Transformer(2, 11, width=4, depth=1, heads=2, rngs=nnx.Rngs(0))
    result = bap_jax.prune_and_tune(
        module,
        {"tokens": tokens, "mask": mask},
        labels,
        np.where(mask.sum(1) > 4, "long", "short"),
        test_indices=range(0, 96, 4),
        validation_fraction=0.2,
        method="ceag",
        pruning=PruningSettings(sparsity=0.5, epochs=1, prunable="kernels"),
        finetune_epochs=1,
        batch_size=32,
    )
    kernel = np.asarray(result.pruned.block_0.up.kernel[...])
    assert (kernel == 0).mean() == 0.5
    assert {row["name"] for row in result.report["splits"]["test"]["groups"]} == {"long", "short"}
