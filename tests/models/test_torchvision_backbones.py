"""torchvision's networks without their last layer."""

import logging
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from packnet_pl.models import torchvision_backbone
from packnet_pl.models.backbones.torchvision_families import FAMILIES, Family, torchvision_names
from tests.support.backbones import check_features_and_gradients, check_packing, check_rebuilt, images
from tests.support.cases import breadth

# Name -> image size, features at width 0.1.
SMALL = {
    "vgg11": (32, 408),
    "vgg11_bn": (32, 408),
    "resnet18": (32, 48),
    "resnet50": (32, 192),
    "resnext50_32x4d": (32, 192),
    "wide_resnet50_2": (32, 192),
    "densenet121": (32, 255),
    "vit_b_32": (64, 64),
    "convnext_tiny": (32, 80),
}
# Name -> image size, last layer.
ORIGINALS = {
    "vgg11": (224, "classifier.6"),
    "resnet18": (72, "fc"),
    "densenet121": (72, "classifier"),
    "vit_b_32": (224, "heads.head"),
    "convnext_tiny": (72, "classifier.2"),
}


def original(name, channels=3):
    """torchvision's network, with all weights random: torchvision starts some, the ViT's last layer too, at zero."""
    net = models.get_model(name, weights=None, **({"init_weights": False} if name.startswith("vgg") else {})).eval()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim < 3 and tensor.numel() < 10**6:
                tensor.uniform_(0.05, 0.1)
    return net


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(1)
    torch.save(original("resnet18").state_dict(), path)
    return path


@pytest.mark.parametrize("name", SMALL)
def test_a_narrow_network_of_each_kind_trains_and_is_built_again(name):
    size, num_features = SMALL[name]
    net = torchvision_backbone(name, image_size=size, width=0.1)
    assert net.num_features == num_features
    check_features_and_gradients(net, images(size))
    check_rebuilt(net, images(size))
    assert net.builder["arguments"] == {"name": name, "in_channels": 3, "image_size": size, "width": 0.1}


@pytest.mark.parametrize("name", breadth(SMALL, "resnet18", "vit_b_32"))
def test_a_narrow_network_of_each_kind_is_packed(name, tmp_path):
    size, _ = SMALL[name]
    net = torchvision_backbone(name, image_size=size, width=0.1)
    check_packing(net, images(size), tmp_path / "packed.safetensors")


@pytest.mark.parametrize("name", SMALL)
def test_a_narrow_network_has_the_original_s_names(name):
    narrow = torchvision_backbone(name, width=0.1).state_dict()
    last = next(family.last for family in FAMILIES if name.startswith(family.prefixes))
    with torch.device("meta"):
        full = models.get_model(name, weights=None).state_dict()
    full = {key: value.ndim for key, value in full.items() if not key.startswith(f"{last}.")}
    assert {key: value.ndim for key, value in narrow.items()} == full


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "resnet50", "densenet121", "vit_b_32", "convnext_tiny"])
def test_factor_one_in_the_narrow_way_is_the_original(name):
    family = next(family for family in FAMILIES if name.startswith(family.prefixes))
    with torch.device("meta"):
        full = models.get_model(name, weights=None)
        same = family.narrow(full, 1.0, 224)
    shapes = {key: value.shape for key, value in same.state_dict().items() if not key.startswith(family.last)}
    assert shapes == {key: value.shape for key, value in full.state_dict().items() if not key.startswith(family.last)}
    # All but the last layer, which the narrow one is not asked to have.
    changed = {str(layer) for layer in same.modules() if not list(layer.children())} ^ {
        str(layer) for layer in full.modules() if not list(layer.children())
    }
    assert all("out_features=1" in layer for layer in changed), changed


