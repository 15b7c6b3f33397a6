"""Checks the loggers of a configuration before anything is built. Torch-free, for fast errors."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from packnet_pl.errors import UsageError

__all__ = ["METRICS_FILE", "check_loggers"]

METRICS_FILE = "csv"
"""The logger that needs no other class: ``metrics.csv`` is kept beside every other one."""

# Lightning imports its classes without them. Class -> what has to be there, and what pip is told.
_LIBRARIES = {
    "TensorBoardLogger": (("tensorboard",), "tensorboard"),
    "WandbLogger": (("wandb",), "'packnet-pl[loggers]'"),
    "MLFlowLogger": (("mlflow", "sqlalchemy", "alembic"), "'packnet-pl[loggers]'"),
}


def check_loggers(loggers: Mapping[str, Any]) -> None:
    """Checks that each logger names its class, and that what it needs is installed.

    Args:
        loggers: Name -> its configuration.

    Raises:
        UsageError: If one is something else, or needs what is not installed.
    """
    for name, logger in loggers.items():
        if name == METRICS_FILE and not logger:
            continue
        if not isinstance(logger, Mapping) or not isinstance(logger.get("_target_"), str):
            raise UsageError(
                f"logger.{name} is {logger!r}; a logger of your own has a name and a class, as in "
                "+logger.mine._target_=pytorch_lightning.loggers.CometLogger"
            )
        needed, to_install = _LIBRARIES.get(logger["_target_"].rpartition(".")[2], ((), ""))
        missing = [library for library in needed if find_spec(library) is None]
        if missing:
            raise UsageError(
                f"logger={name} needs {' and '.join(missing)}, not installed here: pip install {to_install}"
            )
