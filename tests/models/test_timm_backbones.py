"""timm's networks without their last layer."""

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from packnet_pl.models import timm_backbone
from tests.support.backbones import check_features_and_gradients, check_packing, check_rebuilt, images
from tests.support.cases import breadth

# Name -> image size, features.
FAMILIES = {
    "resnet18": (32, 512),
    "vit_tiny_patch16_224": (32, 192),
    "convnext_atto": (32, 320),
    "efficientnet_b0": (32, 1280),
    "mobilenetv3_small_050": (32, 1024),
    "densenet121": (32, 1024),
    "regnetx_002": (32, 368),
    "deit_tiny_patch16_224": (32, 192),
}
# Name -> the layer that is left out.
LAST = {
    "resnet18": "fc",
    "vit_tiny_patch16_224": "head",
    "mobilenetv3_small_050": "classifier",
    "convnext_atto": "head.fc",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_have_the_promised_length_and_all_is_built_again(name):
    size, num_features = FAMILIES[name]
    net = timm_backbone(name, image_size=size)
    assert net.num_features == num_features
    check_features_and_gradients(net, images(size))
    check_rebuilt(net, images(size))
    assert net.builder == {
        "name": "timm",
        "arguments": {"name": name, "in_channels": 3, "image_size": size, "width": 1.0},
    }


@pytest.mark.parametrize(
    "name",
    breadth(["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"], "mobilenetv3_small_050"),
)
def test_it_is_packed(name, tmp_path):
    net = timm_backbone(name, in_channels=1, image_size=32)
    check_packing(net, images(32, 1), tmp_path / "packed.safetensors")


@pytest.mark.parametrize("name", LAST)
def test_features_and_the_removed_layer_are_the_original_to_the_bit(name, tmp_path):
    size = FAMILIES[name][0] if "vit" not in name else 224
    full = timm.create_model(name).eval()
    torch.save(full.state_dict(), tmp_path / "weights.pth")
    net = timm_backbone(name, pretrained=tmp_path / "weights.pth").eval()
    with torch.no_grad():
        outputs = full.get_submodule(LAST[name])(net(images(size)))
        assert torch.equal(outputs, full(images(size)))
        head = net.pretrained_head
        assert torch.equal(nn.functional.linear(net(images(size)), head["weight"], head["bias"]), outputs)
    assert "pretrained" not in net.builder["arguments"]


def test_timm_s_own_weights_come_with_their_classifier(tmp_path, monkeypatch):
    full, make = timm.create_model("test_resnet"), timm.create_model
    torch.save(full.state_dict(), tmp_path / "weights.pth")

    def from_file(name, pretrained=False, **settings):
        overlay = {"file": str(tmp_path / "weights.pth")} if pretrained else None
        return make(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **settings)

    monkeypatch.setattr("timm.create_model", from_file)
    net = timm_backbone("test_resnet", pretrained=True)
    assert torch.equal(net.conv1[0].weight, full.conv1[0].weight)
    assert torch.equal(net.pretrained_head["weight"], full.fc.weight)
    assert torch.equal(net.pretrained_head["bias"], full.fc.bias)
    assert not hasattr(timm_backbone("test_resnet"), "pretrained_head")


def test_a_network_with_two_classifiers_has_no_head(tmp_path):
    name = "deit_tiny_distilled_patch16_224"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    assert timm_backbone(name, pretrained=tmp_path / "weights.pth").pretrained_head is None


def test_pretrained_filters_are_summed_for_one_channel(tmp_path):
    full = timm.create_model("resnet10t")
    torch.save(full.state_dict(), tmp_path / "weights.pth")
    net = timm_backbone("resnet10t", in_channels=1, pretrained=tmp_path / "weights.pth")
    assert torch.equal(net.conv1[0].weight, full.conv1[0].weight.sum(1, keepdim=True))


def test_the_size_of_images_is_passed_where_the_network_is_built_for_one():
    assert timm_backbone("vit_tiny_patch16_224", image_size=64).pos_embed.shape == (1, 17, 192)
    assert timm_backbone("vit_tiny_patch16_224").pos_embed.shape == (1, 197, 192)
    net = timm_backbone("resnet10t", image_size=64).eval()
    assert net(images(48)).shape == (2, 512)


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("resnet1t8", {}, r"timm has no network 'resnet1t8'; did you mean 'resnet.*There are \d{4}, for example"),
        ("hf-hub:timm/resnet18.a1_in1k", {}, "timm has no network 'hf-hub:"),
        ("local-dir:/tmp", {}, "timm has no network 'local-dir:"),
        ("resnet18.nope", {"image_size": 32}, r"timm cannot build resnet18\.nope .*Invalid pretrained tag"),
        pytest.param(
            *("gemma4_vit_167m_enc", {}, "is an encoder that puts out one vector per place of an image"),
            marks=pytest.mark.skipif(not timm.is_model("gemma4_vit_167m_enc"), reason="this timm does not have it yet"),
        ),
        ("resnet18", {"in_channels": 0}, "in_channels is 0; allowed is 1 or more"),
        ("resnet18", {"in_channels": 2, "pretrained": True}, "in_channels is 2; pretrained filters fit 3 channels"),
        ("resnet18", {"image_size": 0}, "image_size is 0; allowed is 1 or more pixels, or None"),
        ("resnet18", {"width": 0.5}, r"width is 0\.5; .* choose a smaller one of timm\.list_models\('resnet\*'\)"),
        ("vit_tiny_patch16_224", {"image_size": 40}, "image_size is 40; .*16 x 16.*the nearest is 32 or 48"),
        (
            "resnet18",
            {"pretrained": "weights.bin"},
            r"pretrained is 'weights\.bin'; allowed are True, False or a \.pth",
        ),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, match):
    with pytest.raises(ValueError, match=match):
        timm_backbone(name, **arguments)


def test_a_network_that_has_no_weights_says_so():
    name = next(name for name in timm.list_models("resnet*") if not timm.is_model_pretrained(name))
    with pytest.raises(ValueError, match=f"timm cannot build {name} .*pretrained=True: .*No pretrained weights"):
        timm_backbone(name, pretrained=True)


def test_files_that_do_not_fit_are_refused(tmp_path):
    state = timm.create_model("resnet10t").state_dict()
    torch.save(state | {"extra": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt are not this network's: unexpected are extra$"):
        timm_backbone("resnet10t", pretrained=tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"not this network's: missing are .* more; unexpected are .* more"):
        timm_backbone("mobilenetv3_small_050", pretrained=tmp_path / "w.pt")
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.pt with pretrained weights"):
        timm_backbone("resnet10t", pretrained=tmp_path / "nowhere.pt")


def test_a_download_that_fails_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"no pretrained weights for resnet18: .*cache of the Hugging Face hub.*PATH$"):
        timm_backbone("resnet18", pretrained=True)


def test_a_proxy_that_refuses_says_so(monkeypatch):
    class ProxyError(Exception):
        """httpx's, which is no OSError."""

        __module__ = "httpx"

    def refuse(*_, **__):
        raise ProxyError("403 Forbidden")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(OSError, match=r"no pretrained weights for resnet18: .* \(403 Forbidden\); give a file"):
        timm_backbone("resnet18", pretrained=True)


def test_opening_the_models_loads_neither_timm_nor_torchvision():
    code = (
        "import sys, packnet_pl.models as models; models.vgg_small(); models.resnet20(); "
        "print({'timm', 'torchvision'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
