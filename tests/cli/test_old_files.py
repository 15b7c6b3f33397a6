"""What people have on their disks since 5b152f2: runs go on, configurations compose, though classes have moved."""

import json
import shutil

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from packnet_pl import PruneRule
from packnet_pl.configuration.packed_recipe import recipe_of, with_recipe
from packnet_pl.old_settings import MOVED, upgrade_settings
from packnet_pl.run_directory import read_run
from tests.support import MADE_AT_5B152F2 as MADE
from tests.support import warm
from tests.support.commands import last_line

# All that configurations of 5b152f2 name in this package.
TARGETS = {
    "data": "digits glyphs image_folder published_pictures spectro read_cars read_cubs read_flowers read_imagenet "
    "read_places365 read_sketch read_wikiart TaskDataModule",
    "models": "resnet20 timm_backbone torchvision_backbone vgg_small",
    "training": "ClassifierOnly IndividualNetworks JointClassifier LearningWithoutForgetting TaskClassifier fit_task "
    "fit_unpruned step_decay warmup_cosine",
}
OLD = [f"packnet_pl.{layer}.{name}" for layer, names in TARGETS.items() for name in names.split()]


@pytest.mark.parametrize("old", [*OLD, *MOVED])
def test_each_target_of_old_configurations_is_found(old):
    renamed = upgrade_settings({"a": [{"_target_": old, "weight": "${seed}"}]})
    assert callable(get_object(renamed["a"][0].pop("_target_")))
    assert renamed == {"a": [{"weight": "${seed}"}]}


def test_saved_runs_are_read_with_new_targets(tmp_path):
    text = (MADE / "finished" / "run.yaml").read_text(encoding="utf-8")
    text = text.replace("packnet_pl.training.TaskClassifier", "packnet_pl.training.LearningWithoutForgetting")
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    method = read_run(tmp_path).config["method"]
    assert method["classifier"]["_target_"] == "packnet_pl.methods.LearningWithoutForgetting"


@pytest.mark.parametrize(("pack", "now"), [(False, "methods.FineTuning"), (True, "training.TaskClassifier")])
def test_a_classifier_that_packed_nothing_fine_tunes(pack, now):
    old = {"_target_": "packnet_pl.training.TaskClassifier", "_partial_": True, "pack": pack}
    assert upgrade_settings(old) == {"_target_": f"packnet_pl.{now}", "_partial_": True}


def test_pruning_by_a_scope_and_a_granularity_has_a_rule_of_these():
    config = read_run(MADE / "finished").config
    rule = config["prune"]["rule"]
    assert get_object(rule["_target_"])(get_object(rule["score"]["_target_"]), rule["scope"]) == PruneRule()
    assert config["method"]["fit"] == {
        "_target_": "packnet_pl.training.fit_task", "_partial_": True, "select": "last", "rule": rule
    }  # fmt: skip


def test_a_small_vgg_that_said_nothing_of_a_width_has_the_usual_one():
    arch = read_run(MADE / "finished").config["arch"]
    assert arch["width"] == 1.0
    wide = {**arch, "width": 2.0}
    assert upgrade_settings(wide) == wide


def test_an_embedded_task_that_said_nothing_of_augmentation_has_none():
    data = {
        task["data"]["_target_"]: task["data"]
        for task in read_run(MADE / "finished").config["sequence"]["tasks"].values()
    }
    assert {target: each.get("augment") for target, each in data.items() if "folder" not in target} == {
        "packnet_pl.data.glyphs": "none", "packnet_pl.data.digits": "none"
    }  # fmt: skip
    sounds = {"_target_": "packnet_pl.data.spectro", "train_per_class": 80, "augment": "specaugment"}
    assert upgrade_settings(sounds) == sounds


def test_recipes_are_read_with_new_targets():
    config = OmegaConf.create(read_run(MADE / "finished").config)
    recipe = recipe_of(config, "vgg_small", None)
    recipe["method"]["fit"]["_target_"] = "packnet_pl.training.fit_unpruned"
    with pytest.raises(ValueError, match=r"_target_='packnet_pl\.methods\.fit_unpruned', and a file may"):
        with_recipe(config, recipe, [], [], "f")


def test_an_interrupted_run_goes_on(tmp_path):
    shutil.copytree(MADE / "interrupted", tmp_path / "run")
    done = warm.run("packnet-resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["complete"]
    assert results["outputs_unchanged"] == [True, True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=mine"], "backbone: 2,108 parameters"),
        (["debug=tiny", "sequence.order=[digits]", "method=old"], "backbone: "),
    ],
    ids=["experiment", "method"],
)
def test_a_users_own_configurations_compose(tmp_path, words, said):
    shutil.copytree(MADE / "user", tmp_path / "user")
    (tmp_path / "user" / "method").mkdir()
    (tmp_path / "user" / "method" / "old.yaml").write_text(
        "name: old\npack: false\ntogether: false\n"
        "classifier: {_target_: packnet_pl.training.LearningWithoutForgetting, _partial_: true, weight: 0.5}\n"
        "fit: {_target_: packnet_pl.training.fit_unpruned, _partial_: true}\n"
    )
    done = warm.run("packnet-plan", "--config-dir", "user", *words, cwd=tmp_path)
    assert done.returncode == 0, last_line(done.stderr)
    assert said in done.stdout
