"""torchvision's mobile networks at other widths: MobileNet, MNASNet and ShuffleNet, as in ``torchvision_narrow.py``."""

from typing import Any

from torch import nn

from packnet_pl.models.backbones.torchvision_narrow import scaled

__all__ = ["narrow_mnasnet", "narrow_mobilenet_v2", "narrow_mobilenet_v3", "narrow_shufflenet"]


def narrow_mobilenet_v2(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a MobileNetV2 with all layers scaled but, below width 1, the last.

    Args:
        original: Not used: there is one.
        width: Factor, above 0.
        image_size: Not used.
    """
    from torchvision import models

    net: nn.Module = models.mobilenet_v2(width_mult=width)
    return net


def narrow_mobilenet_v3(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a MobileNetV3 with all layers scaled.

    Args:
        original: The torchvision network: the large or the small one.
        width: Factor, above 0.
        image_size: Not used.
    """
    from torchvision import models

    is_large = original.classifier[0].out_features == 1280
    net: nn.Module = (models.mobilenet_v3_large if is_large else models.mobilenet_v3_small)(width_mult=width)
    return net


def narrow_mnasnet(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns an MNASNet with all layers scaled but the last.

    Args:
        original: The torchvision network, which has a width of its own.
        width: Factor to that, above 0.
        image_size: Not used.
    """
    from packnet_pl.models.backbones.torchvision_mnasnet import MNASNet

    return MNASNet(original.alpha * width)


def narrow_shufflenet(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a ShuffleNetV2 with all layers scaled.

    Args:
        original: The torchvision network.
        width: Factor, above 0.
        image_size: Not used.
    """
    from torchvision import models

    repeats = [len(stage) for stage in (original.stage2, original.stage3, original.stage4)]
    net: nn.Module = models.ShuffleNetV2(repeats, [scaled(count, width) for count in original._stage_out_channels])
    return net
