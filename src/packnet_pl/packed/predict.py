"""Predicts for image files: the likeliest classes of a task, or the task that an image most likely belongs to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from packnet_pl.data.image_files import Box, ImageError
from packnet_pl.data.processing import Processing, processing
from packnet_pl.models import TaskInfo
from packnet_pl.packed.network import PackedNetwork
from packnet_pl.packed.task_choice import choose_tasks, normalised_entropy

__all__ = ["Prediction", "Unreadable", "image_reader", "predict_images"]

Reader = Callable[[str], Tensor]


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image.

    Attributes:
        image: Path of the file.
        task: Whose classes they are.
        classes: Name (or number, if it has none) and probability in [0, 1] of the likeliest classes, likeliest first.
        entropy: Of all probabilities, over the logarithm of the number of classes: 0 is certain, 1 knows nothing.
        lead: How much better the task fits than the next one, see :func:`choose_tasks`; None if the task was given.
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
        tasks: One task, or several, of which for each image the likeliest is taken: see :func:`choose_tasks`.
        top: Classes to name, 1 or more.
        batch_size: Images in a batch, 1 or more.
        box: What is cut out of each image first.

    Raises:
        ValueError: If there is no such task, or the file does not say what images a task takes.
    """
    readers: dict[object, Reader] = {}
    for info in map(network.info, tasks):
        readers.setdefault(_input_of(info), image_reader(info, box=box))
    for begin in range(0, len(images), batch_size):
        yield from _batch(network, images[begin : begin + batch_size], tasks, readers, top)


def image_reader(info: TaskInfo, *, box: Box | None = None) -> Reader:
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


def _batch(
    network: PackedNetwork, paths: Sequence[str], tasks: Sequence[str], readers: Mapping[object, Reader], top: int
) -> Iterator[Prediction | Unreadable]:
    reasons: dict[int, str] = {}
    read = []
    for index, path in enumerate(paths):
        try:
            read.append([reader(path) for reader in readers.values()])
        except ImageError as error:
            reasons[index] = str(error)
    images = dict(zip(readers, map(torch.stack, zip(*read, strict=True)), strict=True)) if read else {}
    of_tasks = {task: images[_input_of(network.info(task))] for task in tasks} if read else {}
    found = iter(_predictions(network, of_tasks) if read else [])
    for index, path in enumerate(paths):
        if index in reasons:
            yield Unreadable(path, reasons[index])
            continue
        task, logits, lead = next(found)
        entropy = float(normalised_entropy(logits[None]))
        yield Prediction(path, task, _top(network.info(task), logits, top), entropy, lead)


def _predictions(network: PackedNetwork, images: Mapping[str, Tensor]) -> list[tuple[str, Tensor, float | None]]:
    """Returns for each image its task, the logits, and the lead; ``images`` are the same, as each task takes them."""
    if len(images) == 1:
        ((task, given),) = images.items()
        return [(task, logits, None) for logits in network(given, task=task)]
    chosen = choose_tasks(network, images)
    logits: dict[int, Tensor] = {}
    for task in dict.fromkeys(task for task, _ in chosen):
        of_task = [index for index, (other, _) in enumerate(chosen) if other == task]
        logits |= zip(of_task, network(images[task][of_task], task=task), strict=True)
    return [(task, logits[index], lead) for index, (task, lead) in enumerate(chosen)]


def _input_of(info: TaskInfo) -> object:
    """Returns what decides which tensor a file becomes: tasks that agree on it share what is read."""
    return info.preparation, info.input_shape, info.mean, info.std


def _top(info: TaskInfo, logits: Tensor, top: int) -> tuple[tuple[str, float], ...]:
    found = logits.double().softmax(dim=0).topk(min(top, info.num_classes))
    names = [info.class_names[index] if info.class_names else str(index) for index in found.indices.tolist()]
    return tuple(zip(names, found.values.tolist(), strict=True))
