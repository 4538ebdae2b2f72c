"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2).

    3×3 convolution, stride 2 ─► 17 inverted residuals ─► 1×1 convolution, 1280 ─► mean ─► linear

    block:  1×1 to t times the width ─► relu6 ─► 3×3, each channel by itself ─► relu6 ─► 1×1 (+ x)

The input is added where the stride is 1 and the widths agree; a block with t = 1 has no first
convolution. With 1000 classes the network has 3,504,872 parameters.
"""

import jax
from flax import linen as nn

from bap_jax.models.conv_norm import conv_norm
from bap_jax.models.convolution import convolution
from bap_jax.models.imagenet_resnet import check_images
from bap_jax.types import Array

# t, width, blocks, stride of the first one.
_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """A network of inverted residual blocks.

    Parameters are named `stem_conv`, `stem_norm`, then `block_<1–17>/` with `expand_conv`,
    `expand_norm`, `depthwise_conv`, `depthwise_norm`, `project_conv`, `project_norm`, then
    `last_conv`, `last_norm` and `head`.

    Attributes:
      num_classes: length of the logits.
      dropout: share of the 1280 features that is dropped in training.
      convolution, masked_norm: see `ResNet`.

    Raises:
      UserError: `convolution` is unknown.
    """

    num_classes: int
    dropout: float = 0.2
    convolution: str = "auto"
    masked_norm: bool = True

    def __post_init__(self):
        convolution(self.convolution)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Logits `(batch, class)`; see `ImageNetResNet.__call__`."""
        check_images(inputs, "a mobilenet_v2")
        layer_options = (self.convolution, self.masked_norm)
        x = jax.nn.relu6(conv_norm(self, inputs, 32, 3, 2, ("stem_conv", "stem_norm"), train))
        number = 0
        for expansion, width, count, first_stride in _ROWS:
            for block in range(count):
                number += 1
                stride = 1 if block else first_stride
                name = f"block_{number}"
                x = InvertedResidual(expansion, width, stride, *layer_options, name=name)(x, train)
        x = jax.nn.relu6(conv_norm(self, x, 1280, 1, 1, ("last_conv", "last_norm"), train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.num_classes, name="head")(x)


class InvertedResidual(nn.Module):
    """One inverted residual block.

    Attributes:
      expansion: t.
      width: output channels.
      stride: of the 3×3 convolution.
      convolution, masked_norm: see `ResNet`.
    """

    expansion: int
    width: int
    stride: int
    convolution: str
    masked_norm: bool

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> Array:
        """`(batch, height, width, channel)` → `(batch, ⌈height / stride⌉, …, self.width)`."""
        x, wide = inputs, self.expansion * inputs.shape[-1]
        if self.expansion > 1:
            x = jax.nn.relu6(conv_norm(self, x, wide, 1, 1, ("expand_conv", "expand_norm"), train))
        names = ("depthwise_conv", "depthwise_norm")
        x = jax.nn.relu6(
            conv_norm(self, x, wide, 3, self.stride, names, train, feature_groups=wide)
        )
        x = conv_norm(self, x, self.width, 1, 1, ("project_conv", "project_norm"), train)
        return x + inputs if self.stride == 1 and x.shape == inputs.shape else x
