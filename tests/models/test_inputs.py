"""What pretrained weights say of the images that they were trained on."""

import timm
from torchvision import models

from packnet_pl.models import timm_backbone, torchvision_backbone
from packnet_pl.models.backbones.torchvision_families import torchvision_names
from packnet_pl.models.pretrained_inputs import INPUTS, timm_input, torchvision_input

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_every_network_of_torchvision_has_its_metadata():
    for name in torchvision_names():
        found, preset = torchvision_input(name), models.get_model_weights(name).DEFAULT.transforms()
        assert (found.image_size, list(found.mean)) == (preset.crop_size[0], list(preset.mean)), name
    assert torchvision_input("vgg16") == INPUTS[torchvision_backbone]("vgg16", True)
    assert (torchvision_input("vgg16").image_size, torchvision_input("vit_h_14").image_size) == (224, 518)
    assert (torchvision_input("vgg16").mean, torchvision_input("vgg16").std) == IMAGENET


def test_networks_of_timm_differ():
    found = INPUTS[timm_backbone]("vit_tiny_patch16_224", True)
    assert (found.image_size, found.mean, found.std) == (224, (0.5,) * 3, (0.5,) * 3)
    assert timm_input("inception_v3").image_size == 299
    assert (timm_input("resnet18").mean, timm_input("resnet18").std) == IMAGENET
    tagged = timm.get_pretrained_cfg("resnet50.a1_in1k")
    assert timm_input("resnet50.a1_in1k").image_size == tagged.input_size[-1]


def test_what_does_not_exist_has_none():
    assert torchvision_input("resnet19") is None
    assert timm_input("resnet19") is None
    assert timm_input("resnet18.nope") is None
