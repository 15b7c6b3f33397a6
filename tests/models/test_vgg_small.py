"""The small VGG."""

import pytest
import torch
from torch import nn

from packnet_pl.models import VGGSmall, build_backbone, vgg_small


def described(module):
    """The layers of a Sequential in words."""
    words = []
    for layer in module:
        match layer:
            case nn.Conv2d():
                assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
                assert layer.bias is None
                words.append(f"conv {layer.in_channels}-{layer.out_channels}")
            case nn.BatchNorm2d():
                words.append(f"norm {layer.num_features}")
            case nn.MaxPool2d():
                assert (layer.kernel_size, layer.stride) == (2, 2)
                words.append("pool")
            case nn.Linear():
                assert layer.bias is not None
                words.append(f"fc {layer.in_features}-{layer.out_features}")
            case _:
                words.append(type(layer).__name__)
    return words


def test_layers_are_those_of_the_description():
    net = vgg_small()
    assert described(net.features) == [
        *("conv 1-16", "norm 16", "ReLU", "pool"),
        *("conv 16-32", "norm 32", "ReLU", "conv 32-32", "norm 32", "ReLU", "pool"),
        *("conv 32-64", "norm 64", "ReLU", "conv 64-64", "norm 64", "ReLU", "pool"),
    ]
    assert described(net.classifier) == ["fc 576-128", "ReLU"]
    assert net.num_features == 128


def test_it_turns_images_into_features():
    net = vgg_small().eval()
    features = net(torch.randn(5, 1, 24, 24))
    assert features.shape == (5, 128)
    assert (features >= 0).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"in_channels": 3, "image_size": 8, "stages": ((4,), (6, 6)), "hidden": 5},
        {"image_size": 9, "stages": [[4], [4], [4]]},
        {"image_size": 4, "stages": ((2,),)},
    ],
)
def test_it_can_be_built_again_from_its_builder(arguments):
    net = vgg_small(**arguments)
    again = build_backbone(net.builder)
    assert isinstance(again, VGGSmall)
    assert again.builder == net.builder
    again.load_state_dict(net.state_dict())
    images = torch.randn(2, arguments.get("in_channels", 1), *[arguments.get("image_size", 24)] * 2)
    assert torch.equal(net.eval()(images), again.eval()(images))
    assert again.num_features == net.eval()(images).shape[1]


def test_the_builder_is_plain_data():
    assert vgg_small(stages=((4,), (6, 6))).builder == {
        "name": "vgg_small",
        "arguments": {"in_channels": 1, "image_size": 24, "stages": [[4], [6, 6]], "hidden": 128},
    }


def test_a_width_scales_channels_and_units_and_the_builder_has_the_result():
    assert vgg_small(stages=((4,), (6, 1)), hidden=9, width=1.45).builder["arguments"] == {
        "in_channels": 1,
        "image_size": 24,
        "stages": [[6], [9, 1]],
        "hidden": 13,
    }
    assert vgg_small(stages=((4,),), hidden=2, width=0.1).builder["arguments"]["stages"] == [[1]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"in_channels": 0}, "in_channels=0.*each must be 1 or more"),
        ({"hidden": -1}, "hidden=-1.*each must be 1 or more"),
        ({"stages": ((4,), (0,))}, r"stages=\[\[4\], \[0\]\].*each must be 1 or more"),
        ({"image_size": 7}, "3 stages of pooling would leave nothing of 7 x 7 pixels.*at least 8"),
        ({"image_size": 0}, "nothing of 0 x 0 pixels"),
        ({"width": 0.0}, "width=0.0; allowed is a number above 0"),
        ({"width": float("nan")}, "width=nan; allowed is a number above 0"),
    ],
)
def test_impossible_networks_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        vgg_small(**arguments)


@pytest.mark.parametrize(
    ("builder", "match"),
    [
        (
            {"name": "os.system", "arguments": {"command": "true"}},
            r"backbone is 'os\.system'; .*\['resnet20', 'timm', 'torchvision', 'vgg_small'\].*backbone=",
        ),
        ({"name": None, "arguments": {}}, "backbone is None"),
        ({}, "backbone is None"),
        ({"name": "vgg_small"}, "backbone is 'vgg_small'"),
        ({"name": "vgg_small", "arguments": [1]}, "backbone is 'vgg_small'"),
        ({"name": "vgg_small", "arguments": {"depth": 3}}, "'vgg_small' does not take these arguments.*depth"),
        ({"name": "vgg_small", "arguments": {"hidden": 0}}, "hidden=0"),
        (
            {"name": "timm", "arguments": {"name": "resnet18", "pretrained": True}},
            "'timm' cannot be built with pretrained",
        ),
    ],
)
def test_builders_that_are_not_known_are_refused(builder, match):
    with pytest.raises(ValueError, match=match):
        build_backbone(builder)
