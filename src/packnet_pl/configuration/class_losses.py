"""The loss of each phase, from its settings and the classes of its training split."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from packnet_pl.configuration.task_settings import PhaseSettings, TaskSettings
from packnet_pl.data import TaskData, class_labels, class_weights, join_tasks
from packnet_pl.errors import UsageError
from packnet_pl.training import ClassificationLoss

__all__ = ["check_balance", "loss_of", "training_splits"]


def training_splits(
    tasks: Sequence[TaskSettings], data: Mapping[str, TaskData | None], *, together: bool
) -> dict[str, tuple[Any, int]]:
    """Returns, per task, the split that it is trained on and its number of classes; (None, 0) without data.

    Args:
        tasks: Of the run.
        data: Of each.
        together: Whether all are trained at once: each then on all of it.
    """
    found = {name: splits for name, splits in data.items() if splits is not None}
    if together and len(found) == len(tasks):
        joined = join_tasks(found)
        return {task.name: (joined.train, len(joined.class_names)) for task in tasks}
    return {
        task.name: (found[task.name].train, len(found[task.name].class_names)) if task.name in found else (None, 0)
        for task in tasks
    }


def loss_of(settings: PhaseSettings, split: Any, num_classes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the loss of a phase: torch's cross-entropy, unless something else was asked for.

    Args:
        settings: Of the phase.
        split: What it is trained on.
        num_classes: In it.
    """
    if not settings.label_smoothing and settings.balance != "weights":
        return cross_entropy
    weights = None
    if settings.balance == "weights":
        weights = tuple(class_weights(class_labels(split), num_classes).tolist())
    return ClassificationLoss(settings.label_smoothing, weights)


def check_balance(task: TaskSettings, split: Any) -> None:
    """Refuses to balance classes that a training split does not name.

    Raises:
        UsageError: If it is to be done.
    """
    for phase, settings in task.phases.items():
        if settings.balance != "none":
            try:
                class_labels(split)
            except ValueError as error:
                raise UsageError(
                    f"sequence.tasks.{task.name}.{phase}.balance is {settings.balance}: {error}"
                ) from error
