"""Every configuration composes, checks out, and names things that exist and take its arguments."""

import re
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from packnet_pl.cli.build import bind_targets
from packnet_pl.cli.schema import check_config, expand_tasks

CONF = Path(__file__).parent.parent / "conf"
# Hydra's own group holds logging set-ups, not choices of a run; data sets are chosen per task.
CHOICES = sorted(
    f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if path.parent.name not in ("hydra", "data")
)
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))


def compose(*overrides):
    # The folders are the user's: they have no default.
    own = ["sequence.folders={cats: /data/cats, cars: /data/cars}"] if "sequence=folders" in overrides else []
    with hydra.initialize_config_module("packnet_pl.conf", version_base="1.3"):
        return expand_tasks(hydra.compose("train", [*overrides, *own]))


def check(config):
    check_config(config)
    bind_targets(OmegaConf.to_container(config, resolve=True))


def test_there_are_choices():
    assert {"arch=vgg_small", "debug=tiny", "method=finetune", "sequence=alphabets", "trainer=gpu"} <= set(CHOICES)
    assert {"latin", "greek", "cyrillic", "digits", "folder"} == set(DATA)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_binds(choice):
    check(compose(choice))


@pytest.mark.parametrize("name", DATA)
def test_every_data_set_can_stand_in_any_task(name):
    config = compose(f"data@sequence.tasks.greek.data={name}")
    check(config)
    assert config.sequence.tasks.greek.data._target_ == OmegaConf.load(CONF / "data" / f"{name}.yaml")._target_


def test_every_configuration_begins_with_what_it_is():
    for path in CONF.rglob("*.yaml"):
        assert re.match(r"# \S.{10,}\n", path.read_text(encoding="utf-8")), path


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