@pytest.mark.parametrize("name", breadth(ORIGINALS, "resnet18", "densenet121"))
def test_features_and_the_removed_layer_are_the_original_to_the_bit(name, tmp_path):
    size, last = ORIGINALS[name]
    full = original(name)
    torch.save(full.state_dict(), tmp_path / "weights.pth")
    net = torchvision_backbone(
        name, image_size=size if name == "vit_b_32" else 224, pretrained=tmp_path / "weights.pth"
    )
    (tmp_path / "weights.pth").unlink()
    batch = images(size if name == "vit_b_32" else 64)
    with torch.no_grad():
        features, outputs = net.eval()(batch), full(batch)
        assert features.shape == (2, net.num_features)
        assert torch.equal(full.get_submodule(last)(features), outputs)
        head = net.pretrained_head
        assert torch.equal(nn.functional.linear(features, head["weight"], head["bias"]), outputs)
    assert not any("pretrained_head" in key for key in net.state_dict())
    assert len(outputs.unique()) > 100


def test_files_of_both_kinds_are_read(resnet18_file, tmp_path):
    save_file(torch.load(resnet18_file), tmp_path / "resnet18.safetensors")
    first = torchvision_backbone("resnet18", pretrained=resnet18_file)
    second = torchvision_backbone("resnet18", pretrained=str(tmp_path / "resnet18.safetensors"))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_weights_without_a_last_layer_have_no_head(resnet18_file, tmp_path):
    state = {key: value for key, value in torch.load(resnet18_file).items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "body.pth")
    assert torchvision_backbone("resnet18", pretrained=tmp_path / "body.pth").pretrained_head is None
    assert not hasattr(torchvision_backbone("resnet18", width=0.1), "pretrained_head")
    ten = {**state, "fc.weight": torch.randn(10, 512), "fc.bias": torch.randn(10)}
    torch.save(ten, tmp_path / "ten.pth")
    head = torchvision_backbone("resnet18", pretrained=tmp_path / "ten.pth").pretrained_head
    assert torch.equal(head["weight"], ten["fc.weight"])


def test_default_weights_come_from_the_cache(resnet18_file, monkeypatch):
    state = torch.load(resnet18_file)
    asked = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, **_: asked.append(url) or dict(state)
    )
    net = torchvision_backbone("resnet18", pretrained=True)
    assert asked == [models.ResNet18_Weights.DEFAULT.url]
    assert torch.equal(net.conv1.weight, state["conv1.weight"])
    assert net.builder["arguments"] == {"name": "resnet18", "in_channels": 3, "image_size": 224, "width": 1.0}


def test_older_weights_are_chosen_by_name(monkeypatch):
    asked = []
    state = original("resnet50").state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, **_: asked.append(url) or dict(state)
    )
    net = torchvision_backbone("resnet50", pretrained="IMAGENET1K_V1")
    assert asked == [models.ResNet50_Weights.IMAGENET1K_V1.url] != [models.ResNet50_Weights.DEFAULT.url]
    assert torch.equal(net.pretrained_head["weight"], state["fc.weight"])


def test_old_names_and_missing_counters_of_densenet_files_are_understood(tmp_path):
    torch.manual_seed(1)
    state = original("densenet121").state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.conv.2.weight" in old
    torch.save(old, tmp_path / "old.pth")
    net = torchvision_backbone("densenet121", pretrained=tmp_path / "old.pth")
    assert torch.equal(
        net.features.denseblock1.denselayer1.conv2.weight, old["features.denseblock1.denselayer1.conv.2.weight"]
    )


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "convnext_tiny"])
def test_small_images_get_a_stem_that_keeps_more_pixels(name, size):
    net = torchvision_backbone(name, image_size=size, width=0.1)
    first = {"resnet18": "conv1", "densenet121": "features.conv0", "convnext_tiny": "features.0.0"}[name]
    convolution = net.get_submodule(first)
    expected = ((2, 2), (2, 2), (0, 0)) if name == "convnext_tiny" else ((3, 3), (1, 1), (1, 1))
    assert (convolution.kernel_size, convolution.stride, convolution.padding) == expected
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in net.modules())
    assert convolution.weight.std() > 0
    usual = torchvision_backbone(name, image_size=65, width=0.1).get_submodule(first)
    assert usual.kernel_size in ((7, 7), (4, 4))


def test_the_small_stem_stays_random_and_all_else_is_loaded(resnet18_file, caplog):
    with caplog.at_level(logging.INFO):
        net = torchvision_backbone("resnet18", image_size=32, pretrained=resnet18_file)
    assert "resnet18: conv1, made for small images, is random; the rest is from" in caplog.text
    state = torch.load(resnet18_file)
    for name, value in net.state_dict().items():
        assert name == "conv1.weight" or torch.equal(value, state[name]), name
    assert net.conv1.weight.std() > 0


