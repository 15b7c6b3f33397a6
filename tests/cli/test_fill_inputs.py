"""Input size and normalisation follow from the pretrained weights, unless the user says otherwise."""

import pytest

from packnet_pl.configuration.pretrained_inputs import fill_inputs


def filled(data, **arch):
    arch = {"_target_": "packnet_pl.models.timm_backbone", "name": "vit_tiny_patch16_224", "pretrained": True, **arch}
    config = {"arch": arch, "sequence": {"tasks": {"a": {"data": dict(data)}}}}
    fill_inputs(config)
    return config["sequence"]["tasks"]["a"]["data"]


OPEN = {"path": "x", "image_size": None, "mean": None, "std": None}


def test_what_is_left_open_is_filled():
    assert filled(OPEN) == {"path": "x", "image_size": 224, "mean": [0.5] * 3, "std": [0.5] * 3}
    assert filled(OPEN, pretrained="weights.pth")["mean"] == [0.5] * 3
    imagenet = filled(OPEN, _target_="packnet_pl.models.torchvision_backbone", name="vgg16")
    assert imagenet["mean"] == [0.485, 0.456, 0.406]


def test_weights_chosen_by_name_have_metadata_of_their_own():
    arch = {"_target_": "packnet_pl.models.torchvision_backbone", "name": "vit_b_16"}
    assert [filled(OPEN, **arch, pretrained=given)["image_size"] for given in (True, "x.pth")] == [224, 224]
    assert filled(OPEN, **arch, pretrained="IMAGENET1K_SWAG_E2E_V1")["image_size"] == 384


def test_what_the_user_gave_stays_and_nothing_is_added():
    given = {"image_size": 32, "mean": [0.0] * 3, "std": [1.0] * 3}
    assert filled(given) == given
    assert filled({"alphabet": "greek"}) == {"alphabet": "greek"}


@pytest.mark.parametrize(
    "arch",
    [
        {"pretrained": False},
        {"in_channels": 1},
        {"name": "resnet19"},
        {"_target_": "packnet_pl.models.vgg_small"},
        {"_target_": "packnet_pl.models.torchvision_backbone", "name": "nope"},
    ],
)
def test_without_metadata_nothing_is_filled(arch):
    assert filled(OPEN, **arch) == OPEN
