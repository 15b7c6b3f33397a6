"""The logger that a fit's Trainer has in the place of one that is open for the whole run."""

from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger

from packnet_pl.choices import Phase
from packnet_pl.run.logged_names import fit_metrics
from packnet_pl.run.run_logger import RunLogger

__all__ = ["FitLogger"]


class FitLogger(Logger):
    """Passes the metrics of one fit on, under the names and steps of the whole run, and ends nothing with the fit.

    Args:
        run_logger: Of the run.
        label: Of the task.
        phase: Of the fit.
        first_step: Step of the run that the fit's step 0 is.
        passed: Called with each step of the run that was logged.
    """

    def __init__(
        self, run_logger: RunLogger, label: str, phase: Phase, *, first_step: int, passed: Callable[[int], None]
    ) -> None:
        super().__init__()
        self._run_logger, self._label, self._phase = run_logger, label, phase
        self._first_step, self._passed = first_step, passed

    @property
    def name(self) -> str | None:
        """The name of the run's logger."""
        name: str | None = self._run_logger.logger.name
        return name

    @property
    def version(self) -> int | str | None:
        """The version of the run's logger."""
        version: int | str | None = self._run_logger.logger.version
        return version

    @property
    def experiment(self) -> Any:
        """What the run's logger logs to, for callbacks that log more than numbers."""
        return self._run_logger.logger.experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs a row of ``metrics.csv``."""
        at = self._first_step + (step or 0)
        self._run_logger.log(fit_metrics(metrics, self._label, self._phase), at)
        self._passed(at)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run's configuration is logged once."""

    def save(self) -> None:
        """Writes what is buffered."""
        self._run_logger.logger.save()
