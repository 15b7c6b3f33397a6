"""Continues the learning curves of a resumed fit: the same rows as if it had never been interrupted."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.loggers import CSVLogger, Logger
from torch import Tensor
from torchmetrics import Metric

from packnet_pl.distributed import is_distributed, rank_and_world_size
from packnet_pl.run.artifacts import is_main
from packnet_pl.run.fit_logger import FitLogger
from packnet_pl.run.metrics_file import MetricsFile
from packnet_pl.training.strategy_hooks import loads_late

__all__ = ["MetricsHistory"]

_KEY = "metrics_history"


class MetricsHistory(pl.Callback):
    """Saves, with each checkpoint, what is not logged yet, and logs it when a fit resumes from it.

    Lightning logs the metrics of an epoch (or step) after the hook in which its checkpoint is written, and averages
    over an epoch begin anew when a fit goes on within it. So a checkpoint holds the row to come and the sums so far. A
    CSVLogger keeps the rows that its file had then, loggers of the run are given them again, and both the row.

    Args:
        loggers: Of the fit; the first may be a CSVLogger.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._file: MetricsFile | None = None
        for logger in loggers[:1]:
            if isinstance(logger, CSVLogger) and is_main():
                # Before Lightning asks for the logger's own, which would delete the file.
                self._file = logger._experiment = MetricsFile(logger.log_dir)
        self._others = [logger for logger in loggers if isinstance(logger, FitLogger)]
        self._found: dict[str, Any] | None = None
        self._step, self._is_continued = 0, False
        self._sums: dict[str, list[dict[str, Tensor]]] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the pending row, and within an epoch the sums so far."""
        for logger in trainer.loggers:
            logger.save()
        connector, loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
        ended = connector._first_loop_iter is None  # the epoch; its row has the number of its last step
        row: dict[str, Any] = {name: value.item() for name, value in connector.metrics["log"].items()}
        step = row.pop("step", loop._batches_that_stepped - ended)
        checkpoint[_KEY] = {
            "rows": self._file.num_rows if self._file else None,
            "row": {"epoch": trainer.current_epoch, **row} if row else None,
            "step": int(step),
            "sums": [] if ended else _from_all_ranks({"logged": _logged(trainer), "metrics": _metrics(pl_module)}),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Loads what :meth:`on_save_checkpoint` added; checkpoints of earlier versions have nothing."""
        self._found, self._step = checkpoint.get(_KEY), checkpoint["global_step"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sets the row at which the loggers continue, unless a checkpoint may still be loaded that says it."""
        if not loads_late(trainer):
            self._continue(trainer)

    def _continue(self, trainer: pl.Trainer) -> None:
        self._is_continued = True
        rows: int | None = self._found["rows"] if self._found else None
        if self._file is not None and rows is not None:
            self._file.keep_first(rows)
        elif self._file is not None:
            self._file.keep_before(self._step)
        for step, kept in self._file.kept() if self._file is not None else ():
            for other in self._others:
                other.log_metrics(kept, step=step)
        if self._found and self._found["row"]:
            for logger in trainer.loggers:
                logger.log_metrics(self._found["row"], step=self._found["step"])
                logger.save()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores the sums of the module's metrics."""
        if not self._is_continued:
            self._continue(trainer)
        rank, world_size = rank_and_world_size()
        # With fewer processes than there were, one goes on for several.
        for part in (self._found["sums"] if self._found else [])[rank::world_size]:
            for name, sums in part["logged"].items():
                self._sums.setdefault(name, []).append(sums)
            for name, metric in pl_module.named_modules():
                if isinstance(metric, Metric) and name in part["metrics"]:
                    _add_to(metric, part["metrics"][name])
        self._found = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sets the row where there was nothing to train."""
        if not self._is_continued:
            self._continue(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the sums of what is logged as a number: Lightning sets those to zero in the first step."""
        results: Any = trainer._results
        for name in [name for name in self._sums if name in results]:
            for sums in self._sums.pop(name):
                _add(results[name], sums)


def _logged(trainer: pl.Trainer) -> dict[str, Any]:
    """Returns, per number that is logged for the epoch, its value so far and the number of samples that it is of."""
    results: Any = trainer._results
    return {
        name: {key: value.cpu() for key, value in result.metric_state.items()}
        for name, result in results.items()
        if result.is_tensor and result.meta.on_epoch
    }


def _add(result: Any, saved: dict[str, Tensor]) -> None:
    for key, value in saved.items():
        now = getattr(result, key)
        added = result.meta.is_mean_reduction or result.meta.is_sum_reduction
        setattr(result, key, now + value.to(now.device) if added else result.meta.reduce_fx(now, value.to(now.device)))


def _metrics(module: pl.LightningModule) -> dict[str, Any]:
    """Returns the states of torchmetrics' metrics, by name, that were updated since they were reset."""
    return {
        name: {"count": metric.update_count, "state": {key: _cpu(value) for key, value in metric.metric_state.items()}}
        for name, metric in module.named_modules()
        if isinstance(metric, Metric) and metric.update_called
    }


def _add_to(metric: Metric, saved: dict[str, Any]) -> None:
    for key, value in saved["state"].items():
        now, reduce = getattr(metric, key), cast(Callable[[Tensor], Tensor] | None, metric._reductions[key])
        if isinstance(value, list):
            setattr(metric, key, [*now, *(item.to(metric.device) for item in value)])
        elif metric.update_called and reduce is not None:
            setattr(metric, key, reduce(torch.stack([now, value.to(metric.device)])))
        else:
            setattr(metric, key, value.to(metric.device))
    metric._update_count += saved["count"]


def _cpu(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return [item.cpu() for item in value] if isinstance(value, list) else value.cpu()


def _from_all_ranks(mine: dict[str, Any]) -> list[Any]:
    if not is_distributed():
        return [mine]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    return parts
