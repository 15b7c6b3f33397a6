"""Sizes of images that a network does not take are refused, with the nearest that it takes."""

import pytest
import timm
import torch

from packnet_pl.models import timm_backbone, torchvision_backbone
from packnet_pl.models.image_sizes import nearest_sizes
from tests.support.cases import breadth

# Network of timm -> a size that it does not take, the nearest that it takes.
SIZES = {
    "dla34": (100, [96, 128]),  # strides
    "halonet26t": (100, [256]),  # blocks of its attention
    "crossvit_tiny_240": (100, [240]),  # two sizes of patches
    "nest_tiny": (100, [96, 112]),
    "gcvit_tiny": (100, [96, 128]),
    "csatv2": (100, [96, 104]),
    "efficientformer_l1": (100, [224]),
    "hrnet_w18_small": (100, [96, 128]),
    "maxvit_pico_rw_256": (100, [96, 128]),
    "coat_tiny": (240, [224, 256]),
    "naflexvit_base_patch16_siglip": (100, [96, 112]),
    "qwen3_vit_88m": (100, [96, 112]),
}


def builder(name, kind="timm"):
    return {"name": kind, "arguments": {"name": name, "in_channels": 3, "image_size": None, "width": 1.0}}


@pytest.mark.parametrize("name", breadth(SIZES, "dla34", "halonet26t"))
def test_the_nearest_sizes_are_found_and_pass_through_the_network(name):
    if not timm.is_model(name):
        pytest.skip("this timm does not have it yet")
    size, expected = SIZES[name]
    assert nearest_sizes(builder(name), size) == expected
    net = timm_backbone(name, image_size=expected[0]).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, expected[0], expected[0])).shape == (1, net.num_features)


def test_a_size_that_a_network_takes_is_the_nearest():
    assert nearest_sizes(builder("resnet10t"), 101) == [101]
    assert nearest_sizes({"name": "resnet20", "arguments": {"in_channels": 3, "width": 1.0}}, 32) == []
    before = torch.get_rng_state()
    assert nearest_sizes(builder("alexnet", "torchvision"), 50) == [64]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not timm.is_model("deepseek_vit_412m"), reason="this timm does not have it yet")
def test_patches_anywhere_in_a_network_have_to_fit(monkeypatch):
    make = timm.create_model
    monkeypatch.setattr("timm.create_model", lambda *args, **kwargs: make(*args, depth=1, **kwargs))
    with pytest.raises(
        ValueError, match=r"image_size is 100; deepseek_vit_412m cuts patches of 14 x 14.* is 98 or 112"
    ):
        timm_backbone("deepseek_vit_412m", image_size=100)
    assert timm_backbone("deepseek_vit_412m", image_size=98).eval()(torch.zeros(1, 3, 98, 98)).shape[0] == 1


def test_the_network_is_built_for_its_weights_size_or_224():
    assert torchvision_backbone("resnet18", width=0.1).builder["arguments"]["image_size"] == 224
