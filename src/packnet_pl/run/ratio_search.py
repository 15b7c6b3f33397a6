"""Searches the prune ratio of a task by trials from its dense checkpoint, on copies of the network."""

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import pytorch_lightning as pl
import torch

from packnet_pl.choices import Phase
from packnet_pl.counting import counted
from packnet_pl.distributed import wait_for_all
from packnet_pl.filter_history import Moment
from packnet_pl.ratio_choice import (
    RatioSearch,
    RatioTrial,
    RatioTrials,
    chosen_ratio,
    is_within,
    next_ratio,
    paired_drop,
    read_trials,
)
from packnet_pl.records import write_json
from packnet_pl.run.artifacts import is_main
from packnet_pl.run.metrics import measure_together
from packnet_pl.run.plan import RunPlan, Stage, TaskPlan
from packnet_pl.run.predictions import Predictions
from packnet_pl.run_directory import checkpoint_path, ratio_trials_path
from packnet_pl.training import MultiHeadClassifier, TaskDataModule, TaskObserver

__all__ = ["search_ratio"]

_log = logging.getLogger(__name__)

MakeTrainer = Callable[[Phase, pl.Callback, TaskObserver], pl.Trainer]
"""Makes a Trainer of a trial: of phase "train" it is the run's own, of phase "retrain" one that writes nothing."""


def search_ratio(
    plan: RunPlan,
    stage: Stage,
    search: RatioSearch,
    model: MultiHeadClassifier,
    datamodule: TaskDataModule,
    make_trainer: MakeTrainer,
    resume: tuple[Phase, Path] | None,
    tried: Callable[[int], None],
) -> float:
    """Returns the ratio to prune a task by; trains it densely if that is not done.

    Trials that are done are read from the task's folder, and not repeated. All processes have to call it.

    Args:
        plan: Of the run.
        stage: Of one task.
        search: What is looked for.
        model: With the task's head; it is copied.
        datamodule: Of the task.
        make_trainer: Called for each phase of each trial with its callback, and an observer to add.
        resume: Phase and checkpoint that the run goes on from; with "retrain" the search is over.
        tried: Called with the number of trials that are done: before the first, and after each.
    """
    task, path = stage.last, ratio_trials_path(plan.folder, stage.last.name)
    assert task.data is not None
    found = _read(path) or RatioTrials(len(task.data.val), [])  # type: ignore[arg-type]
    is_over = resume is not None and resume[0] == "retrain"
    tried(len(found.trials))
    while not is_over and (ratio := next_ratio(found.trials, search)) is not None:
        trial = _try(plan, task, ratio, model, datamodule, make_trainer, resume)
        found.trials.append(trial)
        tried(len(found.trials))
        if is_main():
            write_json(path, found)
        wait_for_all()
        if is_main():
            _log.info("%s: %s", task.name, _told(trial, search, found.images))
    chosen = chosen_ratio(found.trials, search)
    if is_main() and not is_over:
        _log.info("%s: prune ratio %.4g is chosen, %s", task.name, chosen, _reason(found.trials, search))
    return chosen


def _told(trial: RatioTrial, search: RatioSearch, images: int) -> str:
    verdict = "within" if is_within(trial, search.tolerance) else "more than"
    return (
        f"prune ratio {trial.ratio:.4g} costs {trial.drop:.2f} ± {trial.standard_error:.2f} points of validation "
        f"accuracy (one image is {100 / images:.2g}), {verdict} the {search.tolerance:g} tolerated"
    )


def _reason(trials: Sequence[RatioTrial], search: RatioSearch) -> str:
    if not is_within(trials[0], search.tolerance):
        return "as later tasks need the room, though it costs more than is tolerated"
    return f"the largest of {counted(len(trials), 'ratio')} tried that is within the tolerance"


def _try(
    plan: RunPlan,
    task: TaskPlan,
    ratio: float,
    model: MultiHeadClassifier,
    datamodule: TaskDataModule,
    make_trainer: MakeTrainer,
    resume: tuple[Phase, Path] | None,
) -> RatioTrial:
    dense: tuple[Phase, Path] = ("train", checkpoint_path(plan.folder, task.name, "train"))
    observer = _Paired(plan, task)
    plan.fit(
        deepcopy(model),
        datamodule,
        task=task.name,
        prune_ratio=ratio,
        make_trainer=lambda phase, callback: make_trainer(phase, callback, observer),
        settled=_nothing,
        resume=dense if dense[1].exists() else resume,
    )
    drop, error = paired_drop(observer.right["dense"], observer.right["retrained"])
    return RatioTrial(ratio, drop, error)


def _nothing(_module: pl.LightningModule) -> None:
    """Is called when a trial is settled: nothing of it is kept."""


def _read(path: Path) -> RatioTrials | None:
    try:
        return read_trials(path)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        _log.warning("%s; its trials are made again", error)
        return None


class _Paired(TaskObserver):
    """Records for each validation image whether the dense and the retrained network are right.

    Attributes:
        right: Moment -> one per image, the same in all processes.
    """

    def __init__(self, plan: RunPlan, task: TaskPlan) -> None:
        assert task.data is not None
        self._task, self._num_classes = task.name, len(task.data.class_names)
        self._images = len(task.data.val)  # type: ignore[arg-type]
        self._datamodule = plan.datamodule(task.name, task.data)
        self.right: dict[Moment, list[bool]] = {}

    def on_moment(self, trainer: pl.Trainer, pl_module: pl.LightningModule, task: str, moment: Moment) -> None:
        """Validates, when the weights are dense or retrained."""
        if moment == "pruned":
            return
        assert isinstance(pl_module, MultiHeadClassifier)
        predictions, device = Predictions(self._images), trainer.strategy.root_device
        pl_module.to(device)
        with pl_module.predicting(self._task) as predict, torch.no_grad():
            measure_together(predict, self._datamodule, "val", self._num_classes, device, predictions)
        pl_module.cpu()
        self.right[moment] = (predictions.actual == predictions.predicted).tolist()
