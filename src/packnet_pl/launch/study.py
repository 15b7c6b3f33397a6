"""Continues a search whose study is in a database: ``hydra.sweeper.storage``, ``hydra.sweeper.study_name``."""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from packnet_pl.configuration.overrides import quoted
from packnet_pl.errors import UsageError
from packnet_pl.sweep_jobs import jobs_since

__all__ = ["is_of_study", "overrides_of_study", "reason"]


def overrides_of_study(hydra: DictConfig, sweep: Path) -> dict[str, str]:
    """Returns the overrides, by key, with which another call continues the search: none for the first.

    Its jobs are other trials with numbers from 0 again, and get folders of their own; a sampler with the same seed
    would begin with the ratios of the first call.

    Args:
        hydra: Hydra's part of the configuration.
        sweep: The sweep's directory.

    Raises:
        UsageError: If the study cannot be kept there.
    """
    sweeper = hydra.sweeper
    if sweeper.get("storage") is None:
        return {}
    trials = _trials_so_far(sweeper)
    overrides = {}
    if trials and jobs_since(sweep):
        call = next(number for number in range(2, 10**6) if not (sweep / f"call-{number}").exists())
        subdir = OmegaConf.to_container(hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload, index]
        overrides["hydra.sweep.subdir"] = quoted(f"call-{call}/{subdir}")
    if trials and (sweeper.get("sampler") or {}).get("seed") is not None:
        overrides["hydra.sweeper.sampler.seed"] = str(sweeper.sampler.seed + trials)
    return overrides


def is_of_study(error: Exception) -> bool:
    """Returns whether ``error`` came from Optuna or its database, and not from a job."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return any(name.split(".")[0] in ("optuna", "sqlalchemy") for name in (type(error).__module__, raised_in))


def reason(error: BaseException) -> str:
    """Returns the root cause of ``error`` in one line: Optuna only says that it could not commit."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _trials_so_far(sweeper: DictConfig) -> int:
    given = f"hydra.sweeper.storage={sweeper.storage}"
    optuna_version, database = version("optuna"), version("sqlalchemy")
    if _major(optuna_version) < 3 and _major(database) >= 2:
        raise UsageError(
            f"{given}: Optuna {optuna_version} keeps studies with SQLAlchemy below 2, and {database} is installed: "
            "pip install 'sqlalchemy<2' alembic, or leave the storage out"
        )
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    storage: Any = sweeper.storage if isinstance(sweeper.storage, str) else instantiate(sweeper.storage)
    aims = sweeper.direction if OmegaConf.is_list(sweeper.direction) else [sweeper.direction]
    try:
        if sweeper.get("study_name") is None:
            optuna.storages.get_storage(storage)
            return 0  # Optuna makes a new study, and a name for it
        directions = [getattr(aim, "name", aim) for aim in aims]
        study = optuna.create_study(
            study_name=sweeper.study_name, storage=storage, directions=directions, load_if_exists=True
        )
        return len(study.trials)
    except Exception as error:  # whatever a database or its driver may raise
        raise UsageError(f"{given}: {reason(error)}") from error


def _major(version: str) -> int:
    return int(version.partition(".")[0])
