"""The residual networks of ImageNet (He et al. 2016, arXiv 1512.03385, table 1).

    7×7 convolution, stride 2 ─► 3×3 maximum, stride 2 ─► 4 stages, 64 … 512 ─► mean ─► linear

    basic block (18, 34):   relu( norm(conv 3×3(relu(norm(conv 3×3(x))))) + shortcut(x) )
    bottleneck (50):        1×1, 3×3 and 1×1 to four times the width; the 3×3 has the stride

In the first block of every stage that changes width or resolution, the shortcut is a 1×1
convolution with normalisation. With 1000 classes depths 18, 34 and 50 have 11,689,512, 21,797,672
and 25,557,032 parameters. Layout and names follow `resnet`, so that weights of torchvision fit by
name.
"""

from typing import Any

from flax import linen as nn

from bap_jax.errors import UserError
from bap_jax.models.conv_norm import conv_norm
from bap_jax.models.convolution import convolution
from bap_jax.types import Array

# Number of blocks in each stage.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class ImageNetResNet(nn.Module):
    """Residual network for photographs of 64 pixels or more.

    Parameters are named `conv_0`, `norm_0`, then `stage_<1–4>_block_<0…>/` with `conv_<1–3>`,
    `norm_<1–3>` and, if it has them, `shortcut_conv`, `shortcut_norm`, and last `head`.

    Attributes:
      num_classes: length of the logits.
      depth: 18, 34 or 50.
      convolution, masked_norm: see `ResNet`.

    Raises:
      UserError: `depth` or `convolution` is unknown.
    """

    num_classes: int
    depth: int = 18
    convolution: str = "auto"
    masked_norm: bool = True

    def __post_init__(self):
        if self.depth not in DEPTHS:
            raise UserError(
                f"depth of an imagenet_resnet must be one of {', '.join(map(str, DEPTHS))}; got "
                f"{self.depth}. For small images use 'resnet'."
            )
        convolution(self.convolution)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Logits `(batch, class)`.

        Args:
          inputs: `(batch, height, width, channel)`.
          train: whether to normalise by the batch's statistics and to update the running ones.

        Raises:
          UserError: the inputs are not images.
        """
        check_images(inputs, "an imagenet_resnet")
        x = nn.relu(conv_norm(self, inputs, 64, 7, 2, ("conv_0", "norm_0"), train))
        padding: Any = ((1, 1), (1, 1))  # Flax declares a str, and takes pairs
        x = nn.max_pool(x, (3, 3), (2, 2), padding)
        for stage, count in enumerate(DEPTHS[self.depth]):
            for block in range(count):
                x = Block(
                    64 * 2**stage,
                    2 if stage and not block else 1,
                    self.depth == 50,
                    self.convolution,
                    self.masked_norm,
                    name=f"stage_{stage + 1}_block_{block}",
                )(x, train)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))


class Block(nn.Module):
    """Two or three convolutions and a shortcut around them.

    Attributes:
      width: channels inside the block; a bottleneck has four times as many outside.
      stride: of the (first) 3×3 convolution.
      bottleneck: whether the block is a bottleneck.
      convolution, masked_norm: see `ResNet`.
    """

    width: int
    stride: int
    bottleneck: bool
    convolution: str
    masked_norm: bool

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> Array:
        """`(batch, height, width, channel)` → `(batch, ⌈height / stride⌉, …, out)`."""
        w, s = self.width, self.stride
        layers = (
            [(w, 1, 1), (w, 3, s), (4 * w, 1, 1)] if self.bottleneck else [(w, 3, s), (w, 3, 1)]
        )
        x = inputs
        for number, (width, size, stride) in enumerate(layers, 1):
            x = nn.relu(x) if number > 1 else x
            x = conv_norm(self, x, width, size, stride, (f"conv_{number}", f"norm_{number}"), train)
        if s > 1 or inputs.shape[-1] != x.shape[-1]:
            names = ("shortcut_conv", "shortcut_norm")
            inputs = conv_norm(self, inputs, x.shape[-1], 1, s, names, train)
        return nn.relu(x + inputs)


def check_images(inputs: Array, what: str) -> None:
    """Checks that inputs are images.

    Raises:
      UserError: they do not have four axes.
    """
    if inputs.ndim != 4:
        raise UserError(
            f"{what} takes images (batch, height, width, channel); got inputs of shape "
            f"{inputs.shape}."
        )
