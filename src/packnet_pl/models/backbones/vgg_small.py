"""A small VGG for 24 x 24 images, which a CPU trains in minutes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from packnet_pl.counting import counted

__all__ = ["VGGSmall", "vgg_small"]


class VGGSmall(nn.Module):
    """Convolutions with batch-norm in the manner of VGG, one hidden fully connected layer, no output layer.

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image in pixels, at least 8.
        stages: Output channels of the convolutions, stage by stage; each stage ends with 2 x 2 max pooling.
        hidden: Units of the fully connected layer.
        width: Scales channels and units, above 0; they are rounded, and 1 or more.

    Attributes:
        num_features: Length of the feature vector.
        builder: Name and arguments to build the same network again.

    Raises:
        ValueError: If a number is below 1, ``width`` not above 0, or pooling leaves nothing of the image.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: int = 24,
        stages: Sequence[Sequence[int]] = ((16,), (32, 32), (64, 64)),
        hidden: int = 128,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        stages = [[int(channels) for channels in stage] for stage in stages]
        side = image_size // 2 ** len(stages)
        if min([in_channels, hidden, *(channels for stage in stages for channels in stage)]) < 1:
            raise ValueError(
                f"vgg_small with in_channels={in_channels}, stages={stages}, hidden={hidden}: each must be 1 or more"
            )
        if not 0 < width < float("inf"):
            raise ValueError(f"vgg_small with width={width}; allowed is a number above 0 (1 is the usual network)")
        stages = [[max(1, round(channels * width)) for channels in stage] for stage in stages]
        hidden = max(1, round(hidden * width))
        if side < 1:
            raise ValueError(
                f"vgg_small: {counted(len(stages), 'stage')} of pooling would leave nothing of {image_size} x "
                f"{image_size} pixels; allowed is an image size of at least {2 ** len(stages)}"
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in stages:
            for outputs in stage:
                layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(channels * side * side, hidden), nn.ReLU())
        self.num_features = hidden
        arguments = {"in_channels": in_channels, "image_size": image_size, "stages": stages, "hidden": hidden}
        self.builder = {"name": "vgg_small", "arguments": arguments}

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (N x ``num_features``) of ``images`` (N x C x H x W)."""
        features: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return features


def vgg_small(
    *,
    in_channels: int = 1,
    image_size: int = 24,
    stages: Sequence[Sequence[int]] = ((16,), (32, 32), (64, 64)),
    hidden: int = 128,
    width: float = 1.0,
) -> VGGSmall:
    """Returns a :class:`VGGSmall` with random weights (torch's defaults, from the global generator)."""
    return VGGSmall(in_channels=in_channels, image_size=image_size, stages=stages, hidden=hidden, width=width)
