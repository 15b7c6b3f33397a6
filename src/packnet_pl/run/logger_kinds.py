"""What TensorBoard, W&B and MLflow each do in their own way, as the logger of a whole run.

A run that is resumed logs its curves again, from ``metrics.csv``; each kind knows how to have no step twice.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import isclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from packnet_pl.run.run_logger import Outcome, RunLogger, RunTitle, Setting

__all__ = ["kind_of"]


class TensorBoardRun(RunLogger):
    """One folder of event files: each process writes all curves, and has readers forget those of the process before."""

    made_by = TensorBoardLogger

    @staticmethod
    def arguments(title: RunTitle, identity: str | None) -> dict[str, Any]:
        """Returns the folder, and from which step on earlier events are forgotten: all."""
        return {
            "save_dir": title.folder,
            "name": "tensorboard",
            "version": "",
            "default_hp_metric": False,
            "purge_step": 0,
        }

    def hyperparameters(self, values: Mapping[str, Setting]) -> None:
        """Logs the configuration beside ``result/val_accuracy``, which is logged as any other metric."""
        # Lightning's own way would log a value of that metric now, when there is none.
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(values), {"result/val_accuracy": 0.0}):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)

    def figure(self, path: Path, step: int) -> None:
        """Logs a PNG file as an image."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._writer.add_image(f"report/{path.stem}", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    @property
    def _writer(self) -> Any:
        return self.logger.experiment


class WandbRun(RunLogger):
    """One run of Weights & Biases, whose own steps are those of the whole run.

    Online a resumed run begins where the server is. Offline each process leaves a folder with all curves.
    """

    made_by = WandbLogger

    def __init__(self, logger: Logger, *, resumed: bool) -> None:
        super().__init__(logger, resumed=resumed)
        self._begin: int = self._run.step  # W&B passes over what is before it, with a warning each

    @staticmethod
    def arguments(title: RunTitle, identity: str | None) -> dict[str, Any]:
        """Returns folder, name and group, and the id of the run that goes on."""
        return {"save_dir": title.folder, "name": title.name, "group": title.group, "id": identity}

    @property
    def identity(self) -> str | None:
        """The id of the run."""
        return str(self._run.id)

    def figure(self, path: Path, step: int) -> None:
        """Logs a PNG file as an image."""
        import wandb

        if step >= self._begin:
            self._run.log({f"report/{path.stem}": wandb.Image(str(path))}, step=step)

    def artifact(self, paths: Sequence[Path]) -> None:
        """Leaves files as the next version of one artifact."""
        import wandb

        files = wandb.Artifact(f"packed-{self.identity}", type="model")
        for path in paths:
            files.add_file(str(path))
        self._run.log_artifact(files)

    def close(self, outcome: Outcome) -> None:
        """Ends the run, after what is still to be sent was sent."""
        self._run.finish(exit_code=0 if outcome == "complete" else 1)

    def _last_step(self, name: str) -> int:
        return max(self._begin - 1, super()._last_step(name))

    def _send(self, metrics: dict[str, float], step: int) -> None:
        # What has the same step becomes one row.
        self._run.log({**metrics, "trainer/global_step": step}, step=step)

    @property
    def _run(self) -> Any:
        return self.logger.experiment


class MlflowRun(RunLogger):
    """One run of MLflow; of what it is given again, it is asked what it has."""

    made_by = MLFlowLogger

    def __init__(self, logger: Logger, *, resumed: bool) -> None:
        super().__init__(logger, resumed=resumed)
        self._id = str(logger.version)
        if resumed:
            self._client.update_run(self._id, status="RUNNING")

    @staticmethod
    def arguments(title: RunTitle, identity: str | None) -> dict[str, Any]:
        """Returns the name of the run, its sweep as a tag, and the id of the run that goes on."""
        import mlflow  # noqa: F401 (it sets its loggers' levels when it is imported)

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports each table that it makes
        tags = {"sweep": title.group} if title.group else None
        return {"run_name": title.name, "tags": tags, "run_id": identity}

    @property
    def identity(self) -> str | None:
        """The id of the run."""
        return self._id

    def hyperparameters(self, values: Mapping[str, Setting]) -> None:
        """Logs the settings that the run does not have; MLflow lets none be changed."""
        known = self._client.get_run(self._id).data.params
        self.logger.log_hyperparams({name: value for name, value in values.items() if name not in known})

    def figure(self, path: Path, step: int) -> None:
        """Leaves a PNG file as an artifact."""
        self._client.log_artifact(self._id, str(path), "report")

    def artifact(self, paths: Sequence[Path]) -> None:
        """Leaves files as artifacts, in the place of those of the same name."""
        for path in paths:
            self._client.log_artifact(self._id, str(path))

    def close(self, outcome: Outcome) -> None:
        """Ends the run as finished, killed or failed."""
        states: dict[Outcome, str] = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
        self._client.set_terminated(self._id, states[outcome])

    def _last_step(self, name: str) -> int:
        if self.resumed and name not in self._last_steps:
            history = self._client.get_metric_history(self._id, name)
            self._last_steps[name] = max((metric.step for metric in history), default=-1)
        return super()._last_step(name)

    @property
    def _client(self) -> Any:
        return self.logger.experiment


def kind_of(make: partial[Logger]) -> type[RunLogger]:
    """Returns how a logger is used that ``make`` makes: of a class of Lightning's, or a subclass, as that class is."""
    made = make.func
    for kind in (TensorBoardRun, WandbRun, MlflowRun):
        if isclass(made) and issubclass(made, kind.made_by):
            return kind
    return RunLogger
