"""What pretrained weights say of the images that they were trained on, and that images are prepared so to the bit."""

import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import create_transform, resolve_data_config
from torchvision import models

from packnet_pl.data.processing import processing
from packnet_pl.data.to_tensor import resized
from packnet_pl.models import timm_backbone, torchvision_backbone
from packnet_pl.models.backbones.torchvision_families import torchvision_names
from packnet_pl.models.pretrained_inputs import INPUTS, timm_input, torchvision_input

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Weights of timm -> what is special about them. The first ones are of the usual kinds.
TIMM = {
    "resnet18.a1_in1k": "bilinear, 0.95 cut out",
    "resnet18.tv_in1k": "bilinear, 0.875",
    "vit_base_patch16_224.augreg_in21k": "bicubic, 0.9: 248.9 pixels, of which timm takes 248; mean 0.5",
    "eva_large_patch14_336.in22k_ft_in1k": "bicubic, squashed",
    "dm_nfnet_f0.dm_in1k": "bicubic, squashed, and 0.9 of it cut out",
    "vit_base_patch16_clip_384.openai_ft_in12k_in1k": "the same with 0.95",
    "tf_efficientnet_b5.ns_jft_in1k": "0.934",
    "mobilenetv4_conv_small.e2400_r224_in1k": "tested at another size than trained",
    "beit_base_patch16_384.in22k_ft_in22k_in1k": "all of the shorter side",
    "inception_v3.tv_in1k": "299 pixels",
}


def photographs():
    """Two photographs, upright and lying, and one that is smaller than what is cut out."""
    found = [Image.fromarray(image) for image in load_sample_images().images]
    return [found[0], found[1].transpose(Image.Transpose.ROTATE_90).crop((7, 0, 300, 611)), found[1].resize((101, 67))]


def prepared(wanted):
    """What the test split of a data set makes of an image that was read."""
    how = processing(
        image_size=wanted.image_size,
        resize=wanted.resize,
        squash=wanted.squash,
        interpolation=wanted.interpolation,
        mean=wanted.mean,
        std=wanted.std,
    )
    return lambda image: how.transform()(resized(image, how.preparation))


def presets():
    """One of torchvision's weights for each preparation that any of them has."""
    found = {}
    for name in torchvision_names():
        for weights in models.get_model_weights(name):
            found.setdefault(str(weights.transforms()), (name, weights.name))
    return sorted(found.values())


@pytest.mark.parametrize(("name", "weights"), presets())
def test_images_are_prepared_as_torchvision_does_for_its_weights(name, weights):
    preset = models.get_model_weights(name)[weights].transforms()
    ours = prepared(torchvision_input(name, weights))
    for photograph in photographs():
        assert torch.equal(ours(photograph), preset(photograph))


@pytest.mark.parametrize("name", TIMM)
def test_images_are_prepared_as_timm_does_for_its_weights(name):
    config = timm.get_pretrained_cfg(name)
    for size in (None, 64, 225):
        given = {} if size is None else {"img_size": size}
        theirs = create_transform(**resolve_data_config(given, pretrained_cfg=vars(config)))
        wanted = timm_input(name, size)
        assert not wanted.beyond
        ours = prepared(wanted)
        for photograph in photographs():
            assert torch.equal(ours(photograph), theirs(photograph))


@pytest.mark.exhaustive
def test_every_preparation_of_timm_is_its_own_to_the_bit_or_refused():
    seen = {}
    for name in timm.list_models(pretrained=True):
        config = resolve_data_config(pretrained_cfg=vars(timm.get_pretrained_cfg(name)))
        seen.setdefault(str(config), (name, config))
    refused = [name for name, _ in seen.values() if timm_input(name).beyond]
    assert 0 < len(refused) < 20
    photograph = photographs()[1]
    for name, config in seen.values():
        if name not in refused:
            assert torch.equal(prepared(timm_input(name))(photograph), create_transform(**config)(photograph)), name


@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("deepseek_vit_412m", "padded at their edges (crop mode 'border')"),
        ("volo_d5_512", "smaller than what is cut out of them (crop share 1.15)"),
        ("vit_base_patch16_sapiens2", "1024 pixels high and 768 wide"),
    ],
)
def test_what_cannot_be_done_is_said(name, beyond):
    if not timm.is_model(name):
        pytest.skip("this timm does not have it yet")
    assert timm_input(name).beyond == beyond


def test_every_network_of_torchvision_has_its_metadata():
    for name in torchvision_names():
        found, preset = torchvision_input(name), models.get_model_weights(name).DEFAULT.transforms()
        assert (found.image_size, list(found.mean)) == (preset.crop_size[0], list(preset.mean)), name
    assert torchvision_input("vgg16") == INPUTS[torchvision_backbone]("vgg16", True, None)
    assert (torchvision_input("vgg16").image_size, torchvision_input("vit_h_14").image_size) == (224, 518)
    assert (torchvision_input("vgg16").mean, torchvision_input("vgg16").std) == IMAGENET


def test_weights_of_one_network_differ():
    first, second = (torchvision_input("resnet50", f"IMAGENET1K_V{number}") for number in (1, 2))
    assert (first.resize, second.resize, torchvision_input("resnet50", "weights.pth").resize) == (256, 232, 232)
    assert (torchvision_input("resnet50", True, 112).image_size, torchvision_input("resnet50", True, 112).resize) == (
        112,
        116,
    )


def test_networks_of_timm_differ():
    found = INPUTS[timm_backbone]("vit_tiny_patch16_224", True, None)
    assert (found.image_size, found.mean, found.std) == (224, (0.5,) * 3, (0.5,) * 3)
    assert timm_input("inception_v3").image_size == 299
    assert (timm_input("resnet18").mean, timm_input("resnet18").std) == IMAGENET
    tagged = timm.get_pretrained_cfg("resnet50.a1_in1k")
    assert timm_input("resnet50.a1_in1k").image_size == tagged.input_size[-1]


def test_what_does_not_exist_has_none():
    assert torchvision_input("resnet19") is None
    assert timm_input("resnet19") is None
    assert timm_input("resnet18.nope") is None
