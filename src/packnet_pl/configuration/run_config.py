"""The configuration of a run, composed once and checked, and its run directory."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from packnet_pl.configuration.compose import compose, with_hint, without_hydra
from packnet_pl.configuration.given_values import check_given
from packnet_pl.configuration.overrides import check_unicode
from packnet_pl.configuration.packed_source import packed_header, with_file
from packnet_pl.configuration.resume_rules import finished_tasks, packed_source, with_packed_tasks
from packnet_pl.configuration.sequences import add_tasks, expand_tasks
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.configuration.terminal import quiet_lightning
from packnet_pl.configuration.validate import check_config
from packnet_pl.errors import UsageError, one_line
from packnet_pl.old_settings import upgrade_settings
from packnet_pl.run_directory import SavedRun, read_run

__all__ = ["RunConfig", "checked", "configure"]


@dataclass(frozen=True)
class RunConfig:
    """A run as its command line configures it.

    Attributes:
        composed: As Hydra composed it, Hydra's own part too.
        config: Checked, with all interpolations resolved: what the run uses.
        tasks: Its tasks, in order.
        folder: The run directory, as it was given.
        overrides: The command line.
        config_dir: Folder of the user's own configurations, absolute, or None.
        main: Name of the main configuration.
    """

    composed: DictConfig
    config: DictConfig
    tasks: tuple[TaskSettings, ...]
    folder: Path
    overrides: tuple[str, ...]
    config_dir: str | None
    main: str

    def to_save(self) -> SavedRun:
        """Returns what ``run.yaml`` records of the run."""
        plain: Any = OmegaConf.to_container(self.config)
        return SavedRun(list(self.overrides), self.config_dir, self.main, str(Path.cwd()), plain)


def configure(arguments: Namespace, composed: DictConfig | None = None) -> RunConfig:
    """Composes and checks the configuration of a run, without building or writing anything.

    Args:
        arguments: The command line.
        composed: From it, if it was composed already.

    Raises:
        UsageError: If something in it cannot be run.
    """
    overrides, main = tuple(arguments.overrides), arguments.config_name or "train"
    if composed is None:
        check_given(overrides)
        composed = compose(arguments, overrides)
    folder = Path(composed.hydra.run.dir)
    with read_write(composed.hydra):
        # Written down: a time stamp in its name is one for all processes that mean it.
        composed.hydra.run.dir = composed.hydra.runtime.output_dir = str(folder.absolute())
    HydraConfig.instance().set_config(composed)
    try:
        config, tasks = checked(without_hydra(composed), folder, overrides, main)
    except OmegaConfBaseException as error:
        raise UsageError(with_hint(one_line(error), arguments, overrides)) from error
    config_dir = str(Path(arguments.config_dir).absolute()) if arguments.config_dir else None
    return RunConfig(composed, config, tasks, folder, overrides, config_dir, main)


def checked(
    config: DictConfig, folder: Path, overrides: Sequence[str] = (), main: str = "train"
) -> tuple[DictConfig, tuple[TaskSettings, ...]]:
    """Returns the configuration that a run uses, checked and with all interpolations resolved, and its tasks.

    Args:
        config: Composed, without Hydra's own part.
        folder: The run directory; what is finished there is left out of the checks.
        overrides: The command line: it goes before what a packed file says.
        main: Name of the main configuration.

    Raises:
        OmegaConfBaseException: If a key is unknown or a value has the wrong type.
        UsageError: If something in it cannot be run.
    """
    config = OmegaConf.create(upgrade_settings(OmegaConf.to_container(config)))
    header = packed_header(packed_source(folder, config)) if config.get("packed") else None
    if header is not None:
        config = with_file(config, header, overrides, packed_source(folder, config), main=main)
    config = expand_tasks(config)
    if config.get("resume") == "auto":
        config = config.copy()
        config.resume = read_run(folder) is not None
    going_on = bool(config.get("packed")) or bool(config.get("resume"))
    if config.get("packed"):
        config = with_packed_tasks(config, folder)
    config = add_tasks(config, finished_tasks(packed_source(folder, config)) if going_on else [])
    tasks = check_config(config)
    from packnet_pl.configuration.instantiate import bind_targets
    from packnet_pl.configuration.pretrained_inputs import fill_inputs

    quiet_lightning()
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    check_unicode("", resolved)  # variables of the environment may bring anything
    # The network first: images have its size where they have none of their own.
    bind_targets({"arch": resolved["arch"], **{key: value for key, value in resolved.items() if key != "sequence"}})
    bind_targets(resolved["sequence"]["tasks"], "sequence.tasks")
    run = read_run(folder) if config.get("resume") else None
    fill_inputs(resolved, header, None if run is None else run.config)
    created: DictConfig = OmegaConf.create(resolved)
    return created, tasks
