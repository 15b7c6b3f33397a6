"""The loggers of a run, from its configuration: what makes them, what they call the run, and what they get of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.configuration.instantiate import build_target
from packnet_pl.configuration.logger_check import METRICS_FILE
from packnet_pl.configuration.resume_rules import flat
from packnet_pl.run import LoggerPlan
from packnet_pl.sweep_jobs import job_of

__all__ = ["logger_plan"]

_LONGEST_TITLE = 100


def logger_plan(config: DictConfig, folder: Path, arch: str) -> LoggerPlan | None:
    """Returns what logs a run; None if nothing does.

    Args:
        config: Checked.
        folder: The run directory.
        arch: Name of the network.

    Raises:
        UsageError: If a logger cannot be made.
    """
    if not config.get("logger"):  # logger=[] leaves no such key
        return None
    makers = {
        str(name): build_target(OmegaConf.create({**logger, "_partial_": True}), f"logger.{name}")
        for name, logger in config.logger.items()
        if name != METRICS_FILE
    }
    title, group = _title(config, folder, arch)
    plain: Any = OmegaConf.to_container(config)
    return LoggerPlan(makers, title, group, hyperparameters(plain))


def hyperparameters(config: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Returns the configuration flat, without its loggers, which may have keys to services.

    Args:
        config: As plain objects.

    Returns:
        Key -> value; lists as text. Keys are of characters that every logger takes.
    """
    found: dict[str, str | int | float | bool] = {}
    for key, value in flat({name: part for name, part in config.items() if name != "logger"}).items():
        plain = re.sub(r"[^\w./ -]", "_", key, flags=re.ASCII)
        found[plain] = value if isinstance(value, (str, int, float, bool)) else str(value)
    return found


def _title(config: DictConfig, folder: Path, arch: str) -> tuple[str, str | None]:
    """Returns what lists of runs show: for a job of a sweep its overrides, and the sweep; None without one."""
    known = job_of(folder)
    if known is not None:
        sweep, job = known
        return " ".join(job.overrides)[:_LONGEST_TITLE] or f"job {job.number}", _named(sweep)
    return f"{config.method.name} {arch} {_named(folder)}"[:_LONGEST_TITLE], None


def _named(folder: Path) -> str:
    """Returns the last part of a path, and the date before it where that is a time."""
    parts = folder.parts[-2:]
    return "/".join(parts) if re.match(r"\d\d-\d\d-\d\d", parts[-1]) else parts[-1]
