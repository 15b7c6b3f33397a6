"""Composes the whole configuration of a command line with Hydra."""

import re
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from packnet_pl.choices import nearest
from packnet_pl.configuration.arch_names import check_network
from packnet_pl.configuration.help import GROUPS
from packnet_pl.configuration.overrides import key_of
from packnet_pl.errors import UsageError, one_line

__all__ = ["CONFIG_MODULE", "compose", "hydra_initialized", "with_hint", "without_hydra"]

CONFIG_MODULE = "packnet_pl.conf"


class _OwnFolder(SearchPathPlugin):
    """A search path plugin that adds the folder of ``--config-dir``, as Hydra's own ``main`` does."""

    folder: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends the folder behind the package's own configurations."""
        if self.folder is not None:
            search_path.append("command-line", f"file://{Path(self.folder).absolute()}")


@contextmanager
def hydra_initialized(config_dir: str | None) -> Iterator[None]:
    """Initializes Hydra with the package's configurations, and those in ``config_dir``, for a while."""
    Plugins.instance().register(_OwnFolder)
    _OwnFolder.folder = config_dir
    try:
        with hydra.initialize_config_module(CONFIG_MODULE, job_name="train", version_base="1.3"):
            yield
    finally:
        _OwnFolder.folder = None


def compose(arguments: Namespace, overrides: Sequence[str]) -> DictConfig:
    """Returns the whole configuration, Hydra's own part too.

    Args:
        arguments: The command line: where the configurations are, and which is the main one.
        overrides: Without those that make a sweep.

    Raises:
        UsageError: If it cannot be composed.
    """
    try:
        composed = _compose(arguments, overrides)
        HydraConfig.instance().set_config(composed)  # ${hydra:...} takes values from there, before Hydra starts a job
        composed.hydra.run.dir, composed.hydra.sweep.dir  # noqa: B018 (their interpolations may fail)
    except (HydraException, OmegaConfBaseException) as error:
        message = with_hint(one_line(error), arguments, overrides)
        if "arch." in message and any(key_of(override) == "packed" for override in overrides):
            message += "; packed= brings its own network: leave arch out"
        raise UsageError(message) from error
    if not any(key_of(override) == "arch.name" for override in overrides):
        check_network(composed.hydra.runtime.choices.get("arch"), (composed.get("arch") or {}).get("name"))
    return composed


def without_hydra(config: DictConfig) -> DictConfig:
    """Returns the configuration without Hydra's own part."""
    plain = config.copy()
    OmegaConf.set_struct(plain, False)
    del plain["hydra"]
    return plain


def with_hint(message: str, arguments: Namespace, overrides: Sequence[str]) -> str:
    """Shortens Hydra's message, puts the option first, and adds the options that look like an unknown one."""
    found = re.search(r"Could not override '([^']+)'", message) or re.search(r"full_key: (\S+)", message)
    short = re.split(r" full_key: | Config search path: | See https?://", message)[0]
    if found is None:
        return short
    key = found.group(1)
    if "not in" in message and key.startswith("hydra."):
        given = next(override for override in overrides if key_of(override) == key)
        return f"{key}: Hydra's own part does not have it yet; to add it, type {shlex.quote(f'+{given}')}"
    if "not in" in message:
        choices = [override for override in overrides if key_of(override) in GROUPS]
        keys = _keys(without_hydra(_compose(arguments, choices)))
        if key not in keys:
            return f"there is no option {key}; {nearest(key, keys)}"
    return short if key in short else f"{key}: {short}"


def _compose(arguments: Namespace, overrides: Sequence[str]) -> DictConfig:
    with hydra_initialized(arguments.config_dir):
        try:
            return hydra.compose(arguments.config_name or "train", list(overrides), return_hydra_config=True)
        except MissingConfigException as error:
            group = (error.missing_cfg_file or "").rpartition("/")[0]
            if group and error.options is None:  # of a list of choices Hydra does not say what there is
                error.options = GlobalHydra.instance().config_loader().get_group_options(group)
            raise


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for name in map(str, config):
        key = f"{prefix}{name}"
        keys.append(key)
        child = None if OmegaConf.is_missing(config, name) else config._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            keys += _keys(child, f"{key}.")
    return keys
