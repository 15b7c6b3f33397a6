"""Every network of torchvision that classifies images, by name: built, with published weights, packed."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from packnet_pl import load_packed
from packnet_pl.models import torchvision_backbone, with_head
from packnet_pl.models.backbones.torchvision_families import FAMILIES, family_of, torchvision_names
from tests.support.backbones import check_features_and_gradients, check_packing, check_rebuilt, images
from tests.support.cases import breadth

# Families that are built in one width -> smallest size of images, size for training, features.
ONE_WIDTH = {
    "alexnet": (63, 64, 4096),
    "squeezenet1_0": (21, 32, 512),
    "squeezenet1_1": (17, 32, 512),
    "googlenet": (15, 64, 1024),
    "inception_v3": (75, 150, 2048),
    "efficientnet_b0": (1, 64, 1280),
    "efficientnet_v2_s": (1, 64, 1280),
    "regnet_x_400mf": (1, 64, 400),
    "regnet_y_400mf": (1, 64, 440),
    "swin_t": (4, 32, 768),
    "swin_v2_t": (4, 32, 768),
    "maxvit_t": (224, 224, 512),
}
# Of those with a width: features at width 0.25.
NARROW = {
    "mobilenet_v2": 1280,
    "mobilenet_v3_large": 320,
    "mobilenet_v3_small": 256,
    "mnasnet1_0": 1280,
    "mnasnet0_5": 1280,
    "shufflenet_v2_x1_0": 256,
}
# Networks without a linear layer behind pooled features, which a task's head could replace.
POOLS_LOGITS = ("squeezenet1_0", "squeezenet1_1")


class Weightless(TorchFunctionMode):
    """Makes parameters without memory; what is computed from ranges has its values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn):
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def original(name):
    """torchvision's network with its auxiliary heads and random values everywhere, as a published file is loaded."""
    more = {"transform_input": True, "init_weights": False} if family_of(name).transforms_input else {}
    net = models.get_model(name, weights=None, **more).eval()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim < 2:
                tensor.uniform_(0.5, 1.5)
    return net


def test_all_networks_of_torchvision_that_classify_are_built_by_name():
    assert torchvision_names() == models.list_models(module=models)
    for name in torchvision_names():
        assert len([family for family in FAMILIES if name.startswith(family.prefixes)]) == 1, name


@pytest.mark.parametrize("name", breadth(torchvision_names(), "resnet18", "squeezenet1_1", "googlenet", "mnasnet0_5"))
def test_every_network_is_built_and_has_the_promised_features(name):
    with Weightless():
        net = torchvision_backbone(name).to("meta").eval()
    assert net(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, net.num_features)
    whole = {f"{family_of(name).last}.", *(f"{layer}." for layer in family_of(name).auxiliary)}
    with Weightless():
        full = models.get_model(name, weights=None).state_dict()
    kept = {key: value.shape for key, value in full.items() if not key.startswith(tuple(whole))}
    assert {key: value.shape for key, value in net.state_dict().items()} == kept


@pytest.mark.parametrize("name", breadth(ONE_WIDTH, "squeezenet1_1", "googlenet", "regnet_x_400mf"))
def test_a_network_of_each_family_trains_is_built_again_and_packed(name, tmp_path):
    _, size, num_features = ONE_WIDTH[name]
    torch.manual_seed(0)
    net = torchvision_backbone(name, image_size=size)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics of two steps are otherwise far from those of the images
    assert net.num_features == num_features
    check_features_and_gradients(net, images(size))
    check_rebuilt(net, images(size))
    check_packing(net, images(size), tmp_path / "packed.safetensors", lr=1e-6)


@pytest.mark.parametrize("name", breadth(NARROW, "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x1_0"))
def test_a_narrow_network_of_each_family_trains_is_built_again_and_packed(name, tmp_path):
    net = torchvision_backbone(name, image_size=64, in_channels=1, width=0.25)
    assert net.num_features == NARROW[name]
    check_features_and_gradients(net, images(64, 1))
    check_rebuilt(net, images(64, 1))
    check_packing(net, images(64, 1), tmp_path / "packed.safetensors", lr=1e-6)
    with torch.device("meta"):
        full = models.get_model(name, weights=None).state_dict()
    last = f"{family_of(name).last}."
    assert {key: value.ndim for key, value in net.state_dict().items()} == {
        key: value.ndim for key, value in full.items() if not key.startswith(last)
    }


