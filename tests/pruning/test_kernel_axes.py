"""Units of pruning along the inputs and outputs of a kernel, and layers that are ranked apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning.layers import join_layers, split_layers
from bap_jax.pruning.sparsity_types import Block, Channel, NByM

X = jnp.ones((2, 3, 8))
IMAGE = jnp.ones((2, 6, 6, 4))
IDS = jnp.ones((2, 3), int)


def linen_axes(module, *inputs):
    """The axes `(inputs, outputs, stacked)` of the kernels of a Linen module, by path."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    params = variables["params"]

    def apply(params, *inputs):
        return module.apply({**variables, "params": params}, *inputs)

    return as_tuples(pruning.kernel_axes(apply, params, *inputs))


def as_tuples(axes):
    return {path: tuple(own) for path, own in axes.items()}


def nnx_axes(module, *inputs, call=lambda module, *inputs: module(*inputs)):
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def apply(params, *inputs):
        return call(nnx.merge(graph, params, rest), *inputs)

    return as_tuples(pruning.kernel_axes(apply, params, *inputs))


@pytest.mark.parametrize(
    ("module", "inputs", "expected"),
    [
        (nn.Dense(3), X, ((0,), (1,), ())),
        (nn.DenseGeneral((2, 5)), X, ((0,), (1, 2), ())),
        (nn.DenseGeneral(5, axis=(-2, -1)), X, ((0, 1), (2,), ())),
        (nn.DenseGeneral(5, batch_dims=(0,)), X, ((1,), (2,), (0,))),
        (nn.Einsum((8, 2, 4), "bsd,dhk->bshk"), X, ((0,), (1, 2), ())),
        (nn.Einsum((5, 8), "bsd,kd->bsk"), X, ((1,), (0,), ())),
        (nn.Conv(6, (3, 3)), IMAGE, ((2,), (3,), ())),
        (nn.Conv(6, (3,)), X, ((1,), (2,), ())),
        (nn.Conv(6, (3, 3), feature_group_count=2), IMAGE, ((2,), (3,), ())),
        (nn.Conv(8, (3, 3), feature_group_count=4), IMAGE, ((2,), (3,), ())),
        (nn.ConvTranspose(6, (3, 3)), IMAGE, ((2,), (3,), ())),
        (nn.ConvTranspose(6, (3, 3), transpose_kernel=True), IMAGE, ((3,), (2,), ())),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_axes_of_a_layer(module, inputs, expected):
    assert linen_axes(module, inputs) == {"kernel": expected}


def test_axes_of_attention():
    found = linen_axes(nn.MultiHeadDotProductAttention(num_heads=2), X, X)
    inner = dict.fromkeys(("query/kernel", "key/kernel", "value/kernel"), ((0,), (1, 2), ()))
    assert found == inner | {"out/kernel": ((0, 1), (2,), ())}


def test_an_embedding_counts_by_its_product_and_not_by_its_lookup():
    class Tied(nnx.Module):
        def __init__(self):
            self.tokens = nnx.Embed(16, 8, rngs=nnx.Rngs(0))
            self.places = nnx.Embed(3, 8, rngs=nnx.Rngs(0))

        def __call__(self, ids):
            return self.tokens.attend(self.tokens(ids) + self.places(ids))

    assert nnx_axes(Tied(), IDS) == {"tokens/embedding": ((1,), (0,), ())}


class Cell(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.MultiHeadDotProductAttention(num_heads=2)(nn.Dense(8)(x), x), None


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("wrap", [lambda cell: cell, nn.remat], ids=["plain", "remat"])
def test_layers_of_a_linen_scan(axis, wrap):
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            scan = {"variable_axes": {"params": axis}, "split_rngs": {"params": True}}
            return nn.scan(wrap(Cell), length=5, **scan)()(x, None)[0]

    found = {path.split("/", 1)[1]: own for path, own in linen_axes(Stack(), X).items()}
    other = 1 - axis
    assert found["Dense_0/kernel"] == ((other,), (2,), (axis,))
    assert found["MultiHeadDotProductAttention_0/query/kernel"] == ((other,), (2, 3), (axis,))
    out = found["MultiHeadDotProductAttention_0/out/kernel"]
    assert out == ((1, 2) if axis == 0 else (0, 2), (3,), (axis,))


class Blocks(nnx.Module):
    """Five blocks made by `nnx.vmap`."""

    def __init__(self, rngs):
        @nnx.split_rngs(splits=5)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs):
            return nnx.Sequential(
                nnx.Linear(8, 8, rngs=rngs),
                nnx.Conv(8, 8, (3,), rngs=rngs),
                nnx.LinearGeneral(8, (2, 4), rngs=rngs),
                nnx.LinearGeneral((2, 4), 8, axis=(-2, -1), rngs=rngs),
            )

        self.blocks = make(rngs)


def scanned(module, x):
    return nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(
        x, module.blocks
    )


def on_one_input(module, x):
    return nnx.vmap(lambda block, x: block(x), in_axes=(0, None))(module.blocks, x)


def on_own_inputs(module, x):
    return nnx.vmap(lambda block, x: block(x), in_axes=(0, 0))(module.blocks, jnp.stack([x] * 5))


@pytest.mark.parametrize("call", [scanned, on_one_input, on_own_inputs])
def test_layers_of_nnx(call):
    found = nnx_axes(Blocks(nnx.Rngs(0)), X, call=call)
    assert list(found.values()) == [
        ((1,), (2,), (0,)),
        ((2,), (3,), (0,)),
        ((1,), (2, 3), (0,)),
        ((1, 2), (3,), (0,)),
    ]


@pytest.mark.parametrize(
    "reach",
    [
        lambda w, x: functools.reduce(lambda x, i: x @ w[i], range(5), x),
        lambda w, x: functools.reduce(jnp.matmul, jnp.unstack(w), x),
        lambda w, x: functools.reduce(lambda x, part: x @ part[0], jnp.split(w, 5), x),
        lambda w, x: jax.lax.fori_loop(0, 5, lambda i, x: x @ w[i], x),
        lambda w, x: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0],
        lambda w, x: jax.lax.map(lambda w: x @ w, w),
        lambda w, x: jnp.einsum("ebsi,eio->ebso", jnp.stack([x] * 5), w),
        lambda w, x: jax.lax.scan(lambda x, w: (x @ w / jnp.abs(w).max(), None), x, 2 * w)[0],
    ],
    ids=["index", "unstack", "split", "fori_loop", "scan", "map", "experts", "scaled"],
)
def test_layers_of_a_loop(reach):
    axes = pruning.kernel_axes(reach, jnp.ones((5, 8, 8)), X)
    assert as_tuples(axes) == {"": ((1,), (2,), (0,))}


def test_axes_are_followed_through_reshapes_joins_and_low_rank_products():
    def apply(params, x):
        heads = jnp.einsum("bsd,dhk->bshk", x, params["reshaped"].reshape(8, 3, 4))
        joined = jnp.concatenate([params["left"], params["right"].T], axis=1)
        first, second = jnp.split(params["parted"], 2, axis=1)
        low_rank = params["whole"] + params["a"] @ params["b"]
        return heads.sum() + (x @ joined).sum() + (x @ first @ second).sum() + (x @ low_rank).sum()

    shapes = {"reshaped": (8, 12), "left": (8, 2), "right": (3, 8), "parted": (8, 16)}
    shapes |= {"whole": (8, 8), "a": (8, 2), "b": (2, 8)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    found = as_tuples(pruning.kernel_axes(apply, params, X))
    assert found.pop("a") == ((0,), (), ())
    assert found.pop("right") == ((1,), (0,), ())
    assert found == dict.fromkeys(("reshaped", "left", "parted", "whole"), ((0,), (1,), ()))


def test_a_network_without_kernels():
    with pytest.raises(UserError, match="no matrix product or convolution.*: scale"):
        pruning.kernel_axes(
            lambda params, x: params["scale"] * x, {"scale": jnp.ones((1, 1, 8))}, X
        )


def is_not_bias(key, leaf):
    return leaf.ndim > 1 and key[-1] != "bias"


def at_half(sparsity_type, axes=None, sparsity=0.5, **fields):
    distribution = functools.partial(
        pruning.sparsity_distributions.uniform, sparsity=sparsity, filter_fn=is_not_bias
    )
    options = {"sparsity_type": sparsity_type, "kernel_axes": axes, **fields}
    return pruning.MagnitudePruning(sparsity_distribution_fn=distribution, **options)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def attention(heads=2, dim=4, features=8):
    """Kernels of attention and their axes."""
    module = nn.MultiHeadDotProductAttention(num_heads=heads, qkv_features=heads * dim)
    x = jnp.ones((2, 3, features))
    params = module.init(jax.random.key(0), x, x)["params"]

    def apply(params, x):
        return module.apply({"params": params}, x, x)

    return params, pruning.kernel_axes(apply, params, x)


@pytest.mark.parametrize(("heads", "dim"), [(2, 4), (4, 2)])
def test_n_by_m_on_attention_keeps_two_of_four_inputs(heads, dim):
    params, axes = attention(heads, dim)
    _, masks = at_half(NByM(2, 4), axes).instant_sparsify(params)
    for name in ("query", "key", "value"):
        kept = np.asarray(masks[name]["kernel"]).reshape(2, 4, heads * dim).sum(1)
        np.testing.assert_array_equal(kept, 2)
    kept = np.asarray(masks["out"]["kernel"]).reshape(-1, 4, 8).sum(1)
    np.testing.assert_array_equal(kept, 2)


def test_n_by_m_without_axes_asks_for_them_where_a_shape_does_not_show_them():
    params, _ = attention()
    message = r"key/kernel.*\(8, 2, 4\), hold.*kernel_axes=pruning.kernel_axes\(.*NByM\(2, 4, axis"
    with pytest.raises(UserError, match=message):
        at_half(NByM(2, 4)).instant_sparsify(params)
    _, masks = at_half(NByM(2, 4, axis=0)).instant_sparsify({"query": params["query"]["kernel"]})
    assert np.asarray(masks["query"]).reshape(2, 4, -1).sum(1).tolist() == [[2] * 8] * 2


@pytest.mark.parametrize(
    ("kind", "axis"), [(NByM(2, 4, axis=1), 1), (NByM(1, 4, axis=0), 0), (NByM(2, 3, axis=-1), 2)]
)
def test_an_axis_that_is_named_is_one_of_the_whole_tensor(kind, axis):
    weights, axes = normal(4, 8, 6), {"": STACKED[0]}
    _, mask = at_half(kind, axes).instant_sparsify(weights)
    lines = np.moveaxis(np.asarray(mask), axis, -1).reshape(-1, kind.m)
    np.testing.assert_array_equal(lines.sum(1), kind.n)


def test_a_channel_axis_that_is_named_is_ranked_within_each_layer():
    weights, axes = stacked_weights(0), {"": STACKED[0]}
    for axis, lost in ((1, 4), (-1, 3)):
        _, mask = at_half(Channel(axis), axes).instant_sparsify(weights)
        kept = np.asarray(mask).any(axis=2 if axis == 1 else 1)
        assert (~kept).sum(1).tolist() == [lost] * 4
    _, mask = at_half(Channel(0), axes).instant_sparsify(weights)
    assert np.asarray(mask).any((1, 2)).tolist() == [True, False, True, False]


def test_n_by_m_of_a_kernel_that_no_product_uses():
    params = {"table": normal(8, 8), "kernel": normal(8, 8)}
    axes = pruning.kernel_axes(lambda params, x: x @ params["kernel"], params, X)
    with pytest.raises(UserError, match="no product of the network uses 'table'.*filter_fn"):
        at_half(NByM(2, 4), axes).instant_sparsify(params)


def test_n_by_m_of_a_transposed_kernel():
    weights = normal(3, 3, 5, 8)
    axes = {"": pruning.KernelAxes((3,), (2,))}
    _, mask = at_half(NByM(2, 4), axes).instant_sparsify(weights)
    np.testing.assert_array_equal(np.asarray(mask).reshape(-1, 4).sum(1), 2)


@pytest.mark.parametrize("name", ["query", "out"])
@pytest.mark.parametrize("kind", [Channel(), Block((2, 4))])
def test_channels_and_blocks_of_attention_are_those_of_its_matrix(name, kind):
    params, axes = attention()
    kernel = params[name]["kernel"]
    rows = 8 if name == "query" else 2 * 4
    _, masks = at_half(kind, axes).instant_sparsify({name: {"kernel": kernel}})
    _, expected = at_half(kind).instant_sparsify(kernel.reshape(rows, -1))
    np.testing.assert_array_equal(masks[name]["kernel"], expected.reshape(kernel.shape))


@pytest.mark.parametrize("kind", [NByM(2, 4), Channel(), Block((2, 2))])
@pytest.mark.parametrize("shape", [(8, 6), (3, 8, 6), (3, 3, 8, 6)])
def test_known_axes_change_nothing_where_inputs_and_outputs_come_last(kind, shape):
    weights, axes = normal(*shape), {"": pruning.KernelAxes((len(shape) - 2,), (len(shape) - 1,))}
    kind_without = kind._replace(axis=-2) if isinstance(kind, NByM) else kind
    found = at_half(kind, axes).instant_sparsify(weights)[1]
    np.testing.assert_array_equal(found, at_half(kind_without).instant_sparsify(weights)[1])


STACKED = {0: pruning.KernelAxes((1,), (2,), (0,)), 1: pruning.KernelAxes((0,), (2,), (1,))}
SCALES = jnp.asarray([4.0, 0.01, 1.0, 0.1])


def stacked_weights(axis):
    """Four layers (8, 6) of very different size."""
    return jnp.moveaxis(normal(4, 8, 6) * SCALES[:, None, None], 0, axis)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "kind", [pruning.sparsity_types.Unstructured(), Channel(), Block((2, 2)), NByM(2, 4)]
)
def test_stacked_layers_lose_what_each_would_lose_alone(axis, kind):
    weights = stacked_weights(axis)
    updater = at_half(kind, {"": STACKED[axis]})
    _, masks = updater.instant_sparsify(weights)
    for layer, mask in zip(
        jnp.moveaxis(weights, axis, 0), jnp.moveaxis(masks, axis, 0), strict=True
    ):
        np.testing.assert_array_equal(mask, at_half(kind).instant_sparsify(layer)[1])
        assert (np.asarray(mask) == 0).mean() == 0.5


@pytest.mark.parametrize("counting", ["round", "ceil"])
@pytest.mark.parametrize("kind", ["magnitude", "random", "saliency", "magnitude_ste"])
def test_stacked_layers_are_ranked_apart_while_training(kind, counting):
    schedule = pruning.GradualSchedule(last_epoch=3)
    updater = pruning.ALGORITHM_REGISTRY[kind](
        scheduler=schedule,
        sparsity_distribution_fn=functools.partial(
            pruning.sparsity_distributions.uniform, sparsity=0.8
        ),
        counting=counting,
        kernel_axes={"w": STACKED[0]},
    )
    params = {"w": stacked_weights(0)}
    state = updater.init_state(params)
    for step in range(4):
        state = state._replace(count=jnp.int32(step))
        masks = updater.update_masks(state, params, params)
        removed = (np.asarray(masks["w"]) == 0).sum((1, 2))
        assert len(set(removed.tolist())) == 1
        if not updater.is_straight_through:
            state = state._replace(masks=masks)
    assert removed[0] == {"round": 48 - 10, "ceil": 39}[counting]


@pytest.mark.parametrize("kind", ["set", "rigl"])
def test_stacked_layers_exchange_weights_each_within_itself(kind):
    updater = pruning.ALGORITHM_REGISTRY[kind](
        sparsity_distribution_fn=functools.partial(
            pruning.sparsity_distributions.uniform, sparsity=0.5
        ),
        drop_fraction_fn=lambda step: 0.5,
        kernel_axes={"w": STACKED[0]},
    )
    params = {"w": stacked_weights(0)}
    state = updater.init_state(params)
    masks = [state.masks["w"], updater.update_masks(state, params, params)["w"]]
    for mask in masks:
        assert np.asarray(mask).sum((1, 2)).tolist() == [24] * 4
    dropped = (masks[0] == 1) & (masks[1] == 0)
    assert (np.asarray(dropped).sum((1, 2)) > 0).all()


def test_layers_in_one_global_ranking_are_normalised_apart():
    layers = normal(8, 6), 100 * normal(8, 6, seed=1)
    together = {"w": jnp.stack(layers)}
    options = {"sparsity": 0.5, "kernel_axes": {"w": STACKED[0]}}
    _, masks = pruning.GlobalMagnitudePruning(**options).instant_sparsify(together)
    apart = dict(zip("ab", layers, strict=True))
    _, expected = pruning.GlobalMagnitudePruning(sparsity=0.5).instant_sparsify(apart)
    np.testing.assert_array_equal(masks["w"], jnp.stack(jax.tree.leaves(expected)))


def test_erk_of_stacked_layers_is_that_of_the_single_layers():
    erk = pruning.sparsity_distributions.erk
    layers = {f"layer_{i}": jnp.ones((16, 16)) for i in range(3)} | {"head": jnp.ones((16, 4))}
    stacked = {"layers": jnp.ones((3, 16, 16)), "head": jnp.ones((16, 4))}
    axes = {"layers": STACKED[0], "head": pruning.KernelAxes((0,), (1,))}
    expected, found = erk(layers, 0.9), erk(stacked, 0.9, kernel_axes=axes)
    assert found == {"layers": expected["layer_0"], "head": expected["head"]}
    updater = pruning.MagnitudePruning(
        sparsity_distribution_fn=functools.partial(erk, sparsity=0.9), kernel_axes=axes
    )
    assert updater.init_state(stacked).target_sparsities == found


@pytest.mark.parametrize("stacked", [(), (0,), (1,), (0, 2), (2, 1)])
def test_splitting_and_joining_are_inverse(stacked):
    leaf, axes = normal(2, 3, 4, 5), pruning.KernelAxes((3,), (), stacked)
    layers = split_layers(leaf, axes)
    assert len(layers) == axes.num_layers(leaf.shape)
    assert {layer.shape for layer in layers} == {axes.layer_shape(leaf.shape)}
    np.testing.assert_array_equal(join_layers(layers, leaf.shape, axes), leaf)
