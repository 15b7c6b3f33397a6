"""What a network predicts for each image of a test split, and from it the task's confusion matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from packnet_pl.confusion import ConfusedPair, Confusion, Example
from packnet_pl.data import TaskData
from packnet_pl.data.thumbnails import thumbnail_png
from packnet_pl.distributed import sum_

__all__ = ["Predictions", "confusion_of"]

_PAIRS = 8
"""Pairs of classes that images are kept of."""

_EXAMPLES = 2


class Predictions:
    """The class of each image of a split, and the one with the highest logit.

    Args:
        size: Number of images in the split.

    Attributes:
        actual: int64, one class index per image of the split.
        predicted: int64, likewise.
    """

    def __init__(self, size: int) -> None:
        self.actual = torch.zeros(size, dtype=torch.int64)
        self.predicted = torch.zeros(size, dtype=torch.int64)

    def add(self, indices: Sequence[int], actual: Tensor, predicted: Tensor) -> None:
        """Adds a batch.

        Args:
            indices: Of its images in the split.
            actual: int64, N.
            predicted: int64, N.
        """
        at = torch.tensor(indices)
        self.actual[at], self.predicted[at] = actual.cpu(), predicted.cpu()

    def gather(self) -> None:
        """Brings what other processes have added. All have to call it; no image may be added twice."""
        sum_(self.actual)
        sum_(self.predicted)


def confusion_of(predictions: Predictions, data: TaskData, class_names: Sequence[str], after: str) -> Confusion:
    """Returns the confusion matrix of a task, with images of the most confused classes.

    Args:
        predictions: Of the whole test split.
        data: Of the task.
        class_names: One per class.
        after: The task that was finished last.
    """
    count = len(class_names)
    cells, images = torch.unique(predictions.actual * count + predictions.predicted, return_counts=True)
    found = Confusion(
        after,
        tuple(class_names),
        tuple((cells // count).tolist()),
        tuple((cells % count).tolist()),
        tuple(images.tolist()),
    )
    if data.input_shape[0] not in (1, 3):
        return found
    pairs = tuple(_pair(predictions, data, *entry) for entry in found.confused()[:_PAIRS])
    return Confusion(found.after, found.class_names, found.actual, found.predicted, found.images, pairs)


def _pair(predictions: Predictions, data: TaskData, actual: int, predicted: int, images: int) -> ConfusedPair:
    examples = (predictions.actual == actual) & (predictions.predicted == predicted)
    references = (predictions.actual == predicted).nonzero()[:1, 0].tolist()
    return ConfusedPair(
        actual,
        predicted,
        images,
        tuple(_example(data, index) for index in examples.nonzero()[:_EXAMPLES, 0].tolist()),
        _example(data, references[0]) if references else None,
    )


def _example(data: TaskData, index: int) -> Example:
    return Example(index, thumbnail_png(data.test[index][0], data.mean, data.std))