@pytest.mark.parametrize("name", breadth(ONE_WIDTH, "alexnet", "squeezenet1_0", "squeezenet1_1", "googlenet", "swin_t"))
def test_the_smallest_images_pass_through_and_smaller_ones_do_not(name):
    smallest = ONE_WIDTH[name][0]
    net = torchvision_backbone(name, image_size=smallest).eval().to("meta")
    assert net(torch.zeros(1, 3, smallest, smallest, device="meta")).shape == (1, net.num_features)
    if smallest > 1 and name != "maxvit_t":  # some sizes just below its multiples pass, too
        with pytest.raises(RuntimeError):
            net(torch.zeros(1, 3, smallest - 1, smallest - 1, device="meta"))


@pytest.mark.parametrize(
    "name",
    breadth([*ONE_WIDTH, *NARROW], "googlenet", "inception_v3", "mnasnet0_5", "squeezenet1_1", "mobilenet_v3_small"),
)
def test_published_files_load_with_their_heads_and_predict_as_the_original_does(name, tmp_path):
    size, full, path = 224, original(name), tmp_path / "weights.safetensors"
    save_file(full.state_dict(), path)
    net = torchvision_backbone(name, image_size=size, pretrained=path).eval()
    with torch.no_grad():
        features, expected = net(images(size)), full(images(size))
        assert features.shape == (2, net.num_features)
        assert len(expected.unique()) > 100
        if name in POOLS_LOGITS:
            assert torch.equal(features, nn.functional.adaptive_avg_pool2d(full.features(images(size)), 1).flatten(1))
            assert net.pretrained_head is None
            assert with_head(net, nn.Linear(net.num_features, 3)) is None
            return
        assert torch.equal(full.get_submodule(family_of(name).last)(features), expected)
        head = nn.Linear(net.num_features, 1000)
        head.load_state_dict(net.pretrained_head)
        assert torch.equal(head(features), expected)
        whole = with_head(net, head)
        if name == "maxvit_t":  # its output layer has no bias
            assert whole is None
            return
        assert torch.equal(whole.eval()(images(size)), expected)
        full.load_state_dict(whole.state_dict(), strict=not family_of(name).auxiliary)


def test_images_are_normalised_again_where_published_weights_expect_it_and_a_packed_file_knows_it(tmp_path):
    full = original("googlenet")
    torch.save(full.state_dict(), tmp_path / "w.pth")
    twice = torchvision_backbone("googlenet", image_size=64, pretrained=tmp_path / "w.pth").eval()
    once = torchvision_backbone("googlenet", image_size=64, pretrained=tmp_path / "w.pth", transform_input=False).eval()
    assert "transform_input" not in once.builder["arguments"]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = images(64).sigmoid()
    imagenet, half = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1), (pixels - 0.5) / 0.5
    seen = []
    for net, batch in ((twice, imagenet), (once, half)):
        with net.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0])), torch.no_grad():
            net(batch)
    torch.testing.assert_close(*seen)
    assert not torch.allclose(imagenet, half, atol=0.1)
    check_packing(twice, imagenet, tmp_path / "packed.safetensors", lr=1e-6)
    assert load_packed(tmp_path / "packed.safetensors").backbone.transform_input is True
    assert torchvision_backbone("googlenet", in_channels=1, pretrained=tmp_path / "w.pth").transform_input is False


@pytest.mark.parametrize("name", breadth([*ONE_WIDTH, *NARROW], "squeezenet1_1", "mobilenet_v3_small"))
def test_other_channels_get_a_first_convolution_as_the_family_fills_it(name):
    size = ONE_WIDTH.get(name, (0, 64, 0))[1]
    torch.manual_seed(0)
    net, usual = (torchvision_backbone(name, image_size=size, in_channels=channels) for channels in (6, 3))
    first, usual = (found.get_submodule(family_of(name).first) for found in (net, usual))
    fan_in = name.startswith(("alexnet", "squeezenet", "shufflenet", "swin"))
    expected = usual.weight.std() * (0.5**0.5 if fan_in else 1)
    assert first.weight.std().item() == pytest.approx(expected.item(), rel=0.15)
    assert net.eval()(images(size, 6)).shape == (2, net.num_features)
