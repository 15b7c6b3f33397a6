"""Measures the accuracy of a task, top-1, top-5 and class by class, and writes it as CSV."""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from packnet_pl.distributed import rank_and_world_size, sum_
from packnet_pl.files import replacing
from packnet_pl.run.predictions import Predictions
from packnet_pl.training import TaskDataModule

__all__ = ["Scores", "measure", "measure_together", "write_accuracy_csv", "write_class_csv"]


class Scores(msgspec.Struct, frozen=True):
    """Counts of correct predictions over a split; integers, as a mean of float32 would not be the exact fraction.

    Attributes:
        right: Per class, the images whose highest logit is that of their class.
        among_five: Images whose class is among the five highest logits; None with five classes or fewer.
        images: Per class, how many there are; ``pictures`` in ``finished.json``.
    """

    right: tuple[int, ...]
    among_five: int | None
    images: tuple[int, ...] = msgspec.field(name="pictures")

    @property
    def top1(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return sum(self.right) / sum(self.images)

    @property
    def top5(self) -> float | None:
        """Top-5 accuracy in [0, 1]; None with five classes or fewer."""
        return None if self.among_five is None else self.among_five / sum(self.images)


@torch.no_grad()
def measure(
    predict: Callable[[Tensor], Tensor],
    loader: Iterable[Any],
    num_classes: int,
    device: torch.device | str = "cpu",
    predictions: Predictions | None = None,
) -> Scores:
    """Returns the scores of a classifier.

    Args:
        predict: From images (N x C x H x W) to logits (N x ``num_classes``).
        loader: Batches of images and class indices.
        num_classes: Of the task.
        device: Where ``predict`` computes.
        predictions: Gets the predicted classes; ``loader`` is then one of :meth:`TaskDataModule.batches`.
    """
    right = torch.zeros(num_classes, dtype=torch.int64)
    images = torch.zeros(num_classes, dtype=torch.int64)
    among_five = 0
    for number, (batch, labels) in enumerate(loader):
        logits = predict(batch.to(device)).cpu()
        if not len(labels):
            continue  # computed for the other processes
        predicted = logits.argmax(dim=1)
        if predictions is not None:
            predictions.add(loader.batch_sampler[number], labels, predicted)  # type: ignore[attr-defined]
        right += torch.bincount(labels[predicted == labels], minlength=num_classes)
        images += torch.bincount(labels, minlength=num_classes)
        if num_classes > 5:
            among_five += int((logits.topk(5, dim=1).indices == labels.unsqueeze(1)).sum())
    return Scores(tuple(right.tolist()), among_five if num_classes > 5 else None, tuple(images.tolist()))


def measure_together(
    predict: Callable[[Tensor], Tensor],
    datamodule: TaskDataModule,
    split: Literal["val", "test"],
    num_classes: int,
    device: torch.device | str = "cpu",
    predictions: Predictions | None = None,
) -> Scores:
    """Returns the scores of a classifier on a split whose batches are divided among all processes.

    They are those of one process, exactly: the batches are the same, and whole numbers are added. All processes have to
    call it, and call ``predict`` equally often.

    Args:
        predict: As for :func:`measure`.
        datamodule: Has the split.
        split: Which one.
        num_classes: Of the task.
        device: Where ``predict`` computes.
        predictions: Of the size of the split, without any: gets all predicted classes, in each process.
    """
    batches = datamodule.batches(split, *rank_and_world_size(), filled=True)
    mine = measure(predict, batches, num_classes, device, predictions)
    if predictions is not None:
        predictions.gather()
    counts = sum_(torch.tensor([*mine.right, *mine.images, mine.among_five or 0])).tolist()
    right, images = tuple(counts[:num_classes]), tuple(counts[num_classes:-1])
    return Scores(right, None if mine.among_five is None else counts[-1], images)


def write_accuracy_csv(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Scores]]) -> None:
    """Writes top-1 and top-5 accuracy of every task after every task.

    Args:
        path: Of the file: columns ``after``, ``task``, ``top1``, ``top5`` (empty with five classes or fewer).
        rows: One per finished task: task -> scores then.
    """
    lines: list[list[Any]] = [["after", "task", "top1", "top5"]]
    for row in rows:
        after = list(row)[-1]
        lines += [[after, task, scores.top1, scores.top5] for task, scores in row.items()]
    _write(path, lines)


def write_class_csv(
    path: str | os.PathLike[str], scores: Mapping[str, Scores], class_names: Mapping[str, Sequence[str]]
) -> None:
    """Writes the accuracy of every class of every task.

    Args:
        path: Of the file: columns ``task``, ``class``, ``pictures``, ``accuracy`` (empty for a class without images).
        scores: Task -> scores.
        class_names: Task -> one name per class.
    """
    lines: list[list[Any]] = [["task", "class", "pictures", "accuracy"]]
    for task, found in scores.items():
        for name, right, images in zip(class_names[task], found.right, found.images, strict=True):
            lines.append([task, name, images, right / images if images else None])
    _write(path, lines)


def _write(path: str | os.PathLike[str], lines: Iterable[Sequence[Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
