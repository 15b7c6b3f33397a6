"""The CIFAR ResNet-20."""

import pytest
import torch
from torch import nn

from packnet_pl.models import resnet20
from tests.support.backbones import check_features_and_gradients, check_packing, check_rebuilt, images


def test_layers_are_those_of_the_paper():
    net = resnet20()
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 19
    assert all(layer.kernel_size == (3, 3) and layer.bias is None for layer in convolutions)
    assert [layer.out_channels for layer in convolutions] == [16] * 7 + [32] * 6 + [64] * 6
    strides = [layer.stride[0] for layer in convolutions]
    assert [number for number, stride in enumerate(strides) if stride == 2] == [7, 13]
    # 0.27 million in the paper's table 6, with the output layer for 10 classes.
    assert sum(parameter.numel() for parameter in net.parameters()) + 650 == 269722
    assert net.num_features == 64


def test_shortcuts_take_every_second_pixel_and_add_zeros():
    block = resnet20(width=0.125).layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)
    maps = torch.rand(2, 2, 6, 6)
    out = block(maps)
    assert torch.equal(out[:, :2], maps[:, :, ::2, ::2])
    assert torch.equal(out[:, 2:], torch.zeros(2, 2, 3, 3))


@pytest.mark.parametrize(("width", "num_features"), [(0.01, 4), (0.125, 8), (0.25, 16), (0.5, 32), (1.5, 96), (2, 128)])
def test_width_scales_every_stage(width, num_features):
    net = resnet20(width=width)
    assert net.num_features == num_features
    assert net.eval()(images(9)).shape == (2, num_features)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_trains_and_packs_and_comes_back(channels, tmp_path):
    net = resnet20(in_channels=channels, width=0.25)
    check_features_and_gradients(net, images(16, channels))
    check_rebuilt(net, images(16, channels))
    check_packing(net, images(16, channels), tmp_path / "packed.safetensors")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"in_channels": 0}, "in_channels=0; allowed is 1 or more"),
        ({"width": 0}, "width=0; allowed is a number above 0"),
        ({"width": float("nan")}, "width=nan"),
        ({"width": float("inf")}, "width=inf"),
    ],
)
def test_impossible_networks_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        resnet20(**arguments)
