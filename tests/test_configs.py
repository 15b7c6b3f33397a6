"""Every configuration composes, checks out, and names things that exist and take its arguments."""

import re

import hydra
import pytest
from omegaconf import OmegaConf

from packnet_pl.configuration.instantiate import bind_targets, build_target
from packnet_pl.configuration.recorded_settings import further_settings, recorded_settings
from packnet_pl.configuration.sequences import expand_tasks
from packnet_pl.configuration.validate import check_config
from packnet_pl.errors import UsageError
from packnet_pl.further_settings import OFF
from tests.support import ROOT

CONF = ROOT / "conf"
# Hydra's own group holds logging set-ups, not choices of a run; data sets are chosen per task.
CHOICES = sorted(
    f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if path.parent.name not in ("hydra", "data")
)
OWN_FOLDERS = {
    "sequence=folders": "sequence.folders={cats: /data/cats, cars: /data/cars}",
    "sequence=paper": "sequence.root=/data",
}
PUBLISHED = {"imagenet", "places365", "cubs", "cars", "flowers", "wikiart", "sketch"}
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))


def compose(*overrides):
    # The folders are the user's: they have no default.
    own = [word for choice, word in OWN_FOLDERS.items() if choice in overrides]
    with hydra.initialize_config_module("packnet_pl.conf", version_base="1.3"):
        return expand_tasks(hydra.compose("train", [*overrides, *own]))


def check(config):
    check_config(config)
    bind_targets(OmegaConf.to_container(config, resolve=True))


def test_there_are_choices():
    assert {
        "arch=vgg_small",
        "debug=tiny",
        "method=finetune",
        "sequence=alphabets",
        "sequence=eight",
        "sequence=far",
        "trainer=gpu",
    } <= set(CHOICES)
    alphabets = {"latin", "greek", "greek_inverted", "cyrillic", "armenian", "georgian", "symbols"}
    embedded = {*alphabets, "digits", "spectro"}
    assert {*embedded, "folder"} | PUBLISHED == set(DATA)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_binds(choice):
    check(compose(choice))


@pytest.mark.parametrize("name", DATA)
def test_every_data_set_can_stand_in_any_task(name):
    # The folders are the user's here too.
    own = ["sequence.tasks.greek.data.path=/data/set"] if name in PUBLISHED else []
    config = compose(f"data@sequence.tasks.greek.data={name}", *own)
    check(config)
    assert config.sequence.tasks.greek.data._target_ == OmegaConf.load(CONF / "data" / f"{name}.yaml")._target_


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_folder_of_a_published_data_set_is_asked_for(name):
    said = r"sequence\.tasks\.greek\.data\.path has no value: give it as sequence\.tasks\.greek\.data\.path=\.\.\."
    with pytest.raises(ValueError, match=said):
        check(compose(f"data@sequence.tasks.greek.data={name}"))


def test_the_tasks_of_the_paper_have_their_recipe_and_folders():
    config = compose("sequence=paper")
    assert list(config.sequence.order) == ["imagenet", "cubs", "cars", "flowers"]
    assert set(config.sequence.tasks) == PUBLISHED
    plain = OmegaConf.to_container(config.sequence.tasks, resolve=True)
    assert {name: task["data"]["path"] for name, task in plain.items()} == {name: f"/data/{name}" for name in PUBLISHED}
    first, birds = plain["imagenet"], plain["cubs"]
    assert (first["head"], first["train"]["epochs"], first["retrain"]["epochs"]) == ("pretrained", 0, 10)
    assert birds["train"] == {"epochs": 20, "lr": 0.001}
    assert birds["retrain"] == {"epochs": 10, "lr": 0.0001, "schedule": False}


def test_the_far_sequence_has_its_tasks_and_latin_as_in_the_other():
    far, near = compose("sequence=far"), compose("sequence=alphabets")
    assert list(far.sequence.order) == ["latin", "digits", "greek_inverted", "spectro"]
    assert set(far.sequence.tasks) == set(far.sequence.order)
    assert far.sequence.tasks.latin == near.sequence.tasks.latin
    assert far.sequence.tasks.digits.data == near.sequence.tasks.digits.data
    # The same images, turned round.
    assert far.sequence.tasks.greek_inverted.data == {**near.sequence.tasks.greek.data, "inverted": True}


