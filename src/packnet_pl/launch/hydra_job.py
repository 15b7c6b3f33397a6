"""Runs a function as a job of Hydra's: its folder and ``.hydra/``, logging and callbacks."""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks  # Hydra has no public way to call them
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, read_write

from packnet_pl.configuration.compose import CONFIG_MODULE, hydra_initialized
from packnet_pl.configuration.run_config import RunConfig

__all__ = ["hand_to_hydra", "run_as_job"]


def run_as_job(run: RunConfig, task: Callable[[DictConfig], None]) -> None:
    """Runs ``task`` as Hydra's ``main`` runs a job, with a configuration that is composed already.

    Hydra's ``main`` would compose it again, twice, and make the run directory before anybody could refuse the run.

    Args:
        run: What is run.
        task: Called in Hydra's run directory, with logging set up.
    """
    composed = run.composed
    with read_write(composed.hydra):
        composed.hydra.mode = RunMode.RUN
    configure_log(composed.hydra.hydra_logging, composed.hydra.verbose)
    callbacks = Callbacks(composed)
    with hydra_initialized(run.config_dir):
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=callbacks)
        callbacks.on_run_start(config=composed, config_name=run.main)
        done = run_job(task, composed, "hydra.run.dir", None, context)
        callbacks.on_run_end(config=composed, config_name=run.main, job_return=done)
    _ = done.return_value  # raises what the job raised


def hand_to_hydra(arguments: Namespace, task: Callable[[DictConfig], Any]) -> None:
    """Calls Hydra's own ``main``, which composes again: for sweeps, and for options that only show something.

    Args:
        arguments: The command line.
        task: Called for each job of a sweep.
    """
    # Its parser finds options in front of overrides only.
    sys.argv[1:] = [*arguments.options, *arguments.overrides]
    hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="train")(task)()
