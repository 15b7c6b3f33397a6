"""Images are prepared as the pretrained weights expect them, unless the user says otherwise."""

import hydra
import pytest
import timm
from omegaconf import OmegaConf

from packnet_pl.configuration.pretrained_inputs import fill_inputs
from packnet_pl.configuration.resume_rules import refuse_mixing
from packnet_pl.configuration.run_config import checked
from packnet_pl.errors import UsageError
from packnet_pl.old_settings import upgrade_settings
from packnet_pl.run_directory import SavedRun, read_run, write_run


def filled(data, header=None, saved=None, **arch):
    arch = {"_target_": "packnet_pl.models.timm_backbone", "name": "vit_tiny_patch16_224", "pretrained": True, **arch}
    config = {"arch": arch, "sequence": {"order": ["a"], "tasks": {"a": {"data": dict(data)}}}}
    fill_inputs(config, header, saved)
    return config["sequence"]["tasks"]["a"]["data"]


def composed(*words):
    with hydra.initialize_config_module("packnet_pl.conf", version_base="1.3"):
        return hydra.compose("train", list(words))


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


OPEN_ALL = {**OPEN, "resize": None, "squash": None, "interpolation": None}
RESNET50 = {"_target_": "packnet_pl.models.torchvision_backbone", "name": "resnet50"}


def prepared(*args, **kwargs):
    data = filled(*args, **kwargs)
    return tuple(data[key] for key in ("image_size", "resize", "squash", "interpolation"))


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ({}, (224, 248, False, "bicubic")),
        ({"name": "dm_nfnet_f0"}, (192, 213, True, "bicubic")),
        ({"name": "eva_large_patch14_336", "pretrained": "w.pth"}, (336, 336, True, "bicubic")),
        (RESNET50, (224, 232, False, "bilinear")),
        ({**RESNET50, "pretrained": "IMAGENET1K_V1"}, (224, 256, False, "bilinear")),
        ({**RESNET50, "image_size": 112}, (112, 116, False, "bilinear")),
        ({**RESNET50, "name": "vit_h_14"}, (518, 518, False, "bicubic")),
        ({**RESNET50, "in_channels": 1}, (224, 232, False, "bilinear")),
        ({**RESNET50, "pretrained": False}, (None, None, None, None)),
    ],
)
def test_resizing_is_as_the_weights_ask(arch, expected):
    assert prepared(OPEN_ALL, **arch) == expected


def test_of_one_channel_mean_and_std_are_not_known():
    found = filled(OPEN_ALL, in_channels=1)
    assert (found["interpolation"], found["mean"], found["std"]) == ("bicubic", None, None)


def test_each_of_them_may_be_given():
    given = {**OPEN_ALL, "resize": 0.5, "interpolation": "bilinear"}
    assert prepared(given) == (224, 0.5, False, "bilinear")
    assert prepared({**OPEN_ALL, "image_size": 64}, **RESNET50) == (64, 66, False, "bilinear")
    assert prepared({**OPEN_ALL, "squash": True}) == (224, 248, True, "bicubic")


@pytest.mark.parametrize("name", ["volo_d5_512", "vit_base_patch16_sapiens2"])
def test_what_weights_ask_and_cannot_be_done_is_refused_until_something_else_is_given(name):
    if not timm.is_model(name):
        pytest.skip("this timm does not have it yet")
    with pytest.raises(
        UsageError, match=rf"the weights of {name} expect images that are .*tasks\.a\.data\.resize=0\.8"
    ):
        filled(OPEN_ALL, name=name)
    assert filled({**OPEN_ALL, "resize": 0.9}, name=name)["interpolation"] in ("bilinear", "bicubic")
    assert filled(OPEN, name=name)["mean"] is not None


def test_a_packed_file_says_how_the_images_of_a_further_task_are_prepared():
    inputs = {"image_size": 224, "resize": 232, "squash": False, "interpolation": "bicubic", "mean": [0.5] * 3}
    assert prepared(OPEN_ALL, {"recipe": {"inputs": inputs}}) == (224, 232, False, "bicubic")
    assert prepared({**OPEN_ALL, "image_size": 112}, {"recipe": {"inputs": inputs}}) == (112, 116, False, "bicubic")
    older = {"image_size": 224, "mean": [0.5] * 3}
    assert prepared(OPEN_ALL, {"recipe": {"inputs": older}}) == (224, None, None, None)
    for wrong in ({"interpolation": "nearest"}, {"resize": [[1]]}, {"crop": 1}):
        with pytest.raises(UsageError, match="the recipe of the packed file has the inputs"):
            filled(OPEN_ALL, {"recipe": {"inputs": wrong}})


