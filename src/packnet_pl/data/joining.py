"""Joins the splits of several tasks into one, for joint training."""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from packnet_pl.data.class_balance import class_labels
from packnet_pl.data.task_data import ImageDataset, TaskData, draws_random_numbers, unaugmented

__all__ = ["join_tasks"]


def join_tasks(tasks: Mapping[str, TaskData]) -> TaskData:
    """Returns the images of all tasks together, in the order of the tasks; of one task it is that task itself.

    Class indices go on counting from task to task: those of the second begin where the first one's end.

    Args:
        tasks: Name -> data, at least one.

    Raises:
        ValueError: If their images differ in shape: a batch holds those of several tasks.
    """
    names, data = list(tasks), list(tasks.values())
    if len(data) == 1:
        return data[0]
    for name, other in tasks.items():
        if other.input_shape != data[0].input_shape:
            raise ValueError(
                f"tasks {names[0]!r} and {name!r} have images of {data[0].input_shape} and {other.input_shape}; to "
                "be trained together they must have one shape"
            )
    begins = [0, *accumulate(len(other.class_names) for other in data)]
    return TaskData(
        _Joined([other.train for other in data], begins),
        _Joined([other.val for other in data], begins),
        _Joined([other.test for other in data], begins),
        class_names=tuple(f"{name}/{found}" for name, other in tasks.items() for found in other.class_names),
        input_shape=data[0].input_shape,
        mean=data[0].mean,
        std=data[0].std,
    )


class _Joined(Dataset[tuple[Tensor, ...]]):
    def __init__(self, splits: list[ImageDataset], begins: list[int]) -> None:
        self._parts = splits
        self._splits: ConcatDataset[tuple[Tensor, ...]] = ConcatDataset(splits)
        self._begins = begins
        self.random = any(draws_random_numbers(split) for split in splits)

    @property
    def labels(self) -> Tensor:
        """Class index of each item, counted over all tasks."""
        begins = self._begins
        return torch.cat([class_labels(split) + begin for split, begin in zip(self._parts, begins, strict=False)])

    @property
    def unaugmented(self) -> "_Joined":
        """The same without what items draw, as far as their split has that."""
        plain = [unaugmented(split) for split in self._parts]
        changed = any(one is not other for one, other in zip(plain, self._parts, strict=True))
        return _Joined(plain, self._begins) if changed else self

    def __len__(self) -> int:
        return len(self._splits)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image, label = self._splits[index]
        return image, label + self._begins[bisect_right(self._splits.cumulative_sizes, index)]
