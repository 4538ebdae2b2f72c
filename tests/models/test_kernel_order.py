"""Kernels in the order of their use, whatever they are called."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from bap_jax import models, pipeline, pruning
from bap_jax.training.settings import Settings
from bap_jax.types import Variables

INPUTS = jnp.ones((2, 5))
PARAMS = {"a": jnp.ones((5, 3)), "m": jnp.ones((5,)), "z": jnp.ones((5, 5))}


def paths_in_order(model, variables, inputs):
    paths = pruning.leaf_paths(variables.params)
    return [paths[use.leaf] for use in models.kernel_order(model, variables, inputs)]


def zeros(model, inputs):
    """Variables as `model.init` would shape them."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def order_of(function, params=PARAMS):
    """The order of a network given as `(params, inputs) -> logits`."""
    model = models.Model(
        lambda key, inputs: Variables(params, ()),
        lambda variables, inputs, *, train, key=None: (function(variables.params, inputs), ()),
    )
    return paths_in_order(model, Variables(params, ()), INPUTS)


def order_of_linen(module, inputs=INPUTS):
    model = models.from_linen(module)
    return paths_in_order(model, zeros(model, inputs), inputs)


class Layers(nn.Module):
    """`stem`, `body` and `a_head`, each layer wrapped."""

    wrap: object = staticmethod(lambda layer: layer)

    @nn.compact
    def __call__(self, x):
        layer = self.wrap(nn.Dense)
        x = nn.relu(layer(4, name="stem")(x))
        x = nn.relu(layer(4, name="body")(x))
        return layer(3, name="a_head")(x)