PUBLISHED = {"_target_": "packnet_pl.data.published_images", "path": "x", "image_size": 224}


def test_runs_of_earlier_versions_keep_their_256_pixels_bilinear():
    old = {**PUBLISHED, "resize": None}
    now = {**PUBLISHED, "resize": 0.875, "squash": False, "interpolation": "bilinear"}
    assert upgrade_settings(old) == now
    assert upgrade_settings({**old, "resize": 300})["resize"] == 300
    assert upgrade_settings({**PUBLISHED, "_target_": "packnet_pl.data.published_pictures"}) == {
        **PUBLISHED,
        "interpolation": "bilinear",
    }
    assert upgrade_settings(now) == now
    saved = upgrade_settings({"sequence": {"tasks": {"a": {"data": old}}}})
    assert filled({**OPEN_ALL, **RESNET50}, saved=saved, **RESNET50)["resize"] == 0.875
    assert prepared(OPEN_ALL, saved=saved) == (224, 0.875, False, "bilinear")
    assert prepared({**OPEN_ALL, "image_size": 64}, saved=saved, **RESNET50) == (64, 66, False, "bilinear")


@pytest.mark.parametrize("words", [["sequence=paper", "arch=vit_h_14"], ["experiment=paper/resnet50"]])
def test_runs_of_earlier_versions_with_pretrained_weights_resume_with_their_images_as_they_were(tmp_path, words):
    given = [*words, "sequence.root=/data", "arch.pretrained=true"]
    saved = OmegaConf.to_container(checked(composed(*given), tmp_path)[0])
    saved["arch"]["image_size"] = 224
    for task in saved["sequence"]["tasks"].values():  # as it was written then
        task["data"] = {key: value for key, value in task["data"].items() if key not in ("squash", "interpolation")}
        task["data"] |= {key: None for key in ("resize",) if key in task["data"]} | {"image_size": 224}
    write_run(tmp_path, SavedRun(given, None, "train", str(tmp_path), saved))
    now = OmegaConf.to_container(checked(composed(*given, "resume=true"), tmp_path)[0])
    before = read_run(tmp_path).config
    assert refuse_mixing(before, now, ["imagenet", "cubs", "cars", "flowers"]) == ()
    assert now["sequence"]["tasks"]["flowers"]["data"]["resize"] == 0.875
    assert now["sequence"]["tasks"]["cubs"]["data"]["interpolation"] == "bilinear"


def test_the_size_that_a_network_of_torchvision_is_built_for_is_that_of_its_weights_or_of_the_resumed_run(tmp_path):
    words = ["sequence=paper", "sequence.root=/data", "arch=vit_h_14", "sequence.tasks.imagenet.head=new"]

    def sizes(*more):
        config, _ = checked(composed(*words, *more), tmp_path)
        return config.arch.image_size, config.sequence.tasks.cubs.data.image_size

    assert sizes() == (224, 224)
    assert sizes("arch.pretrained=true") == (518, 518)
    assert sizes("arch.pretrained=true", "arch.image_size=112") == (112, 112)
    before = OmegaConf.to_container(checked(composed(*words), tmp_path)[0])
    write_run(tmp_path, SavedRun(words, None, "train", str(tmp_path), before))
    assert sizes("arch.pretrained=true", "resume=true") == (224, 224)


@pytest.mark.parametrize("arch", [[], ["arch=timm/dm_nfnet_f0"], ["arch=resnet50"]])
def test_the_papers_experiments_prepare_images_as_the_paper_does_whatever_the_weights(arch, tmp_path):
    words = ["experiment=paper/vgg16", "sequence.root=/data", "arch.pretrained=true", *arch]
    config, _ = checked(composed(*words), tmp_path)
    assert config.arch.image_size == 224
    for name, task in config.sequence.tasks.items():
        assert (task.data.image_size, task.data.interpolation) == (224, "bilinear")
        if name not in ("cubs", "cars"):
            assert (task.data.resize, task.data.squash) == (0.875, False)


def test_what_the_user_gave_stays_and_nothing_is_added():
    given = {"image_size": 32, "mean": [0.0] * 3, "std": [1.0] * 3}
    assert filled(given) == given
    assert filled({"alphabet": "greek"}) == {"alphabet": "greek"}


@pytest.mark.parametrize(
    "arch",
    [
        {"pretrained": False},
        {"in_channels": 2},
        {"name": "resnet19"},
        {"_target_": "packnet_pl.models.vgg_small"},
        {"_target_": "packnet_pl.models.torchvision_backbone", "name": "nope"},
    ],
)
def test_without_metadata_nothing_is_filled(arch):
    assert filled(OPEN, **arch) == OPEN
