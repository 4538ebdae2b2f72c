"""Built-in networks by name."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn

from bap_jax.compilation import jit_once
from bap_jax.errors import UserError
from bap_jax.models.base import Model
from bap_jax.models.imagenet_resnet import ImageNetResNet
from bap_jax.models.linen import from_linen
from bap_jax.models.mlp import MLP
from bap_jax.models.mobilenet import MobileNetV2
from bap_jax.models.resnet import ResNet


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


class NetworkSpec(NamedTuple):
    """A built-in network.

    Attributes:
      make: `(num_classes, **options) -> ` its Linen module.
    """

    make: Callable[..., nn.Module]


NETWORKS = {
    "mlp": NetworkSpec(_mlp),
    "resnet": NetworkSpec(_resnet),
    "imagenet_resnet": NetworkSpec(_imagenet_resnet),
    "mobilenet_v2": NetworkSpec(_mobilenet_v2),
}


def build(name: str, num_classes: int, **options) -> Model:
    """The network called `name`.

    Args:
      name: a key of `NETWORKS`.
      num_classes: length of its logits.
      **options: of that network: `hidden` (`mlp`); `depth` (both residual networks), `width` and
        `stem_stride` (`resnet`); `convolution` and `masked_norm` (all but `mlp`).

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
        model = from_linen(network.make(num_classes, **options))
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
