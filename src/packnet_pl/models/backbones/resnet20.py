"""ResNet-20 for small images.

Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResNet20", "resnet20"]


class _Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut of the paper's option A: it has no weights of its own.

    Args:
        in_channels: Channels that come in.
        channels: Channels that go out, at least ``in_channels``.
        stride: 1, or 2 to halve height and width.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """Returns N x ``channels`` x H/stride x W/stride maps of ``maps`` (N x ``in_channels`` x H x W)."""
        branch = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(maps)))))
        if self.stride > 1:
            maps = maps[:, :, :: self.stride, :: self.stride]
        # By the tensors, and not by the numbers above: a finished task may be narrower than the network is now.
        shortcut = functional.pad(maps, (0, 0, 0, 0, 0, branch.shape[1] - maps.shape[1]))
        return functional.relu(branch + shortcut)


class ResNet20(nn.Module):
    """The paper's CIFAR network with n = 3: a 3 x 3 stem, 3 stages of 3 basic blocks, mean pooling, no output layer.

    Shortcuts are option A, as in the paper's CIFAR experiments: every second pixel, new channels zero.

    Args:
        in_channels: Channels of an image, at least 1.
        width: Scales the 16, 32 and 64 channels of the stages, above 0; the first stage is rounded and has 1 or more.

    Attributes:
        num_features: Length of the feature vector: 64 x ``width``.
        builder: Name and arguments to build the same network again.

    Raises:
        ValueError: If ``in_channels`` is below 1 or ``width`` not above 0.
    """

    def __init__(self, *, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"resnet20 with in_channels={in_channels}; allowed is 1 or more")
        if not 0 < width < float("inf"):
            raise ValueError(f"resnet20 with width={width}; allowed is a number above 0 (1 is the paper's network)")
        channels = max(1, round(16 * width))
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = _stage(channels, channels, stride=1)
        self.layer2 = _stage(channels, 2 * channels, stride=2)
        self.layer3 = _stage(2 * channels, 4 * channels, stride=2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.num_features = 4 * channels
        self.builder = {"name": "resnet20", "arguments": {"in_channels": in_channels, "width": width}}

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (N x ``num_features``) of ``images`` (N x C x H x W, any size)."""
        maps: Tensor = functional.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        return maps.mean((2, 3))


def _stage(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    first = _Block(in_channels, channels, stride)
    return nn.Sequential(first, *(_Block(channels, channels, 1) for _ in range(2)))


def resnet20(*, in_channels: int = 3, width: float = 1.0) -> ResNet20:
    """Returns a :class:`ResNet20` with random weights (He's normal, from the global generator)."""
    return ResNet20(in_channels=in_channels, width=width)