def test_the_longer_sequence_begins_as_the_default_and_has_the_recipes_of_like_tasks():
    eight, near, far = (compose(f"sequence={name}").sequence for name in ("eight", "alphabets", "far"))
    assert list(eight.order) == [*near.order, "armenian", "georgian", "symbols", "spectro"]
    assert set(eight.tasks) == set(eight.order)
    assert all(eight.tasks[name] == near.tasks[name] for name in near.order)
    assert eight.tasks.spectro == far.tasks.spectro
    for name in ("armenian", "georgian", "symbols"):
        assert eight.tasks[name] == {**near.tasks.cyrillic, "data": {**near.tasks.cyrillic.data, "alphabet": name}}


def test_results_record_what_goes_beyond_the_paper_where_it_is_on():
    usual = recorded_settings(compose())
    names = {"scope", "granularity", "select", "norm", "bias", "prunable", "later_lr"}
    assert set(usual) == names
    assert recorded_settings(compose("experiment=embedded/best")) == {
        **usual,
        **{"scope": "global", "norm": "per_task", "later_lr": 2.0, "width": 1.45, "callbacks": "ema"},
        **{"mask": "learned", "mask_lr": 0.3, "mask_init": 1.0, "distillation": 0.5, "temperature": 2.0},
    }
    other = compose(
        *("prune.schedule=gradual", "prune.score=taylor", "grow=1.25", "which_task=features", "optim.epochs.retrain=2"),
        *("callbacks=[average,lr_monitor]", "callbacks.average.phase=retrain", "optim.mixup=0.2"),
    )
    assert recorded_settings(other) == {
        **usual,
        **{"schedule": "gradual", "score": "taylor", "grow": 1.25, "grow_below": 0.1, "which_task": "features"},
        **{"epochs_retrain": 2, "callbacks": "average (retrain), lr_monitor", "mixup": 0.2},
    }


def test_what_reports_take_for_off_is_what_runs_record_where_it_is_on():
    everything = compose(
        *("prune.schedule=gradual", "prune.score=taylor", "prune.ratio=auto", "which_task=features", "arch.width=2"),
        *("grow=1.25", "mask=learned", "optim.distillation=0.5", "callbacks=ema", "optim.balance=weights"),
        *("optim.epochs={train: 2, retrain: 2}", "optim.lr={train: 2, retrain: 2}"),
        *(
            "optim.mixup=0.2",
            "optim.cutmix=0.2",
            "optim.label_smoothing=0.1",
            "sequence.tasks.greek.data.augment=affine",
        ),
    )
    assert set(further_settings(everything)) == set(OFF) - {"retrain"}
    assert recorded_settings(compose("experiment=embedded/individual_distilled"))["retrain"] is True
    assert "retrain" not in recorded_settings(compose("method=individual"))


def test_every_configuration_begins_with_what_it_is():
    for path in CONF.rglob("*.yaml"):
        # What comes first in an experiment is where Hydra puts it.
        assert re.match(r"(# @package _global_\n)?# [^@\s].{10,}\n", path.read_text(encoding="utf-8")), path


def test_the_check_of_targets_can_fail():
    config = OmegaConf.to_container(compose(), resolve=True)
    config["optim"]["scheduler"]["warmpu"] = 0.1
    with pytest.raises(
        ValueError, match=r"optim\.scheduler\.warmpu: .*warmup_cosine has no such argument; did you mean"
    ):
        bind_targets(config)
    del config["optim"]["scheduler"]["warmpu"]
    del config["sequence"]["tasks"]["latin"]["data"]["alphabet"]
    with pytest.raises(ValueError, match=r"sequence\.tasks\.latin\.data: .*glyphs: missing a required argument"):
        bind_targets(config)


def test_what_no_configuration_may_name_is_refused_in_one_line():
    pytest.importorskip("hydra._internal.target_policy", reason="this Hydra lets a configuration name anything")
    node = OmegaConf.create({"_target_": "packnet_pl.core.PruneRule", "score": {"_target_": "os.system"}})
    with pytest.raises(UsageError, match=r"prune\.rule: Target 'os\.system' is blocklisted"):
        build_target(node, "prune.rule")
