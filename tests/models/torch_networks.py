"""PyTorch networks, written from the papers, with torchvision's names of arrays."""

import torch
from torch import nn


def conv_bn(cin, cout, size, stride=1, groups=1):
    conv = nn.Conv2d(cin, cout, size, stride, size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(cout)


class Residual(nn.Module):
    """A basic block, or a bottleneck where `expansion` is 4."""

    def __init__(self, cin, width, stride, expansion):
        super().__init__()
        shapes = [(width, 3, stride), (width, 3, 1)]
        if expansion == 4:
            shapes = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
        channels = cin
        for number, (out, size, step) in enumerate(shapes, 1):
            conv, norm = conv_bn(channels, out, size, step)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", norm)
            channels = out
        self.count = len(shapes)
        self.downsample = None
        if stride > 1 or cin != channels:
            self.downsample = nn.Sequential(*conv_bn(cin, channels, 1, stride))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = torch.relu(y) if number > 1 else y
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(nn.Module):
    """Of ImageNet where `stem` is 7, of CIFAR where it is 3."""

    def __init__(self, blocks, classes, expansion=1, width=64, stem=7):
        super().__init__()
        self.conv1, self.bn1 = conv_bn(3, width, stem, 2 if stem == 7 else 1)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem == 7 else nn.Identity()
        channels = width
        for stage, count in enumerate(blocks):
            layers = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                layers.append(Residual(channels, width * 2**stage, stride, expansion))
                channels = width * 2**stage * expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, cin, cout, stride, expansion):
        super().__init__()
        wide = cin * expansion
        layers = []
        if expansion > 1:
            layers.append(nn.Sequential(*conv_bn(cin, wide, 1), nn.ReLU6()))
        layers.append(nn.Sequential(*conv_bn(wide, wide, 3, stride, wide), nn.ReLU6()))
        self.conv = nn.Sequential(*layers, *conv_bn(wide, cout, 1))
        self.added = stride == 1 and cin == cout

    def forward(self, x):
        return x + self.conv(x) if self.added else self.conv(x)


class TorchMobileNetV2(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers, channels = [nn.Sequential(*conv_bn(3, 32, 3, 2), nn.ReLU6())], 32
        for t, c, n, s in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ):
            for block in range(n):
                layers.append(Inverted(channels, c, 1 if block else s, t))
                channels = c
        layers.append(nn.Sequential(*conv_bn(320, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))
