"""The residual network of CIFAR, depth 6n + 2 (He et al. 2016, arXiv 1512.03385, section 4.2).

    3×3 convolution ─► 3 stages of n blocks, widths w, 2w, 4w, strides 1, 2, 2 ─► mean ─► linear

    block:  relu( norm(conv 3×3(relu(norm(conv 3×3(x))))) + shortcut(x) )

Where a block changes the shape of its input, the shortcut is a 1×1 convolution with normalisation.
With w = 16 and 10 classes, depth 56 has 855 770 parameters. Paddings are PyTorch's: one pixel on
every side of a 3×3 convolution, where Flax's "SAME" would pad on one side only at stride 2.

Every convolution is followed by the masked `BatchNorm`, told by the kernel which channels are left.
"""

from flax import linen as nn

from bap_jax.models.batch_norm import BatchNorm, active_channels
from bap_jax.types import Array, UserError

# By outgoing connections, so that gradients keep their size on the way back.
_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
    """Residual network for small images.

    Parameters are named `conv_0`, `norm_0`, then `stage_<1–3>_block_<0…>/` with `conv_1`, `norm_1`,
    `conv_2`, `norm_2` and, where it has them, `shortcut_conv`, `shortcut_norm`, and last `head`.

    Attributes:
      num_classes: length of the logits.
      depth: 6n + 2, the number of layers on the longest path that have weights.
      width: channels of the first stage.

    Raises:
      UserError: `depth` is not 6n + 2.
    """

    num_classes: int
    depth: int = 20
    width: int = 16

    def __post_init__(self):
        if self.depth < 8 or self.depth % 6 != 2:
            raise UserError(
                f"depth of a resnet must be 6n + 2 with n ≥ 1, for instance 20, 32 or 56; "
                f"got {self.depth}."
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Logits `(batch, class)`.

        Args:
          inputs: `(batch, height, width, channel)`, or `(batch, height, width)` for one channel.
          train: whether to normalise by the batch, and to move the running statistics.

        Raises:
          UserError: the inputs are no images.
        """
        if inputs.ndim not in (3, 4):
            raise UserError(
                "a resnet takes images (batch, height, width, channel) or (batch, height, width); "
                f"got inputs of shape {inputs.shape}."
            )
        x = inputs if inputs.ndim == 4 else inputs[..., None]
        x = nn.relu(_conv_norm(x, self.width, 3, 1, ("conv_0", "norm_0"), train))
        for stage in range(3):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage and not block else 1
                name = f"stage_{stage + 1}_block_{block}"
                x = Block(self.width * 2**stage, stride, name=name)(x, train)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))


class Block(nn.Module):
    """Two 3×3 convolutions around which the input is led.

    Attributes:
      width: output channels.
      stride: of the first convolution.
    """

    width: int
    stride: int

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> Array:
        """`(batch, height, width, channel)` → `(batch, ⌈height / stride⌉, …, self.width)`."""
        x = _conv_norm(inputs, self.width, 3, self.stride, ("conv_1", "norm_1"), train)
        x = _conv_norm(nn.relu(x), self.width, 3, 1, ("conv_2", "norm_2"), train)
        if x.shape != inputs.shape:
            names = ("shortcut_conv", "shortcut_norm")
            inputs = _conv_norm(inputs, self.width, 1, self.stride, names, train)
        return nn.relu(x + inputs)


def _conv_norm(x, width, size, stride, names, train):
    """A `size`×`size` convolution and its normalisation, as submodules of the calling module."""
    conv = nn.Conv(
        width,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=_HE,
        name=names[0],
    )
    x = conv(x)
    active = active_channels(conv.variables["params"]["kernel"])
    return BatchNorm(name=names[1])(x, active, train=train)
