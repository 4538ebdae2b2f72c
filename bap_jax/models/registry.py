"""Built-in networks by name."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn
from flax import nnx

from bap_jax.compilation import jit_once
from bap_jax.errors import UserError
from bap_jax.models.base import Model
from bap_jax.models.imagenet_resnet import ImageNetResNet
from bap_jax.models.linen import from_linen
from bap_jax.models.mlp import MLP
from bap_jax.models.mobilenet import MobileNetV2
from bap_jax.models.resnet import ResNet
from bap_jax.models.transformer import Transformer
from bap_jax.models.untrained import from_nnx_maker


def _mlp(num_classes, hidden=(256, 256)):
    return MLP((*hidden, num_classes))


def _resnet(num_classes, depth=20, width=16, stem_stride=1, convolution="auto", masked_norm=True):
    return ResNet(
        num_classes,
        depth,
        width,
        convolution=convolution,
        masked_norm=masked_norm,
        stem_stride=stem_stride,
    )


def _imagenet_resnet(num_classes, depth=18, convolution="auto", masked_norm=True):
    return ImageNetResNet(num_classes, depth, convolution, masked_norm)


def _mobilenet_v2(num_classes, convolution="auto", masked_norm=True):
    return MobileNetV2(num_classes, convolution=convolution, masked_norm=masked_norm)


def _transformer(num_classes, vocabulary=512, width=32, depth=2, heads=4, expansion=4):
    def make(rngs):
        return Transformer(num_classes, vocabulary, width, depth, heads, expansion, rngs=rngs)

    return make


class NetworkSpec(NamedTuple):
    """A built-in network.

    Attributes:
      make: `(num_classes, **options) -> ` its Linen module, or `rngs -> ` its NNX module.
    """

    make: Callable[..., nn.Module | Callable[[nnx.Rngs], nnx.Module]]


NETWORKS = {
    "mlp": NetworkSpec(_mlp),
    "resnet": NetworkSpec(_resnet),
    "imagenet_resnet": NetworkSpec(_imagenet_resnet),
    "mobilenet_v2": NetworkSpec(_mobilenet_v2),
    "transformer": NetworkSpec(_transformer),
}


def build(name: str, num_classes: int, **options) -> Model:
    """The network called `name`.

    Args:
      name: a key of `NETWORKS`.
      num_classes: length of its logits.
      **options: of that network: `hidden` (`mlp`); `depth` (both residual networks and
        `transformer`), `width` (`resnet`, `transformer`), `stem_stride` (`resnet`); `convolution`
        and `masked_norm` (networks with convolutions); `vocabulary`, `heads` and `expansion`
        (`transformer`).

    Raises:
      UserError: the name or an option is unknown, or an option has a value that is not allowed.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> model = build("mlp", num_classes=10, hidden=(32,))
      >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 64)))
      >>> logits, _ = model.apply(variables, jnp.zeros((5, 64)), train=False, key=None)
      >>> logits.shape
      (5, 10)
    """
    network = _find(name)
    try:
        made = network.make(num_classes, **options)
        model = from_linen(made) if isinstance(made, nn.Module) else from_nnx_maker(made)
    except TypeError as error:
        raise UserError(f"model {name!r} cannot be built with {options}: {error}.") from error
    # Operation by operation an MLP takes four times as long as one program, MobileNetV2 more.
    return model._replace(init=jit_once(model.init), switched=None)


def options(name: str) -> tuple[str, ...]:
    """Names of the options that the network called `name` takes.

    Raises:
      UserError: the name is unknown.

    Example:
      >>> options("mlp")
      ('hidden',)
    """
    return tuple(inspect.signature(_find(name).make).parameters)[1:]


def _find(name):
    if name not in NETWORKS:
        raise UserError(f"unknown model {name!r}; known models: {', '.join(NETWORKS)}.")
    return NETWORKS[name]
