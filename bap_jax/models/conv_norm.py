"""A convolution followed by its normalisation, as all built-in networks use them."""

from typing import Any

from flax import linen as nn

from bap_jax.models.batch_norm import BatchNorm, active_channels
from bap_jax.models.convolution import convolution
from bap_jax.types import Array

# Scaled by the number of outgoing connections, so that gradients keep their size backwards.
HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv_norm(
    module: Any,
    x: Array,
    width: int,
    size: int,
    stride: int,
    names: tuple[str, str],
    train: bool,
    feature_groups: int = 1,
) -> Array:
    """A `size`×`size` convolution and its normalisation, as submodules of the calling `module`.

    Args:
      module: has the attributes `convolution` and `masked_norm`, see `ResNet`.
      x: `(batch, height, width, channel)`.
      width: output channels.
      size: odd; every side is padded with size // 2 zeros, as in PyTorch's networks.
      stride: of both axes.
      names: of the two submodules.
      train: whether to normalise by the batch's statistics.
      feature_groups: number of groups of channels that are convolved separately.
    """
    conv = nn.Conv(
        width,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        feature_group_count=feature_groups,
        kernel_init=HE,
        conv_general_dilated=convolution(module.convolution),
        name=names[0],
    )
    x = conv(x)
    active = active_channels(conv.variables["params"]["kernel"]) if module.masked_norm else None
    return BatchNorm(name=names[1])(x, active, train=train)
