"""A convolution and the normalisation behind it, as all built-in networks have them."""

from flax import linen as nn

from bap_jax.models.batch_norm import BatchNorm, active_channels
from bap_jax.models.convolution import convolution
from bap_jax.types import Array

# By outgoing connections, so that gradients keep their size on the way back.
HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv_norm(
    module: nn.Module,
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
      module: with the attributes `convolution` and `masked_norm`, see `ResNet`.
      x: `(batch, height, width, channel)`.
      width: output channels.
      size: odd; half of it is padded with zeros on every side, as PyTorch's networks do.
      stride: of both axes.
      names: of the two submodules.
      train: whether to normalise by the batch.
      feature_groups: of channels that are convolved each on its own.
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
