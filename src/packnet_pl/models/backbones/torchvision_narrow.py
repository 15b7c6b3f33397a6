"""torchvision's networks at other widths, which its own builders cannot make.

Each function takes the original, built without memory on the meta device, reads the configuration off it, and builds
the narrow or wide network with torchvision's classes, names of parameters and initial weights. Rounded widths are
multiples of 8. The last layer is left as it comes: the caller removes it.
"""

from math import lcm
from typing import Any

import torch
from torch import nn

__all__ = ["narrow_convnext", "narrow_densenet", "narrow_resnet", "narrow_vgg", "narrow_vit"]


def narrow_vgg(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a VGG whose convolutions and hidden fully connected layers are scaled.

    Args:
        original: The torchvision network of the wanted depth.
        width: Factor, above 0.
        image_size: Not used.
    """
    from torchvision.models.vgg import VGG, make_layers

    layers: list[str | int] = []
    for layer in original.features:
        if isinstance(layer, nn.Conv2d):
            layers.append(scaled(layer.out_channels, width))
        elif isinstance(layer, nn.MaxPool2d):
            layers.append("M")
    norms = any(isinstance(layer, nn.BatchNorm2d) for layer in original.features)
    features = make_layers(layers, batch_norm=norms)
    # The classifier of the full width, 100 million weights, would be made only to be replaced.
    with torch.device("meta"):
        net: Any = VGG(features)
    channels, hidden = [size for size in layers if size != "M"][-1], scaled(4096, width)
    net.classifier[0] = nn.Linear(int(channels) * 7 * 7, hidden)
    net.classifier[3] = nn.Linear(hidden, hidden)
    net.classifier[6] = nn.Linear(hidden, 1)
    for layer in (net.classifier[0], net.classifier[3]):
        nn.init.normal_(layer.weight, 0, 0.01)
        nn.init.zeros_(layer.bias)
    return _checked(net)


def narrow_resnet(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a ResNet, ResNeXt or wide ResNet with all stages scaled; the number of groups stays.

    Args:
        original: The torchvision network of the wanted depth.
        width: Factor, above 0.
        image_size: Not used.
    """
    from torchvision.models.resnet import ResNet

    stages = [original.layer1, original.layer2, original.layer3, original.layer4]
    block, depths = type(stages[0][0]), [len(stage) for stage in stages]
    with torch.device("meta"):
        net: Any = ResNet(block, depths, groups=original.groups, width_per_group=original.base_width)
    # A group of a bottleneck has planes * base_width / 64 channels, which must be a whole number.
    step = lcm(8, 64 // min(64, original.base_width))
    planes = [scaled(64 * 2**number, width, step) for number in range(4)]
    net.inplanes = planes[0]
    net.conv1 = nn.Conv2d(3, planes[0], kernel_size=7, stride=2, padding=3, bias=False)
    net.bn1 = nn.BatchNorm2d(planes[0])
    for number, (size, depth) in enumerate(zip(planes, depths, strict=True), start=1):
        setattr(net, f"layer{number}", net._make_layer(block, size, depth, stride=1 if number == 1 else 2))
    net.fc = nn.Linear(planes[-1] * block.expansion, 1)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return _checked(net)


def narrow_densenet(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a DenseNet whose stem and growth rate are scaled.

    Args:
        original: The torchvision network of the wanted depth.
        width: Factor, above 0.
        image_size: Not used.
    """
    from torchvision.models.densenet import DenseNet

    blocks = [len(getattr(original.features, f"denseblock{number}")) for number in range(1, 5)]
    growth = original.features.denseblock1.denselayer1.conv2.out_channels
    net = DenseNet(
        growth_rate=scaled(growth, width),
        block_config=(blocks[0], blocks[1], blocks[2], blocks[3]),
        num_init_features=scaled(original.features.conv0.out_channels, width),
        num_classes=1,
    )
    return _checked(net)


def narrow_vit(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a vision transformer with fewer or more attention heads of the original size, at least one.

    Args:
        original: The torchvision network of the wanted depth.
        width: Factor, above 0.
        image_size: Height and width of an image in pixels, a multiple of the patch size.
    """
    from torchvision.models.vision_transformer import VisionTransformer

    heads = original.encoder.layers[0].num_heads
    chosen = max(1, round(heads * width))
    net = VisionTransformer(
        image_size=image_size,
        patch_size=original.patch_size,
        num_layers=len(original.encoder.layers),
        num_heads=chosen,
        hidden_dim=original.hidden_dim // heads * chosen,
        mlp_dim=original.mlp_dim // heads * chosen,
        num_classes=1,
    )
    return _checked(net)


def narrow_convnext(original: Any, width: float, image_size: int) -> nn.Module:
    """Returns a ConvNeXt with all stages scaled.

    Args:
        original: The torchvision network of the wanted depth.
        width: Factor, above 0.
        image_size: Not used.
    """
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = list(original.features[1::2])
    sizes = [scaled(stage[0].layer_scale.shape[0], width) for stage in stages]
    settings = [
        CNBlockConfig(size, following, len(stage))
        for size, following, stage in zip(sizes, [*sizes[1:], None], stages, strict=True)
    ]
    net = ConvNeXt(settings, stochastic_depth_prob=stages[-1][-1].stochastic_depth.p, layer_scale=1e-6, num_classes=1)
    return _checked(net)


def scaled(channels: int, width: float, step: int = 8) -> int:
    """Returns ``channels`` times ``width`` as a multiple of ``step``, at least ``step``."""
    return max(step, round(channels * width / step) * step)


def _checked(net: nn.Module) -> nn.Module:
    """Returns ``net``, unless a layer was forgotten on the meta device, which only another torchvision can cause."""
    devices = {parameter.device for parameter in net.parameters()}
    if len(devices) != 1:
        raise ValueError(f"this torchvision builds {type(net).__name__} otherwise: width must be 1 with this version")
    return net