@pytest.mark.parametrize("name", breadth(ORIGINALS, "resnet18", "vit_b_32"))
@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_get_a_first_convolution_of_the_usual_spread(name, channels):
    net = torchvision_backbone(name, in_channels=channels, image_size=96, width=0.5)
    usual = torchvision_backbone(name, image_size=96, width=0.5)
    first, usual = (next(layer for layer in n.modules() if isinstance(layer, nn.Conv2d)) for n in (net, usual))
    fan_in = name in ("densenet121", "vit_b_32")
    expected = usual.weight.std() * ((3 / channels) ** 0.5 if fan_in else 1)
    assert first.in_channels == channels
    assert first.weight.std().item() == pytest.approx(expected.item(), rel=0.15)
    assert net(images(96, channels)).shape == (2, net.num_features)
    check_rebuilt(net, images(96, channels))


def test_pretrained_filters_are_summed_for_one_channel(resnet18_file):
    grey = torchvision_backbone("resnet18", in_channels=1, pretrained=resnet18_file).eval()
    colour = torchvision_backbone("resnet18", pretrained=resnet18_file).eval()
    batch = images(72, 1)
    with torch.no_grad():
        assert torch.equal(grey.conv1.weight, colour.conv1.weight.sum(1, keepdim=True))
        assert torch.allclose(grey(batch), colour(batch.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-5)


def test_position_embeddings_are_interpolated_to_the_images(tmp_path, caplog):
    state = original("vit_b_32").state_dict()
    torch.save(state, tmp_path / "vit.pt")
    with caplog.at_level(logging.INFO):
        net = torchvision_backbone("vit_b_32", image_size=96, pretrained=tmp_path / "vit.pt")
    assert "interpolated to images of 96 pixels" in caplog.text
    assert net.encoder.pos_embedding.shape == (1, 10, 768)
    assert torch.equal(net.encoder.pos_embedding[:, :1], state["encoder.pos_embedding"][:, :1])
    assert net(images(96)).shape == (2, 768)


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("resnet19", {}, r"no backbone 'resnet19'; did you mean 'resnet18' or .*There are 80.*timm_backbone has more"),
        ("ResNet18", {}, "no backbone 'ResNet18'"),
        ("fcn_resnet50", {}, "no backbone 'fcn_resnet50'"),
        ("inception_v3", {"image_size": 74}, "image_size is 74; inception_v3 takes images of at least 75 pixels"),
        ("maxvit_t", {"image_size": 300}, "image_size is 300; maxvit_t divides .*the nearest is 224 or 448"),
        ("maxvit_t", {"image_size": 100}, "the nearest is 224"),
        ("swin_t", {"width": 0.5}, "width is 0.5; swin_t comes in one width only"),
        ("resnet18", {"transform_input": True}, "transform_input is True; resnet18 with 3 channels has no such step"),
        ("googlenet", {"transform_input": True, "in_channels": 1}, "googlenet with 1 channels has no such step"),
        ("resnet18", {"in_channels": 0}, "in_channels is 0; allowed is 1 or more"),
        (
            "resnet18",
            {"in_channels": 4, "pretrained": True},
            "in_channels is 4; pretrained filters fit 3 channels, or 1",
        ),
        ("resnet18", {"image_size": 0}, "image_size is 0; resnet18 takes images of at least 1 pixels"),
        ("vgg11", {"image_size": 31}, "image_size is 31; vgg11 takes images of at least 32 pixels"),
        ("densenet121", {"image_size": 7}, "at least 8 pixels"),
        ("convnext_tiny", {"image_size": 15}, "at least 16 pixels"),
        ("vit_b_16", {"image_size": 100}, "image_size is 100; vit_b_16 cuts patches of 16 x 16.*nearest is 96 or 112"),
        ("vit_b_32", {"image_size": 24}, "the nearest is 32"),
        ("resnet18", {"width": 0}, "width is 0; allowed is a number above 0"),
        ("resnet18", {"width": float("nan")}, "width is nan"),
        ("resnet18", {"width": 0.5, "pretrained": True}, "width is 0.5 and pretrained True; .* fit width=1 only"),
        (
            "resnet18",
            {"pretrained": "IMAGENET1K_V3"},
            "pretrained is 'IMAGENET1K_V3'; torchvision has IMAGENET1K_V1 for resnet18; allowed are these, True",
        ),
        ("resnet18", {"pretrained": "weights.ckpt"}, "pretrained is 'weights.ckpt'; allowed are True, False or a .pth"),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, match):
    with pytest.raises(ValueError, match=match):
        torchvision_backbone(name, **arguments)


