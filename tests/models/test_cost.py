"""Parameters and multiply-adds, by hand."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from bap_jax import models
from bap_jax.errors import UserError
from bap_jax.models.cost import Cost
from bap_jax.types import Variables

KERNEL = jnp.ones((5, 5))


def cost_of(module, *shape):
    model, inputs = models.from_linen(module), jax.ShapeDtypeStruct(shape, jnp.float32)
    return models.cost(model, jax.eval_shape(model.init, jax.random.key(0), inputs), inputs)


def multiply_adds(function, shape=(7, 5)):
    """Of `(kernel, inputs) -> logits`."""
    model = models.Model(
        lambda key, inputs: None, lambda v, x, train, key: (function(v.params, x), v.state)
    )
    return models.cost(model, Variables(KERNEL, {}), jnp.zeros(shape)).multiply_adds


def test_an_mlp():
    weights = 64 * 256 + 256 * 256 + 256 * 10
    found = cost_of(models.MLP((256, 256, 10)), 32, 8, 8)
    assert found == Cost(params=weights + 256 + 256 + 10, multiply_adds=weights)


@pytest.mark.parametrize("depth", [8, 20])
def test_a_resnet_on_images_of_32_by_32(depth):
    n = (depth - 2) // 6
    first, head = 1024 * 27 * 16, 64 * 10
    stage_1 = 1024 * 2 * n * 144 * 16
    # At half the resolution: one 3×3 and one 1×1 convolution from half the channels, then 2n − 1.
    stage_2 = 256 * 32 * (144 + 16 + (2 * n - 1) * 288)
    stage_3 = 64 * 64 * (288 + 32 + (2 * n - 1) * 576)
    found = cost_of(models.ResNet(10, depth), 4, 32, 32, 3)
    assert found.multiply_adds == first + stage_1 + stage_2 + stage_3 + head
    assert found.multiply_adds == {8: 12_501_632, 20: 40_813_184}[depth]
    assert found.params == {8: 78_042, 20: 272_474}[depth]


def test_convolutions_in_groups_and_with_strides():
    assert cost_of(nn.Conv(6, (3, 3)), 2, 8, 8, 4).multiply_adds == 64 * 9 * 4 * 6
    assert (
        cost_of(nn.Conv(6, (3, 3), feature_group_count=2), 2, 8, 8, 4).multiply_adds
        == 64 * 9 * 2 * 6
    )
    assert cost_of(nn.Conv(6, (2,), strides=2), 2, 8, 4).multiply_adds == 4 * 2 * 4 * 6


def test_products_in_batches():
    """Attention: 3 rows by 3 rows, each a product of 5, and back."""
    shape = (2, 3, 5)
    assert multiply_adds(lambda _, x: jnp.einsum("bqd,bkd->bqk", x, x), shape) == 3 * 3 * 5


def test_inner_programs():
    step = jax.checkpoint(jax.jit(lambda w, x: jax.nn.relu(x @ w)))
    assert multiply_adds(step) == 25
    assert multiply_adds(
        lambda w, x: jax.lax.scan(lambda c, _: (step(w, c), 0), x, None, 6)[0]
    ) == (150)
    assert multiply_adds(lambda w, x: jax.lax.fori_loop(0, 3, lambda i, c: c @ w, x)) == 75
    branches = [lambda w, x: x, lambda w, x: x @ w, lambda w, x: x @ w @ w]
    assert multiply_adds(lambda w, x: jax.lax.switch(w[0, 0].astype(int), branches, w, x)) == 50


def test_without_products():
    assert multiply_adds(lambda w, x: jax.lax.while_loop(lambda c: c[0, 0] < 0, jnp.sin, x)) == 0


def test_a_loop_of_unknown_length():
    with pytest.raises(UserError, match=r"in a loop of unknown length; write the loop as jax\.lax"):
        multiply_adds(lambda w, x: jax.lax.while_loop(lambda c: c[0, 0] < 0, lambda c: c @ w, x))


def test_networks_of_users():
    """NNX holds its variables; Linen comes with a dict."""
    layer = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    assert models.cost(layer, None, jnp.zeros((4, 5))) == Cost(18, 15)
    params = {"params": {"kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}}
    assert models.cost(nn.Dense(3), params, jnp.zeros((4, 5))) == Cost(18, 15)
    with pytest.raises(UserError, match="a Linen module needs its trained variables"):
        models.cost(nn.Dense(3), None, jnp.zeros((4, 5)))
