"""The residual network of CIFAR, depth 6n + 2 (He et al. 2016, arXiv 1512.03385, section 4.2).

    3×3 convolution ─► 3 stages of n blocks, widths w, 2w, 4w, strides 1, 2, 2 ─► mean ─► linear

    block:  relu( norm(conv 3×3(relu(norm(conv 3×3(x))))) + shortcut(x) )

Where a block has stride 2, the shortcut is a 1×1 convolution with normalisation. With w = 16 and 10
classes, depth 56 has 855 770 parameters. Padding is that of PyTorch: one pixel on every side of a
3×3 convolution, where Flax's "SAME" would pad one side only at stride 2.

Every convolution is followed by the masked `BatchNorm`, which reads from the kernel which channels
are left (unless `masked_norm` is off).

There are two kinds of groups of channels that can be removed: the channels between the two
convolutions of one block, and those that the shortcuts of a stage carry through all of its blocks.
"""

from collections.abc import Mapping, Sequence

from flax import linen as nn

from bap_jax.errors import UserError
from bap_jax.models.channels import check_names
from bap_jax.models.conv_norm import conv_norm
from bap_jax.models.convolution import convolution
from bap_jax.types import Array, ChannelGroup


class ResNet(nn.Module):
    """Residual network for small images.

    Parameters are named `conv_0`, `norm_0`, then `stage_<1–3>_block_<0…>/` with `conv_1`, `norm_1`,
    `conv_2`, `norm_2` and, if it has them, `shortcut_conv`, `shortcut_norm`, and last `head`.

    Attributes:
      num_classes: length of the logits.
      depth: 6n + 2, the number of layers on the longest path that have weights.
      width: channels of the first stage.
      stream_widths: channels that the shortcuts of each stage carry; by default w, 2w, 4w.
      block_widths: channels between the two convolutions of each of the 3n blocks, in order; by
        default w, 2w or 4w, by the block's stage.
      convolution: `auto`, `loop` or `lax`, see `bap_jax.models.convolution`; their results agree
        except for rounding in the gradients.
      masked_norm: whether normalisation skips channels without weights, see `batch_norm`.
      stem_stride: of the first convolution; 2 takes a quarter of the time.

    Raises:
      UserError: `depth` is not 6n + 2, there are too many or too few widths for it, or
        `convolution` is unknown.
    """

    num_classes: int
    depth: int = 20
    width: int = 16
    stream_widths: Sequence[int] | None = None
    block_widths: Sequence[int] | None = None
    convolution: str = "auto"
    masked_norm: bool = True
    stem_stride: int = 1

    def __post_init__(self):
        if self.depth < 8 or self.depth % 6 != 2:
            raise UserError(
                f"depth of a resnet must be 6n + 2 with n ≥ 1, for instance 20, 32 or 56; "
                f"got {self.depth}."
            )
        _check_widths("stream_widths", self.stream_widths, 3)
        _check_widths("block_widths", self.block_widths, (self.depth - 2) // 2)
        convolution(self.convolution)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Logits `(batch, class)`.

        Args:
          inputs: `(batch, height, width, channel)`, or `(batch, height, width)` for one channel.
          train: whether to normalise by the batch's statistics and to update the running ones.

        Raises:
          UserError: the inputs are not images.
        """
        if inputs.ndim not in (3, 4):
            raise UserError(
                "a resnet takes images (batch, height, width, channel) or (batch, height, width); "
                f"got inputs of shape {inputs.shape}."
            )
        x = inputs if inputs.ndim == 4 else inputs[..., None]
        streams, inner = _widths(self)
        names = ("conv_0", "norm_0")
        x = nn.relu(conv_norm(self, x, streams["stage_1"], 3, self.stem_stride, names, train))
        for stage, names in _stages(self).items():
            for name in names:
                stride = 2 if stage != "stage_1" and name == names[0] else 1
                options = (self.convolution, self.masked_norm)
                x = Block(streams[stage], stride, inner[name], *options, name=name)(x, train)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """For each stage, the channels that its shortcuts carry, then the inner ones of its blocks.

        The groups are named `stage_<1–3>` and like the blocks.
        """
        stages, groups = list(_stages(self).items()), []
        for i, (stage, names) in enumerate(stages):
            entry = (f"{names[0]}/shortcut_conv", f"{names[0]}/shortcut_norm")
            readers = [f"{name}/conv_1" for name in names]
            if i == 0:
                entry = ("conv_0", "norm_0")
            else:
                del readers[0]  # the first block reads the previous stage
            if i < 2:
                next_block = stages[i + 1][1][0]
                readers += [f"{next_block}/conv_1", f"{next_block}/shortcut_conv"]
            else:
                readers += ["head"]
            layers = [entry, *((f"{name}/conv_2", f"{name}/norm_2") for name in names)]
            groups.append(_group(stage, layers, readers, self.masked_norm))
            for name in names:
                layer = (f"{name}/conv_1", f"{name}/norm_1")
                groups.append(_group(name, [layer], [f"{name}/conv_2"], self.masked_norm))
        return tuple(groups)

    def with_channels(self, widths: Mapping[str, int]) -> "ResNet":
        """The same network with other widths, by name of group.

        Raises:
          UserError: a name is unknown.
        """
        check_names(self, widths)
        streams, inner = (
            tuple(widths.get(name, old) for name, old in current.items())
            for current in _widths(self)
        )
        return self.clone(stream_widths=streams, block_widths=inner)


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut around them.

    Attributes:
      width: output channels.
      stride: of the first convolution; if it is above 1, the shortcut is a convolution too. (Widths
        do not decide this: removing channels may make them equal.)
      inner_width: channels between the convolutions; by default `width`.
      convolution, masked_norm: see `ResNet`.
    """

    width: int
    stride: int
    inner_width: int | None = None
    convolution: str = "auto"
    masked_norm: bool = True

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> Array:
        """`(batch, height, width, channel)` → `(batch, ⌈height / stride⌉, …, self.width)`."""
        inner = self.width if self.inner_width is None else self.inner_width
        x = conv_norm(self, inputs, inner, 3, self.stride, ("conv_1", "norm_1"), train)
        x = conv_norm(self, nn.relu(x), self.width, 3, 1, ("conv_2", "norm_2"), train)
        if self.stride > 1:
            names = ("shortcut_conv", "shortcut_norm")
            inputs = conv_norm(self, inputs, self.width, 1, self.stride, names, train)
        return nn.relu(x + inputs)


def _stages(net):
    """Names of the blocks of each stage, by name of the stage."""
    blocks = range((net.depth - 2) // 6)
    return {
        f"stage_{stage}": [f"stage_{stage}_block_{block}" for block in blocks]
        for stage in (1, 2, 3)
    }


def _widths(net):
    """Widths of the shortcuts by stage, and of the inner channels by block."""
    stages = _stages(net)
    default = {stage: net.width * 2**i for i, stage in enumerate(stages)}
    inner = {name: default[stage] for stage, names in stages.items() for name in names}
    return [
        widths if given is None else dict(zip(widths, given, strict=True))
        for widths, given in ((default, net.stream_widths), (inner, net.block_widths))
    ]


def _check_widths(name, widths, count):
    if widths is not None and (len(widths) != count or min(widths) < 1):
        raise UserError(
            f"{name} of this resnet must be {count} positive numbers of channels, or None; "
            f"got {tuple(widths)}."
        )


def _group(name, layers, readers, silent):
    """The channels that `layers`, pairs of convolution and norm, write and `readers` read."""
    norms = [norm for _, norm in layers]
    return ChannelGroup(
        name,
        producers=tuple(f"{conv}/kernel" for conv, _ in layers),
        vectors=tuple(f"{norm}/{kind}" for norm in norms for kind in ("scale", "bias")),
        states=tuple(f"batch_stats/{norm}/{kind}" for norm in norms for kind in ("mean", "var")),
        consumers=tuple(f"{reader}/kernel" for reader in readers),
        silent=silent,
    )
