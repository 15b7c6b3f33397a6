"""Loggers that cannot begin are refused in one line, before anything is built."""

from argparse import Namespace

import pytest

from packnet_pl.configuration import logger_check
from packnet_pl.configuration.logger_plan import logger_plan
from packnet_pl.configuration.run_config import configure
from packnet_pl.errors import UsageError


def arguments(choice, folder):
    overrides = [choice, f"hydra.run.dir={folder / 'run'}"]
    return Namespace(config_dir=None, config_name=None, overrides=overrides)


@pytest.mark.parametrize(
    ("choice", "missing", "to_install"),
    [
        ("logger=tensorboard", "tensorboard", "tensorboard"),
        ("logger=[csv,wandb]", "wandb", "'packnet-pl[loggers]'"),
        ("logger=mlflow", "alembic", "'packnet-pl[loggers]'"),
    ],
)
def test_what_is_not_installed_is_refused_with_what_to_install(monkeypatch, tmp_path, choice, missing, to_install):
    monkeypatch.setattr(logger_check, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(UsageError) as refused:
        configure(arguments(choice, tmp_path))
    assert str(refused.value).endswith(f" needs {missing}, not installed here: pip install {to_install}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("logger=csv", {"csv"}),
        ("logger=none", set()),
        ("logger=wandb", {"wandb"}),
        ("logger=[csv,tensorboard]", {"csv", "tensorboard"}),
        ("logger=[mlflow,wandb,tensorboard]", {"mlflow", "wandb", "tensorboard"}),
    ],
)
def test_one_name_or_a_list_of_them(tmp_path, choice, names):
    config = configure(arguments(choice, tmp_path)).config
    assert set(config.logger or {}) == names


def test_an_empty_list_of_loggers_is_none(tmp_path):
    assert logger_plan(configure(arguments("logger=[]", tmp_path)).config, tmp_path, "vgg_small") is None