@pytest.mark.parametrize(
    ("name", "smallest"), [("vgg11", 32), ("resnet18", 1), ("densenet121", 8), ("convnext_tiny", 16)]
)
def test_the_smallest_images_pass_through(name, smallest):
    net = torchvision_backbone(name, image_size=smallest, width=0.1).eval()
    assert net(images(smallest)).shape == (2, net.num_features)
    if smallest > 1:
        with pytest.raises(RuntimeError):
            net(images(smallest - 1))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.pth with pretrained weights"):
        torchvision_backbone("resnet18", pretrained=tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"conv1.weight": None, "layer1.0.conv1.weight": None}, r"missing are layer1\.0\.conv1\.weight$"),
        ({f"extra.{n}": torch.zeros(1) for n in range(5)}, r"unexpected are extra\.0, extra\.1, extra\.2 and 2 more$"),
        ({"bn1.weight": torch.zeros(3)}, r"of another shape: bn1\.weight is \[3\] instead of \[64\]$"),
    ],
)
def test_another_network_s_weights_are_refused(resnet18_file, tmp_path, content, match):
    state = {**torch.load(resnet18_file), **content}
    torch.save({key: value for key, value in state.items() if value is not None}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=f"w.pth are not this network's: .*{match}"):
        # At 32 pixels the first convolution is not asked for.
        torchvision_backbone("resnet18", image_size=32, pretrained=tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"epoch": 3, "state_dict": {}}, r"no state dict, it holds \['epoch', 'state_dict'\]; save the network's"),
        ([1], "no state dict, it holds list"),
        (Path("code"), r"holds pathlib\.\w+Path, and is read as plain data"),
        (b"not a zip file", "is damaged, or holds more than tensors"),
    ],
)
def test_files_with_something_else_are_refused(tmp_path, content, match):
    path = tmp_path / "w.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=match):
        torchvision_backbone("resnet18", pretrained=path)


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
        torchvision_backbone("resnet18", pretrained=tmp_path / "w.safetensors")


def test_a_download_that_fails_says_where_it_looked(tmp_path, monkeypatch):
    def fails(url, *_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = (
        rf"no pretrained weights for resnet18: they are not in {tmp_path}/hub/checkpoints/resnet18-\w+\.pth and could "
        r"not be had from https://download\.pytorch\.org/.*Name or service not known.*give one as pretrained=PATH$"
    )
    with pytest.raises(OSError, match=message):
        torchvision_backbone("resnet18", pretrained=True)


def test_a_family_is_added_by_one_row(monkeypatch, tmp_path):
    def narrow_mobilenet(original, width, image_size):
        return models.mobilenet_v2(width_mult=width)

    row = Family(("mobilenet_v2",), "features.0.0", "classifier.1", narrow=narrow_mobilenet, small_stem=(3, 1, 1))
    others = (family for family in FAMILIES if "mobilenet_v2" not in family.prefixes)
    monkeypatch.setattr("packnet_pl.models.backbones.torchvision_families.FAMILIES", (*others, row))
    assert "mobilenet_v2" in torchvision_names()
    net = torchvision_backbone("mobilenet_v2", in_channels=1, image_size=32, width=0.1)
    check_rebuilt(net, images(32, channels=1))
    check_packing(net, images(32, channels=1), tmp_path / "packed.safetensors")


def test_a_family_of_one_width_refuses_others():
    with pytest.raises(ValueError, match=r"width is 0.5; regnet_x_400mf comes in one width only: give width=1"):
        torchvision_backbone("regnet_x_400mf", width=0.5)
