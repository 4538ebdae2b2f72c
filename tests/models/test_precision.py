"""Networks that compute in bfloat16, and everything around them in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.extend import core

from bap_jax import data, metrics, models
from bap_jax.errors import UserError
from bap_jax.models import loops
from bap_jax.models.batch_norm import BatchNorm, active_channels
from bap_jax.types import Variables

IMAGES = np.random.default_rng(0).normal(size=(16, 6, 6, 3)).astype(np.float32)
VECTORS = np.random.default_rng(1).normal(size=(16, 6)).astype(np.float32)
LABELS = np.arange(16) % 3
KEY = jax.random.key(3)


class Linen(nn.Module):
    """Flax's own normalisation and dropout."""

    @nn.compact
    def __call__(self, inputs, train):
        x = nn.Dense(8)(inputs)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(3)(x)


class Convolution(nn.Module):
    """A ResNet's first layers, masked normalisation included."""

    @nn.compact
    def __call__(self, inputs, train):
        conv = nn.Conv(4, (3, 3), use_bias=False, conv_general_dilated=models.convolution("loop"))
        x = conv(inputs)
        active = active_channels(conv.variables["params"]["kernel"])
        x = nn.relu(BatchNorm(name="norm")(x, active, train=train))
        return nn.Dense(3)(x.mean((1, 2)))


class Nnx(nnx.Module):
    """The same, with random keys and counters among its state."""

    def __init__(self, rngs, dtype=jnp.bfloat16):
        self.hidden = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, dtype=dtype, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, inputs):
        return self.head(self.drop(nnx.relu(self.norm(self.hidden(inputs)))))


class Embedded(nn.Module):
    """Takes integers."""

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(3)(nn.Embed(300, 4)(inputs).mean(1))


LINEN = {"linen": Linen, "convolution": Convolution}
BUILT_IN = {"mlp": {"hidden": (8,)}, "resnet": {"depth": 8, "width": 4}}
QUICK = ("mlp", "linen", "convolution", "nnx")  # to compile
NETWORKS = (*QUICK, "resnet")


def build(name):
    """Network, variables (of the ResNet shapes only) and inputs."""
    if name == "nnx":
        return *models.from_nnx(Nnx(nnx.Rngs(0))), VECTORS
    inputs = IMAGES if name in ("resnet", "convolution") else VECTORS
    if name in LINEN:
        model = models.from_linen(LINEN[name]())
    else:
        model = models.build(name, 3, **BUILT_IN[name])
    init = model.init if name != "resnet" else functools.partial(jax.eval_shape, model.init)
    return model, init(jax.random.key(0), inputs), inputs


def loss_of(model, inputs, key=KEY):
    def loss(params, state):
        logits, state = model.apply(Variables(params, state), inputs, train=True, key=key)
        return metrics.cross_entropy(logits, LABELS).mean(), state

    return loss


