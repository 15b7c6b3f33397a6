"""The plan of a run as plain objects: its tasks, the stages that fit them, and what all of them share."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.loggers import Logger

from packnet_pl.choices import Phase, WhichTask
from packnet_pl.data import TaskData, join_tasks
from packnet_pl.models import HeadStart
from packnet_pl.ratio_choice import RatioSearch
from packnet_pl.run.growth import Growth
from packnet_pl.training import FitMethod, Recipe, TaskDataModule

__all__ = ["LoggerPlan", "RunPlan", "Stage", "TaskPlan"]


@dataclass(frozen=True)
class TaskPlan:
    """The plan of one task.

    Attributes:
        name: Of the task.
        data: Its splits; None for a task that was finished elsewhere and whose data are not here.
        prune_ratio: Share of the task's weights to release, in [0, 1), or None to release none and not retrain.
        epochs: Phase -> number of epochs; 0 trains nothing, and the task is pruned as it is.
        recipes: Phase -> optimizer and schedule.
        head: What its head begins as: see :meth:`MultiHeadClassifier.add_task`.
        balanced: Phases that draw all classes equally often.
        search: How the prune ratio is searched, which is the least one then; None takes it as it is.
    """

    name: str
    data: TaskData | None
    prune_ratio: float | None
    epochs: Mapping[Phase, int]
    recipes: Mapping[Phase, Recipe]
    head: HeadStart = "new"
    balanced: Collection[Phase] = ()
    search: RatioSearch | None = None


@dataclass(frozen=True)
class Stage:
    """Tasks that are fitted together: one, but for joint training.

    Attributes:
        tasks: In order; they have the same epochs, recipes and prune ratio.
    """

    tasks: tuple[TaskPlan, ...]

    @property
    def name(self) -> str:
        """The tasks' names."""
        return "+".join(task.name for task in self.tasks)

    @property
    def last(self) -> TaskPlan:
        """The last task, in whose folder the checkpoints and logs of the fit are."""
        return self.tasks[-1]

    @property
    def data(self) -> TaskData:
        """The images of all of its tasks."""
        found = {}
        for task in self.tasks:
            assert task.data is not None, f"the data of {task.name!r} are needed to train it"
            found[task.name] = task.data
        return join_tasks(found)


@dataclass(frozen=True)
class LoggerPlan:
    """What a run logs its metrics with, beside the ``metrics.csv`` of each phase.

    Attributes:
        makers: Name -> what makes a Lightning logger, called with further arguments.
        title: What lists of runs show.
        group: The sweep that the run is a job of, or None.
        hyperparameters: The configuration, flat.
    """

    makers: Mapping[str, partial[Logger]]
    title: str = ""
    group: str | None = None
    hyperparameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class RunPlan:
    """The whole sequence.

    Attributes:
        folder: The run directory.
        tasks: In order.
        method: Name of the method, for the results.
        settings: Of the method, for the results.
        together: Whether all tasks are fitted at once.
        packs: Whether tasks own weights.
        fit: How the method fits one task.
        arch: Name of the backbone, for the results.
        growth: When the network grows; None: never.
        recipe: What a run that goes on from the packed file alone needs to know of this one, as JSON takes it.
        seed: Everything random follows from it.
        batch_size: Samples per optimizer step, over all processes.
        accumulate: Batches per optimizer step.
        every_n_steps: Steps between two checkpoints within an epoch; None for one at the end of each epoch only.
        num_workers: Loader processes.
        device: Where finished tasks are tested.
        trainer: Keyword arguments for every ``pl.Trainer``: accelerator, devices, precision and such.
        loggers: What metrics are logged with; None logs none, not even to ``metrics.csv``.
        trained: Called with the last checkpoint of the first task's training, before anything of it is pruned.
        make_callbacks: Returns new instances of the callbacks that the user adds to each fit of a phase.
        which_task: "features": statistics of each task's features are stored with it; "entropy": none are.
        environment: How Lightning finds the other processes; None lets it guess.
    """

    folder: Path
    tasks: tuple[TaskPlan, ...]
    method: str
    settings: Mapping[str, Any]
    together: bool
    packs: bool
    fit: FitMethod
    arch: str
    seed: int
    batch_size: int
    accumulate: int
    every_n_steps: int | None
    num_workers: int
    device: str
    trainer: Mapping[str, Any]
    loggers: LoggerPlan | None
    growth: Growth | None = None
    recipe: Mapping[str, Any] | None = None
    trained: Callable[[Path], None] | None = None
    make_callbacks: Callable[[Phase], list[pl.Callback]] = lambda phase: []
    which_task: WhichTask = "entropy"
    environment: ClusterEnvironment | None = None

    @property
    def stages(self) -> list[Stage]:
        """The fits, in order."""
        return [Stage(self.tasks)] if self.together else [Stage((task,)) for task in self.tasks]

    def datamodule(self, name: str, data: TaskData) -> TaskDataModule:
        """Returns what loads the splits of a task, or of a stage's tasks together.

        Args:
            name: Of the task or the stage; with the seed it decides what is drawn.
            data: Its splits.
        """
        return TaskDataModule(
            data,
            key=(self.seed, name),
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            num_workers=self.num_workers,
        )
