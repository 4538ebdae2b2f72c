"""The networks of the comparison in PyTorch, and masks of their smallest weights.

They compute what `bap_jax.models` computes: same shapes, same padding, same normalisation. As in
the paper's code their weights are dense arrays, in which removed weights are 0.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, a 1×1 convolution where the stride is 2 (option B)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, 1), nn.BatchNorm2d(width)
        self.downsample = nn.Identity()
        if stride > 1:
            shortcut = _conv(channels, width, 1, stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(inputs)))
        return F.relu(self.bn2(self.conv2(x)) + self.downsample(inputs))


class ResNet(nn.Module):
    """The residual network of CIFAR, depth 6n + 2; layers are named as in torchvision."""

    def __init__(self, depth: int, num_classes: int, width: int = 16):
        super().__init__()
        self.conv1, self.bn1 = _conv(3, width, 3, 1), nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width]
        for stage in (1, 2, 3):
            before, now = widths[stage - 1 : stage + 1]
            first = Block(before, now, 1 if stage == 1 else 2)
            others = [Block(now, now, 1) for _ in range((depth - 2) // 6 - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *others))
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(inputs)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def _conv(channels, width, size, stride):
    return nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)


def mlp(features: tuple[int, ...]) -> nn.Module:
    """Dense layers `dense_0`, `dense_1`, … with ReLU between them; `features[0]` is the input's."""
    layers = OrderedDict()
    for i, width in enumerate(features[1:]):
        if i:
            layers[f"relu_{i}"] = nn.ReLU()
        layers[f"dense_{i}"] = nn.Linear(features[i], width)
    return nn.Sequential(layers)


def magnitude_masks(network: nn.Module, sparsity: float) -> dict[str, Tensor]:
    """Masks by name that remove the ⌈sparsity · n⌉ smallest weights of each layer.

    As in the paper, the first convolution, the last linear layer and all vectors stay dense.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    dense = {id(layers[-1].weight)}
    dense |= {id(layers[0].weight)} if isinstance(layers[0], nn.Conv2d) else set()
    masks = {}
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and id(weight) not in dense:
            removed = -int(-sparsity * weight.numel() // 1)
            smallest = weight.detach().abs().flatten().argsort()[:removed]
            mask = torch.ones(weight.numel(), device=weight.device)
            mask[smallest] = 0
            masks[name] = mask.view_as(weight)
    return masks
