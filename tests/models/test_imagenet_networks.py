"""ResNet-18/34/50 and MobileNetV2: sizes as published; their logits are in test_torch_weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import models
from bap_jax.errors import UserError

PUBLISHED = {
    ("imagenet_resnet", 18): 11_689_512,
    ("imagenet_resnet", 34): 21_797_672,
    ("imagenet_resnet", 50): 25_557_032,
    ("mobilenet_v2", None): 3_504_872,
}


def build(name, depth, classes):
    return models.build(name, classes, **({"depth": depth} if depth else {}))


@pytest.mark.parametrize(("network", "count"), PUBLISHED.items(), ids=lambda value: str(value))
def test_parameter_counts_are_the_published_ones(network, count):
    model = build(*network, 1000)
    found = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(found.params)) == count


@pytest.mark.smoke
@pytest.mark.parametrize("network", list(PUBLISHED), ids=str)
def test_resolutions_and_training_mode(network):
    model = build(*network, 7)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def apply(variables, images):
        return model.apply(variables, images, train=True, key=jax.random.key(0))

    logits, state = jax.eval_shape(apply, variables, images)
    assert logits.shape == (2, 7)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    # What is averaged over: 224 / 32 pixels either way.
    width = 1280 if network[0] == "mobilenet_v2" else 2048 if network[1] == 50 else 512
    assert (2, 7, 7, width) in _all_shapes(jax.make_jaxpr(apply)(variables, images).jaxpr)


def _all_shapes(jaxpr):
    found = set()
    for equation in jaxpr.eqns:
        found |= {getattr(value.aval, "shape", None) for value in equation.outvars}
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                found |= _all_shapes(inner.jaxpr)
    return found


def test_a_network_that_does_not_exist():
    with pytest.raises(UserError, match="must be one of 18, 34, 50; got 20. For small images"):
        models.build("imagenet_resnet", 10, depth=20)
    with pytest.raises(UserError, match="an imagenet_resnet takes images"):
        models.build("imagenet_resnet", 10).init(jax.random.key(0), jnp.zeros((1, 8, 8)))
    with pytest.raises(UserError, match="unknown convolution 'fast'"):
        models.build("mobilenet_v2", 10, convolution="fast")


def test_first_and_last_layer_are_found():
    model = models.build("mobilenet_v2", 4)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    order = models.kernel_order(model, zeros, images)
    assert len(order) == 53  # 52 convolutions and the head
    assert order[0].convolution and not order[-1].convolution