class ConvNet(nn.Module):
    """Two convolutions with a norm, two linear layers; names sort against their use."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), name="z_conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="y_norm")(x))
        x = nn.Conv(4, (3, 3), name="x_conv")(x).reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(6, name="w_dense")(x))
        return nn.Dense(3, name="a_head")(x)


class NnxNet(nnx.Module):
    """`stem` inside a jit, `a_head` inside a jit inside a jit."""

    def __init__(self, rngs):
        self.a_head = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.stem = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, x):
        call = nnx.jit(lambda layer, x: layer(x))
        x = self.norm(call(self.stem, x))
        return nnx.jit(lambda layer, x: call(layer, x))(self.a_head, nnx.relu(x))


def test_a_network_whose_first_layer_sorts_last():
    assert order_of(lambda p, x: x @ p["z"] @ p["a"]) == ["z", "a"]
    assert order_of(lambda p, x: (x @ p["a"]) @ p["a"].T @ p["z"]) == ["a", "z"]


def test_order_of_the_sum_is_order_of_the_program():
    def function(p, x):
        left = x @ p["z"]
        return x @ p["a"] + (left @ p["a"])

    assert order_of(function) == ["z", "a"]


@pytest.mark.parametrize(
    "wrap",
    [lambda layer: layer, nn.jit, nn.remat, lambda layer: nn.jit(nn.remat(layer))],
    ids=["plain", "jit", "remat", "jit of remat"],
)
def test_linen_layers(wrap):
    assert order_of_linen(Layers(wrap)) == ["stem/kernel", "body/kernel", "a_head/kernel"]


@pytest.mark.parametrize("network", [nn.jit(Layers), nn.jit(nn.jit(Layers))], ids=["one", "two"])
def test_a_whole_linen_network_in_a_jit(network):
    assert order_of_linen(network()) == ["stem/kernel", "body/kernel", "a_head/kernel"]


def test_a_convolutional_network():
    found = order_of_linen(ConvNet(), jnp.ones((2, 4, 4, 1)))
    assert found == ["z_conv/kernel", "x_conv/kernel", "w_dense/kernel", "a_head/kernel"]


def test_the_papers_choice_for_a_convolutional_network():
    model, inputs = models.from_linen(ConvNet()), jnp.ones((2, 4, 4, 1))
    variables = zeros(model, inputs)
    prunable = pipeline.find_prunable(model, variables, inputs, Settings())
    paths = pruning.leaf_paths(variables.params)
    chosen = [path for path, leaf in zip(paths, jax.tree.leaves(prunable), strict=True) if leaf]
    assert chosen == ["w_dense/kernel", "x_conv/kernel"]


def test_an_nnx_network_with_nested_jits():
    model, variables = models.from_nnx(NnxNet(nnx.Rngs(0)))
    assert paths_in_order(model, variables, INPUTS) == ["stem/kernel", "a_head/kernel"]


@pytest.mark.parametrize(
    "reach",
    [
        lambda w: w.T,
        lambda w: w.astype(jnp.bfloat16).astype(jnp.float32),
        lambda w: (2.0 * w).reshape(5, 5, 1)[:, :, 0],
        lambda w: jnp.swapaxes(w, 0, 1).astype(jnp.float16).astype(jnp.float32),
        jnp.tanh,
        lambda w: w / jnp.sqrt((w * w).sum(keepdims=True)),
        jax.lax.stop_gradient,
        jnp.tril,
        lambda w: jnp.clip(w, -1, 1),
        lambda w: jnp.where(jnp.eye(5) > 0, w, 0),
        lambda w: (w - w.mean(keepdims=True)) / w.std(keepdims=True),
        jax.jit(lambda w: w.T),
        jax.nn.relu,
        lambda w: jax.lax.cond(w.sum() > 0, lambda w: 2 * w, lambda w: w, w),
    ],
    ids=[
        "transpose",
        "cast",
        "scale and reshape",
        "swap and cast",
        "tanh",
        "norm",
        "stop",
        "tril",
        "clip",
        "mask",
        "standardise",
        "jit",
        "relu",
        "cond",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_kernels_are_followed_through_operations_on_parameters(reach, nested):
    def function(p, x):
        return x @ reach(p["z"]) @ p["a"]

    assert order_of(jax.jit(function) if nested else function) == ["z", "a"]


def test_einsum_is_a_use():
    def function(p, x):
        return jnp.einsum("bi,ij->bj", jnp.einsum("bi,ji->bj", x, p["z"]), p["a"])

    assert order_of(function) == ["z", "a"]


def test_biases_and_scales_are_not_kernels():
    def function(p, x):
        return (x @ p["z"] + p["m"][None]) * p["m"][None] @ p["a"]

    assert order_of(function) == ["z", "a"]


def test_an_embedding_added_to_the_inputs_is_not_a_kernel():
    def function(p, x):
        return (x + p["m"][None]) @ p["z"] @ p["a"]

    assert order_of(function) == ["z", "a"]


def test_leaves_that_make_up_one_kernel_are_all_used():
    """The scale `m` is one-dimensional, which no preset of prunable leaves chooses."""
    assert order_of(lambda p, x: x @ (p["z"] * p["m"][None]) @ p["a"]) == ["m", "z", "a"]


def test_uses_inside_a_branch_and_a_loop():
    def branch(p, x):
        x = jax.lax.cond(x.sum() > 0, lambda z, x: x @ z, lambda z, x: x, p["z"], x)
        return x @ p["a"]

    def loop(p, x):
        return jax.lax.fori_loop(0, 3, lambda i, x: x @ p["z"], x) @ p["a"]

    assert order_of(branch) == order_of(loop) == ["z", "a"]


@pytest.mark.parametrize(
    ("cell", "count"), [(nn.SimpleCell, 2), (nn.GRUCell, 6), (nn.OptimizedLSTMCell, 8)]
)
def test_recurrent_kernels_are_found(cell, count):
    """Their carry starts as a constant and depends on the inputs only from the second step on."""

    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="a_head")(nn.RNN(cell(4))(x)[:, -1])

    found = order_of_linen(Recurrent(), jnp.ones((2, 5, 3)))
    assert len(found) == count + 1 and found[-1] == "a_head/kernel"


def test_convolutions_and_products_are_distinguished_by_their_use():
    model, inputs = models.from_linen(ConvNet()), jnp.ones((2, 4, 4, 1))
    uses = models.kernel_order(model, zeros(model, inputs), inputs)
    assert [use.convolution for use in uses] == [True, True, False, False]


def test_a_dense_kernel_of_three_dimensions_is_not_a_convolution():
    module = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=4)
    model = models.Model(
        lambda key, x: Variables(module.init(key, x, x)["params"], ()),
        lambda v, x, *, train, key=None: (module.apply({"params": v.params}, x, x), ()),
    )
    inputs = jnp.ones((2, 3, 4))
    uses = models.kernel_order(model, zeros(model, inputs), inputs)
    assert len(uses) == 4 and not any(use.convolution for use in uses)


def test_leaves_without_a_use_are_left_out():
    assert order_of(lambda p, x: x @ p["a"]) == ["a"]


def test_a_kernel_used_twice_counts_where_it_is_used_first():
    assert order_of(lambda p, x: x @ p["z"] @ p["a"] @ p["a"].T @ p["z"]) == ["z", "a"]


def test_activations_do_not_stand_for_the_kernel_before():
    """The second product multiplies two activations, one of them made by `z`."""

    def function(p, x):
        hidden = x @ p["z"]
        return (hidden @ hidden.T) @ (x @ p["a"])

    assert order_of(function) == ["z", "a"]


def test_a_loop_over_layers():
    params = {"a": jnp.ones((5, 3)), "blocks": jnp.ones((4, 5, 5)), "z": jnp.ones((5, 5))}

    def function(p, x):
        x, _ = jax.lax.scan(lambda x, w: (x @ w, None), x @ p["z"], p["blocks"])
        return x @ p["a"]

    assert order_of(function, params) == ["z", "blocks", "a"]