def product_dtypes(jaxpr):
    """Types of the operands of every matrix product and convolution, at any depth."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield from (variable.aval.dtype for variable in equation.invars)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if isinstance(inner, core.ClosedJaxpr):
                    inner = inner.jaxpr
                if isinstance(inner, core.Jaxpr):
                    yield from product_dtypes(inner)


def types(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


def run(model, variables, inputs, train=False, key=None):
    return jax.jit(lambda *args: model.apply(*args, train=train, key=key))(variables, inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_bfloat16_and_everything_around_is_float32(name):
    model, variables, inputs = build(name)
    low = models.in_precision(model, "bfloat16")
    gradient = jax.value_and_grad(loss_of(low, inputs), has_aux=True)
    found = set(product_dtypes(jax.make_jaxpr(gradient)(*variables).jaxpr))
    assert found == {jnp.dtype(jnp.bfloat16)}
    (loss, state), grads = jax.eval_shape(gradient, *variables)
    assert loss.dtype == jnp.float32
    assert types(grads) == types(variables.params)
    assert types(state) == types(variables.state)
    logits, state = jax.eval_shape(low.apply, variables, inputs)
    assert logits.dtype == jnp.float32 and types(state) == types(variables.state)


@pytest.mark.parametrize("name", QUICK)
def test_close_to_float32(name):
    """Eight bits of a number are kept; dropout, whose draws depend on the type, is left out."""
    model, variables, inputs = build(name)
    low = models.in_precision(model, "bfloat16")
    plain, rounded = (run(m, variables, inputs)[0] for m in (model, low))
    np.testing.assert_allclose(rounded, plain, atol=0.05 * np.abs(plain).max())
    assert (rounded != plain).any()
    if name in ("linen", "nnx"):
        return
    gradients = (
        jax.jit(jax.grad(loss_of(m, inputs, None), has_aux=True))(*variables)[0]
        for m in (low, model)
    )
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert np.linalg.norm(one - other) <= 0.1 * np.linalg.norm(other) + 1e-3


def test_layers_that_use_their_state_need_a_dtype():
    model, variables = models.from_nnx(Nnx(nnx.Rngs(0), dtype=None))
    low = models.in_precision(model, "bfloat16")
    jaxpr = jax.make_jaxpr(low.apply)(variables, VECTORS).jaxpr
    assert jnp.dtype(jnp.float32) in set(product_dtypes(jaxpr))


@pytest.mark.parametrize("name", ["convolution", "linen", "nnx"])
def test_running_statistics_are_updated_in_float32(name):
    """A small step towards the batch would be lost in eight bits."""
    model, variables, inputs = build(name)
    low = models.in_precision(model, "bfloat16")
    state = run(low, variables, inputs, train=True, key=KEY)[1]
    for new, old in zip(*map(jax.tree.leaves, (state, variables.state)), strict=True):
        if jnp.issubdtype(new.dtype, jnp.floating):
            assert (new != old).all()
            assert (new != new.astype(jnp.bfloat16).astype(jnp.float32)).any()


def test_masked_weights_stay_zero():
    """A network sees a removed weight as 0, and a kept one, however small, as kept."""
    kernel = jnp.array([[0.0, 1e-30, -1e-30, 0.0, 1.0]])
    seen = []

    def apply(variables, inputs, *, train=False, key=None):
        seen.append(variables.params)
        return inputs @ variables.params, variables.state

    model = models.Model(lambda key, inputs: Variables(kernel, ()), apply)
    low = models.in_precision(model, "bfloat16")
    logits, _ = low.apply(Variables(kernel, ()), np.ones((2, 1), np.float32))
    np.testing.assert_array_equal(seen[0] == 0, kernel == 0)
    np.testing.assert_array_equal(np.asarray(logits)[:, [0, 3]], 0)


def test_a_channel_without_weights_stays_zero():
    model, variables, inputs = build("convolution")
    params = jax.tree.map(np.array, variables.params)
    params["Conv_0"]["kernel"][..., 1] = 0
    params["norm"]["bias"][:] = 1
    low = models.in_precision(model, "bfloat16")
    gradient = jax.jit(jax.grad(loss_of(low, inputs), has_aux=True))
    grads, state = gradient(params, variables.state)
    assert state["batch_stats"]["norm"]["var"][1] == 1
    np.testing.assert_array_equal(grads["norm"]["bias"] != 0, [True, False, True, True])


def test_integers_stay_integers():
    model = models.from_linen(Embedded())
    tokens = np.array([[257, 1], [299, 2]], np.int32)  # 257 is no bfloat16
    variables = model.init(KEY, tokens)
    low = models.in_precision(model, "bfloat16")
    plain, rounded = (run(m, variables, tokens)[0] for m in (model, low))
    np.testing.assert_allclose(rounded, plain, atol=0.03)


def image_network():
    model = models.build("mlp", 3, hidden=(8,))
    return model, model.init(KEY, np.zeros((1, 8, 8, 3), np.float32))


@pytest.mark.parametrize("first", ["precision", "preprocessing"])
def test_preprocessing_stays_outside(first):
    seen = []

    def preprocess(inputs, key, train):
        seen.append(inputs.dtype)
        return data.image_preprocess(0.5, 0.25)(inputs, key, train)

    bare, variables = image_network()
    stored = np.random.default_rng(2).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    low = models.in_precision(bare, "bfloat16")
    expected, _ = run(low, variables, data.image_preprocess(0.5, 0.25)(stored, None, False))
    if first == "precision":
        model = models.with_preprocessing(low, preprocess)
    else:
        model = models.in_precision(models.with_preprocessing(bare, preprocess), "bfloat16")
    found, _ = run(model, variables, stored)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert set(seen) == {np.dtype(np.uint8)}
    assert model.precision == model.network.precision == "bfloat16"


@pytest.mark.parametrize("name", QUICK)
def test_the_traced_program_shows_the_same_kernels(name):
    model, variables, inputs = build(name)
    low = models.in_precision(model, "bfloat16")
    for read in (models.kernel_order, loops.convolutions, models.cost):
        assert read(low, variables, inputs) == read(model, variables, inputs)


def test_a_smaller_network_keeps_its_precision():
    model, variables, inputs = build("mlp")
    params = jax.tree.map(np.array, variables.params)
    for path in ("kernel", "bias"):
        params["dense_0"][path][..., [1, 4]] = 0
    low, variables = models.in_precision(model, "bfloat16"), variables._replace(params=params)
    small, few = models.compact(low, None, variables)
    assert small.module.features == (6, 3) and small.precision == "bfloat16"
    expected, found = (m.apply(v, inputs)[0] for m, v in ((low, variables), (small, few)))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_names():
    model, *_ = build("mlp")
    assert models.in_precision(model, "float32") is model
    with pytest.raises(UserError, match="unknown precision 'float16'; known: float32, bfloat16"):
        models.in_precision(model, "float16")
