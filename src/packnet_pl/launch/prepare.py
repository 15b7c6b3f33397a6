"""Prepares a run: data and network are built and checked, and the run directory is claimed."""

import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import OmegaConf

from packnet_pl.configuration.overrides import check_unicode
from packnet_pl.configuration.packed_source import packed_header, report_recipe
from packnet_pl.configuration.resume_rules import (
    begun_tasks,
    open_tasks,
    refuse_mixing,
    refuse_other_strategy,
    set_aside,
)
from packnet_pl.configuration.run_config import RunConfig
from packnet_pl.errors import UsageError
from packnet_pl.ranks import rank_of
from packnet_pl.run_directory import SavedRun, claimed, read_run, results_path

if TYPE_CHECKING:
    from packnet_pl.configuration.components import Parts

__all__ = ["Prepared", "build", "claim_and_build", "phases_to_repeat"]

_log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A run that is ready to train.

    Attributes:
        run: Its configuration and directory.
        parts: What was built.
    """

    run: RunConfig
    parts: "Parts"


def build(run: RunConfig) -> Prepared:
    """Builds the data and the network, and leaves the run directory as it is.

    Raises:
        UsageError: If one of them cannot be made.
    """
    from packnet_pl.configuration.components import build_parts

    prepared = Prepared(run, build_parts(run.config, run.tasks, run.folder))
    _report_recipe(run)
    return prepared


def claim_and_build(run: RunConfig, built: Callable[[Prepared], None] | None = None) -> Prepared:
    """Claims the run directory for this run, and builds the data and the network.

    Args:
        run: To begin, or to go on.
        built: Called with what is returned, before the directory is this run's for good: it may refuse.

    Raises:
        UsageError: If something cannot be made, or the run directory holds a run already; nothing is left behind then.
    """
    folder, config = run.folder, run.config
    saved = read_run(folder)
    repeated = phases_to_repeat(run, saved) if config.resume else ([], ())
    if not config.resume and (saved is not None or results_path(folder).exists()):
        go_on = f", or go on: packnet-resume {shlex.quote(str(folder))}" if saved is not None else ""
        raise UsageError(f"{folder} holds a run already; choose another hydra.run.dir{go_on}")
    check_unicode("hydra.run.dir", str(folder.absolute()))
    check_unicode("the current folder", str(Path.cwd()))
    with claimed(folder, run.to_save()):
        from packnet_pl.configuration.changed_data import check_data
        from packnet_pl.configuration.components import build_parts
        from packnet_pl.run.logger_record import skip_steps

        prepared = Prepared(run, build_parts(config, run.tasks, folder))
        if config.resume or config.packed:
            packed = prepared.parts.packed
            check_data(folder, config, prepared.parts.data, packed.history if packed is not None else [])
        if built is not None:
            built(prepared)
        skip_steps(folder, *repeated)
        # Before the new configuration is written: a process that is killed in between leaves no mix.
        for path in set_aside(folder, *repeated):
            task, phase = path.parent.parent.name, path.parent.name
            _log.info("%s, %s begins anew with other settings; what was trained is kept as %s", task, phase, path)
        _report_recipe(run)
        return prepared


def phases_to_repeat(run: RunConfig, saved: SavedRun | None) -> tuple[list[str], tuple[str, ...]]:
    """Returns the tasks of a resumed run that are not finished, and their phases that begin anew with other settings.

    Args:
        run: As it is to go on.
        saved: What its directory says of it.

    Raises:
        UsageError: If there is no run to go on with, or a setting changed that what is finished depends on.
    """
    if saved is None:
        raise UsageError(f"resume=true, but there is no run in {run.folder}: it has no run.yaml")
    now: Any = OmegaConf.to_container(run.config)
    together = saved.config["method"].get("together", False)
    begun = begun_tasks(run.folder, saved.config["sequence"]["order"], together=together)
    tasks, repeated = open_tasks(now, begun), refuse_mixing(saved.config, now, begun)
    if "train" not in repeated:  # else the task begins anew
        refuse_other_strategy(run.folder, tasks, run.config.trainer.strategy)
    return tasks, repeated


def _report_recipe(run: RunConfig) -> None:
    if run.config.packed and not run.config.resume and rank_of(os.environ).is_main:
        source = Path(run.config.packed)
        report_recipe(run.config, packed_header(source) or {}, run.overrides, source, main=run.main)
