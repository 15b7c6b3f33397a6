"""A logger of any kind that is open for a whole run, and what it calls the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pytorch_lightning.loggers import Logger

__all__ = ["Outcome", "RunLogger", "RunTitle", "Setting"]

Outcome = Literal["complete", "stopped", "failed"]
Setting = str | int | float | bool
"""A value of a hyperparameter."""


@dataclass(frozen=True)
class RunTitle:
    """What loggers call a run.

    Attributes:
        folder: The run directory.
        name: Shown in lists of runs.
        group: The sweep that the run is a job of, or None.
    """

    folder: Path
    name: str
    group: str | None


class RunLogger:
    """A logger of any kind: it gets metrics and hyperparameters, and begins a new run whenever a run is resumed.

    Args:
        logger: Of Lightning.
        resumed: Whether it goes on with the run that it began before.
    """

    made_by: ClassVar[Any] = Logger

    def __init__(self, logger: Logger, *, resumed: bool) -> None:
        self.logger: Any = logger  # Logger itself has no "experiment", but all of them have
        self.resumed = resumed
        self._last_steps: dict[str, int] = {}

    @staticmethod
    def arguments(title: RunTitle, identity: str | None) -> dict[str, Any]:
        """Returns what the logger is made with where its configuration says nothing.

        Args:
            title: Of the run.
            identity: What :attr:`identity` was when the run began; None if it begins now.
        """
        return {}

    @property
    def identity(self) -> str | None:
        """What the logger has to be told to go on with this run; None if nothing."""
        return None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs the metrics of a step of the whole run that the logger does not have."""
        new = {name: value for name, value in metrics.items() if self._last_step(name) < step}
        self._last_steps |= dict.fromkeys(new, step)
        if new:
            self._send(new, step)

    def hyperparameters(self, values: Mapping[str, Setting]) -> None:
        """Logs the configuration."""
        self.logger.log_hyperparams(dict(values))

    def figure(self, path: Path, step: int) -> None:
        """Logs a PNG file."""

    def artifact(self, paths: Sequence[Path]) -> None:
        """Leaves files to the logger."""

    def close(self, outcome: Outcome) -> None:
        """Ends the logger's run."""
        self.logger.finalize("success" if outcome == "complete" else "failed")

    def _last_step(self, name: str) -> int:
        """Returns the last step for which the logger has a metric; -1 if it has none."""
        return self._last_steps.get(name, -1)

    def _send(self, metrics: dict[str, float], step: int) -> None:
        self.logger.log_metrics(metrics, step=step)
