"""Fits, when a task is finished, the statistics of its features by which images without a task find theirs."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.data import ImageDataset, TaskData
from packnet_pl.data.augmentation import SeededItems
from packnet_pl.data.task_data import draws_random_numbers, unaugmented
from packnet_pl.models import TaskInfo, as_input
from packnet_pl.packed import FeatureStatistics, fit_statistics
from packnet_pl.packed.task_choice import renormalised
from packnet_pl.run.plan import RunPlan, TaskPlan
from packnet_pl.run.sharded import place_
from packnet_pl.training import MultiHeadClassifier

__all__ = ["fitted_statistics"]

_MOST_IMAGES = 20_000
"""Of a split; of larger ones so many, evenly spaced, are looked at."""


def fitted_statistics(
    plan: RunPlan, tasks: Iterable[TaskPlan], model: MultiHeadClassifier
) -> dict[str, FeatureStatistics]:
    """Returns task -> statistics of the features that the first task's network has for its training images.

    Only images of the task itself are looked at, none of its test split: its validation images give the scale. The
    first task's features never change, so statistics of several tasks can be compared. If the network is sharded, all
    processes have to call it, and each looks at all images.

    Args:
        plan: Of the run; it may want none.
        tasks: Just finished.
        model: With the first task and these finished.

    Raises:
        ValueError: If a feature is NaN or infinite.
    """
    if plan.which_task == "entropy":
        return {}
    place_(model, plan.device)
    try:
        return {task.name: _fitted(plan, task.name, task.data, model) for task in tasks if task.data is not None}
    finally:
        place_(model, "cpu")


def _fitted(plan: RunPlan, task: str, data: TaskData, model: MultiHeadClassifier) -> FeatureStatistics:
    features, labels = _features(plan, task, model, "train", unaugmented(data.train))
    held_out, _ = _features(plan, task, model, "val", data.val)
    return fit_statistics(features, labels, held_out)


@torch.no_grad()
def _features(
    plan: RunPlan, task: str, model: MultiHeadClassifier, name: str, split: ImageDataset
) -> tuple[Tensor, Tensor]:
    first, info = plan.tasks[0].name, model.heads.infos[task]
    view = model.finished_view(first)
    assert view is not None, f"the features of {first!r} are not what they were"
    found, labels = [torch.empty(0, model.heads.num_features)], [torch.empty(0, dtype=torch.int64)]
    with in_eval_mode(model.backbone.modules()), view:
        for images, classes in _loader(plan, (plan.seed, task, name), split):
            found.append(_pass(model, images.to(plan.device), info, model.heads.infos[first]))
            labels.append(classes)
    return torch.cat(found[1:] or found), torch.cat(labels)


def _pass(model: MultiHeadClassifier, images: Tensor, info: TaskInfo, first: TaskInfo) -> Tensor:
    features: Tensor = model.backbone(as_input(renormalised(images, info, first), model.backbone))
    return features.cpu()


def _loader(plan: RunPlan, key: tuple[str | int, ...], split: ImageDataset) -> DataLoader[Any]:
    items = SeededItems(split, (*key, "which_task")) if draws_random_numbers(split) else split
    size = len(cast("Any", split))
    if size > _MOST_IMAGES:
        items = Subset(items, torch.linspace(0, size - 1, _MOST_IMAGES).round().long().tolist())
    # With a generator of its own it draws nothing from torch's.
    return DataLoader(items, batch_size=plan.batch_size, num_workers=plan.num_workers, generator=torch.Generator())
