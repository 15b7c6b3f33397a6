"""Makes the Lightning callbacks that a configuration adds to every fit, and refuses those that cannot work there."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning import callbacks as lightning

from packnet_pl.choices import PHASES, Phase
from packnet_pl.configuration.instantiate import build_target
from packnet_pl.errors import UsageError
from packnet_pl.training import PackNetCallback
from packnet_pl.training.weight_averaging import averaging_callbacks

__all__ = ["build_callbacks", "check_callbacks"]

_REFUSED: dict[type[pl.Callback], str] = {
    lightning.Checkpoint: "a run saves its own checkpoints (checkpoint.every_n_steps=..., and "
    "method.fit.select=best for the best epoch)",
    lightning.ModelPruning: "it prunes the weights of all tasks alike (prune.ratio=...)",
    lightning.GradientAccumulationScheduler: "batches per step are one number for the whole run (optim.accumulate=...)",
    lightning.BatchSizeFinder: "the batch size is part of the recipe (optim.batch_size=...)",
    lightning.LearningRateFinder: "it trains before the task is opened (sequence.tasks.NAME.train.lr=...)",
    lightning.BaseFinetuning: "which weights train is PackNet's to say",
    lightning.ProgressBar: "a run shows its own progress",
    PackNetCallback: "a run makes its own for each fit",
}
"""Kind of callback -> why a run does not take it, and what to give instead."""

_LOGS = (lightning.LearningRateMonitor, lightning.DeviceStatsMonitor)
_LOGGED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_top5")


def build_callbacks(node: Mapping[str, Any] | None, phase: Phase | None = None) -> list[pl.Callback]:
    """Returns new instances of the callbacks of a configuration, in order.

    Args:
        node: Name -> what is instantiated, and in ``phase`` which phase it is for alone; None for none.
        phase: Leaves out those that are for another one; None leaves out none.

    Raises:
        UsageError: If one cannot be made, or is no callback.
    """  # noqa: DOC501
    found = []
    for name, given in (node or {}).items():
        key = f"callbacks.{name}"
        if not isinstance(given, Mapping | DictConfig) or "_target_" not in given:
            raise UsageError(f"{key} is {given!r}; it takes a callback: '+{key}._target_=my_package.MyCallback'")
        arguments, only = {name: value for name, value in given.items() if name != "phase"}, given.get("phase")
        if only not in (None, *PHASES):
            raise UsageError(f"{key}.phase is {only!r}; allowed are train, retrain, and null for both")
        if phase and only not in (None, phase):
            continue
        try:
            callback = build_target(DictConfig(arguments), key)
        except InstantiationException as error:
            if isinstance(error.__cause__, MisconfigurationException):
                raise UsageError(f"{key}: {error.__cause__}") from error.__cause__
            raise
        if not isinstance(callback, pl.Callback):
            raise UsageError(f"{key} is a {type(callback).__name__}; it takes a callback of pytorch_lightning")
        found.append(callback)
    return found


def check_callbacks(config: DictConfig, device: str) -> None:
    """Makes the callbacks of a configuration once, and refuses what would fail, or break a promise, in a fit.

    Args:
        config: Checked.
        device: Where the run trains, such as "cpu".

    Raises:
        UsageError: If one cannot be made or is not taken.
    """
    node = config.get("callbacks") or {}
    keys: dict[str, str] = {}
    for name, callback in zip(node, build_callbacks(node), strict=True):
        key = f"callbacks.{name}"
        for kind, reason in _REFUSED.items():
            if isinstance(callback, kind):
                raise UsageError(f"{key} is a {type(callback).__name__}, which packnet-train does not take: {reason}")
        if isinstance(callback, _LOGS) and not config.get("logger"):
            raise UsageError(f"{key} has nowhere to log to: leave it out, or give a logger (logger=csv)")
        if isinstance(callback, lightning.DeviceStatsMonitor) and device == "cpu" and find_spec("psutil") is None:
            raise UsageError(f"{key} needs the package psutil on a CPU: install it, or leave the callback out")
        if isinstance(callback, lightning.EarlyStopping):
            _check_stopping(key, callback)
        if config.method.fit.get("select") == "best" and averaging_callbacks([callback]):
            raise UsageError(
                f"{key} averages weights, and method.fit.select=best takes those of one epoch: leave one out"
            )
        if type(callback).state_dict is not pl.Callback.state_dict:  # a checkpoint would not tell the two apart
            if callback.state_key in keys:
                raise UsageError(f"{key} and {keys[callback.state_key]} are the same callback twice: leave one out")
            keys[callback.state_key] = key


def _check_stopping(key: str, callback: lightning.EarlyStopping) -> None:
    if callback.monitor not in _LOGGED:
        raise UsageError(f"{key}.monitor is {callback.monitor!r}; a run logs {', '.join(_LOGGED)}")
    mode = "min" if callback.monitor.endswith("loss") else "max"
    if callback.mode != mode:
        raise UsageError(f"{key}.mode is {callback.mode!r}, which stops while {callback.monitor} gets better: {mode}")
