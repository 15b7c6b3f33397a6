"""Answers for picture files: what a task says of them, and which task they belong to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from packnet_pl.data.pictures import PictureError, read_picture
from packnet_pl.data.processing import processing
from packnet_pl.models import TaskInfo
from packnet_pl.packed.network import PackedNetwork

__all__ = ["Prediction", "Unreadable", "normalised_entropy", "predict_pictures"]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one picture.

    Attributes:
        picture: Path of the file.
        task: Whose head answered.
        classes: Name (or number, if it has none) and probability in [0, 1] of the likeliest classes, likeliest first.
        entropy: Of all probabilities, over the logarithm of the number of classes: 0 is certain, 1 knows nothing.
        lead: How much higher the entropy of the next best task is, in [0, 1]; None if the task was given.
    """

    picture: str
    task: str
    classes: tuple[tuple[str, float], ...]
    entropy: float
    lead: float | None


@dataclass(frozen=True)
class Unreadable:
    """A file that is no picture.

    Attributes:
        picture: Path of the file.
        reason: Why, in one line.
    """

    picture: str
    reason: str


def predict_pictures(
    network: PackedNetwork, pictures: Sequence[str], tasks: Sequence[str], *, top: int, batch_size: int
) -> Iterator[Prediction | Unreadable]:
    """Yields an answer per picture, in order. Pictures are prepared as those of the test split were.

    Args:
        network: With the tasks.
        pictures: Paths of files.
        tasks: One task, or several, of which for each picture the one is taken whose answer has the lowest entropy.
        top: Classes to name, 1 or more.
        batch_size: Pictures that are answered together, 1 or more.

    Raises:
        ValueError: If there is no such task, or the file does not say what pictures a task takes.
    """
    transforms = {task: _transform(task, network.info(task)) for task in tasks}
    for begin in range(0, len(pictures), batch_size):
        yield from _batch(network, pictures[begin : begin + batch_size], transforms, top)


def normalised_entropy(logits: Tensor) -> Tensor:
    """Returns the entropy of each row's softmax over the logarithm of its length, in [0, 1].

    Args:
        logits: N x classes.
    """
    log = logits.double().log_softmax(dim=1)
    return -(log.exp() * log).sum(dim=1) / torch.tensor(logits.shape[1], dtype=torch.float64).log()


def _batch(
    network: PackedNetwork, paths: Sequence[str], transforms: Mapping[str, Any], top: int
) -> Iterator[Prediction | Unreadable]:
    reasons: dict[int, str] = {}
    logits: dict[str, Tensor] = {}
    for task, transform in transforms.items():
        ready = []
        for place, path in enumerate(paths):
            try:
                if place not in reasons:
                    ready.append(transform(path))
            except PictureError as error:
                reasons[place] = str(error)
        if ready:
            logits[task] = network(torch.stack(ready), task=task)
    if logits:
        entropies = torch.stack([normalised_entropy(answer) for answer in logits.values()])
    good = 0
    for place, path in enumerate(paths):
        if place in reasons:
            yield Unreadable(path, reasons[place])
            continue
        order = entropies[:, good].argsort(stable=True)
        entropy = entropies[order, good].tolist()
        task = list(logits)[int(order[0])]
        lead = entropy[1] - entropy[0] if len(entropy) > 1 else None
        yield Prediction(path, task, _top(network.info(task), logits[task][good], top), entropy[0], lead)
        good += 1


def _top(info: TaskInfo, logits: Tensor, top: int) -> tuple[tuple[str, float], ...]:
    found = logits.double().softmax(dim=0).topk(min(top, info.num_classes))
    names = [info.class_names[place] if info.class_names else str(place) for place in found.indices.tolist()]
    return tuple(zip(names, found.values.tolist(), strict=True))


def _transform(task: str, info: TaskInfo) -> Any:
    if not (info.input_shape and info.mean and info.std):
        raise ValueError(
            f"the file does not say what pictures task {task!r} takes: give add_task() input_shape, mean and std"
        )
    channels, height, width = info.input_shape
    if channels not in (1, 3):
        raise ValueError(f"task {task!r} takes {channels} channels; picture files have 1 or 3")
    if height != width:
        raise ValueError(f"task {task!r} takes pictures of {height} x {width}; picture files are cut to squares")
    how = processing(image_size=height, resize=info.resize, channels=channels, mean=info.mean, std=info.std)
    transform = how.transform()
    return lambda path: transform(read_picture(path, channels, at_least=how.shorter_side))
