"""Predicts for image files: the likeliest classes of a task, or the task that an image most likely belongs to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from packnet_pl.data.image_files import Box, ImageError
from packnet_pl.data.processing import Processing, processing
from packnet_pl.models import TaskInfo
from packnet_pl.packed.network import PackedNetwork

__all__ = ["Prediction", "Unreadable", "image_reader", "normalised_entropy", "predict_images"]


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image.

    Attributes:
        image: Path of the file.
        task: Whose classes they are.
        classes: Name (or number, if it has none) and probability in [0, 1] of the likeliest classes, likeliest first.
        entropy: Of all probabilities, over the logarithm of the number of classes: 0 is certain, 1 knows nothing.
        lead: How much higher the entropy of the next best task is, in [0, 1]; None if the task was given.
    """

    image: str
    task: str
    classes: tuple[tuple[str, float], ...]
    entropy: float
    lead: float | None


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read as an image.

    Attributes:
        image: Path of the file.
        reason: Why, in one line.
    """

    image: str
    reason: str


def predict_images(
    network: PackedNetwork,
    images: Sequence[str],
    tasks: Sequence[str],
    *,
    top: int,
    batch_size: int,
    box: Box | None = None,
) -> Iterator[Prediction | Unreadable]:
    """Yields a prediction per image, in order. Images are prepared as those of the test split were.

    Args:
        network: With the tasks.
        images: Paths of files.
        tasks: One task, or several, of which for each image the one is taken whose prediction has the lowest entropy.
        top: Classes to name, 1 or more.
        batch_size: Images in a batch, 1 or more.
        box: What is cut out of each image first.

    Raises:
        ValueError: If there is no such task, or the file does not say what images a task takes.
    """
    readers = {task: image_reader(network.info(task), box=box) for task in tasks}
    for begin in range(0, len(images), batch_size):
        yield from _batch(network, images[begin : begin + batch_size], readers, top)


def image_reader(info: TaskInfo, *, box: Box | None = None) -> Callable[[str], Tensor]:
    """Returns a function from a path to the tensor (float, C x H x W) that the task's test split makes of the file.

    Where ``info.preparation`` is None, the shorter side is resized to 256 / 224 of the input size, and the middle is
    cut out.

    Args:
        info: Of the task, from ``network.info(task)``.
        box: What is cut out of the image first. Without one, images of tasks whose data set has boxes
            (``info.preparation.boxes``) are taken whole.

    Raises:
        ValueError: If ``info`` does not say what the task takes. What is returned raises ImageError.
    """
    if not (info.input_shape and info.mean and info.std):
        raise ValueError(
            "the file does not say what images the task takes: give add_task() input_shape, mean, std and preparation"
        )
    if info.preparation is not None:
        how = Processing(info.preparation, info.mean, info.std)
    else:
        channels, height, width = info.input_shape
        if height != width:
            raise ValueError(
                f"the task takes images of {height} x {width} pixels, and the file does not say how they are prepared: "
                "give add_task() preparation"
            )
        how = processing(image_size=height, channels=channels, mean=info.mean, std=info.std)
    return lambda path: how.item(path, box)


def normalised_entropy(logits: Tensor) -> Tensor:
    """Returns the entropy of each row's softmax over the logarithm of its length, in [0, 1].

    Args:
        logits: N x classes.
    """
    log = logits.double().log_softmax(dim=1)
    return -(log.exp() * log).sum(dim=1) / torch.tensor(logits.shape[1], dtype=torch.float64).log()


def _batch(
    network: PackedNetwork, paths: Sequence[str], readers: Mapping[str, Callable[[str], Tensor]], top: int
) -> Iterator[Prediction | Unreadable]:
    reasons: dict[int, str] = {}
    logits: dict[str, Tensor] = {}
    for task, read in readers.items():
        ready = []
        for index, path in enumerate(paths):
            try:
                if index not in reasons:
                    ready.append(read(path))
            except ImageError as error:
                reasons[index] = str(error)
        if ready:
            logits[task] = network(torch.stack(ready), task=task)
    if logits:
        entropies = torch.stack([normalised_entropy(of_task) for of_task in logits.values()])
    good = 0
    for index, path in enumerate(paths):
        if index in reasons:
            yield Unreadable(path, reasons[index])
            continue
        order = entropies[:, good].argsort(stable=True)
        entropy = entropies[order, good].tolist()
        task = list(logits)[int(order[0])]
        lead = entropy[1] - entropy[0] if len(entropy) > 1 else None
        yield Prediction(path, task, _top(network.info(task), logits[task][good], top), entropy[0], lead)
        good += 1


def _top(info: TaskInfo, logits: Tensor, top: int) -> tuple[tuple[str, float], ...]:
    found = logits.double().softmax(dim=0).topk(min(top, info.num_classes))
    names = [info.class_names[index] if info.class_names else str(index) for index in found.indices.tolist()]
    return tuple(zip(names, found.values.tolist(), strict=True))
