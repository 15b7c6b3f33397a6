"""Networks by name are choices of the group ``arch`` that Hydra itself knows."""

from types import SimpleNamespace

import pytest

from packnet_pl.configuration.arch_names import TORCHVISION, short_names
from packnet_pl.configuration.compose import compose
from packnet_pl.errors import UsageError
from packnet_pl.models.backbones.torchvision_families import torchvision_names
from tests.support import warm
from tests.support.commands import run_installed

NOTHING = SimpleNamespace(config_dir=None, config_name=None)


def composed(*words, config_dir=None):
    return compose(SimpleNamespace(config_dir=config_dir, config_name=None), words)


def test_the_names_are_those_that_the_builder_takes():
    assert sorted(TORCHVISION) == sorted(torchvision_names())


@pytest.mark.parametrize(
    ("name", "longer"),
    [(name, ["arch=torchvision", f"arch.name={name}"]) for name in ("resnet18", "vit_b_16")]
    + [
        (f"timm/{name}", ["arch=timm", f"arch.name={name}"])
        for name in ("resnet18", "vit_tiny_patch16_224.augreg_in21k")
    ],
)
def test_a_name_is_the_longer_form(name, longer):
    assert composed(f"arch={name}").arch == composed(*longer).arch
    assert composed(f"arch={name}", "arch.in_channels=1").arch.in_channels == 1
    assert short_names(["seed=1", *longer]) == ["seed=1", f"arch={name}"]


@pytest.mark.parametrize("name", ["resnet34", "timm/convnext_atto"])
def test_a_name_can_stand_in_a_defaults_list(name, tmp_path):
    (tmp_path / "experiment").mkdir()
    text = f"# @package _global_\ndefaults:\n  - override /arch: {name}\narch: {{in_channels: 1}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    found = composed("experiment=mine", config_dir=tmp_path).arch
    assert (found.name, found.in_channels) == (name.removeprefix("timm/"), 1)


def test_a_configuration_of_the_users_own_needs_a_name_of_its_own(tmp_path):
    (tmp_path / "arch").mkdir()
    for name in ("resnet18", "mine"):
        (tmp_path / "arch" / f"{name}.yaml").write_text("# mine\n_target_: mine.net\n")
    assert composed("arch=mine", config_dir=tmp_path).arch == {"_target_": "mine.net"}
    with pytest.raises(UsageError, match=r"^arch/resnet18\.yaml of your own has the name of a network that is known"):
        composed("arch=resnet18", config_dir=tmp_path)


def test_a_script_that_only_knows_where_the_configurations_are_finds_the_names(tmp_path):
    code = (
        "import hydra\nwith hydra.initialize_config_module('packnet_pl.conf', version_base='1.3'):\n"
        "    print(hydra.compose('train', ['arch=timm/resnet26']).arch.name)"
    )
    assert run_installed("python", "-c", code, cwd=tmp_path).stdout == "resnet26\n"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("arch=resnet81", "there is no arch=resnet81; did you mean resnet18"),
        ("arch=timm/a/b", "there is no arch=timm/a/b; did you mean timm"),
        ("optim=adam", "there is no optim=adam; did you mean adamw?"),
    ],
)
def test_the_nearest_choice_is_proposed(word, message):
    with pytest.raises(UsageError) as caught:
        composed(word)
    assert str(caught.value).startswith(message)


def test_the_network_that_was_chosen_is_the_one_that_is_trained(tmp_path):
    assert composed("experiment=paper/resnet50", "arch=timm/test_resnet").arch.name == "test_resnet"
    assert composed("experiment=paper/resnet50").arch.name == "resnet50"
    (tmp_path / "experiment").mkdir()
    own = "# @package _global_\ndefaults:\n  - override /arch: torchvision\narch:\n  name: resnet18\n"
    (tmp_path / "experiment" / "own.yaml").write_text(own, encoding="utf-8")
    assert composed("experiment=own", config_dir=tmp_path).arch.name == "resnet18"
    words = ["experiment=own", "arch=resnet34"]
    with pytest.raises(UsageError, match=r"arch=resnet34 was chosen, but a configuration sets arch.name to 'resnet18'"):
        composed(*words, config_dir=tmp_path)
    assert composed(*words, "arch.name=resnet34", config_dir=tmp_path).arch.name == "resnet34"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["arch=timm/dla34", "arch.image_size=100"],
            "(3 x 100 x 100): the nearest sizes that dla34 takes are 96 and 128: give arch.image_size=128 (",
        ),
        (
            ["arch=timm/vit_tiny_patch16_224", "sequence.task.data.image_size=96"],
            "(3 x 96 x 96): the nearest size that vit_tiny_patch16_224 takes is 96: give arch.image_size=96 (",
        ),
        (["arch=maxvit_t", "arch.image_size=200"], "image_size is 200; maxvit_t divides images into windows and grids"),
    ],
)
def test_a_size_of_images_that_does_not_fit_is_refused_before_data_are_read(tmp_path, words, said):
    folders = f"sequence.folders={{a: {tmp_path}/nowhere, b: {tmp_path}/nowhere}}"
    done = warm.run("packnet-plan", "sequence=folders", folders, *words, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert said in done.stderr
