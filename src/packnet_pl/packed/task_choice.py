"""Chooses the task that an image most likely belongs to: by statistics of features, or by the surest head."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from packnet_pl.models import TaskInfo

if TYPE_CHECKING:
    from packnet_pl.packed.network import PackedNetwork

__all__ = ["choose_tasks", "normalised_entropy", "renormalised"]

LEAST_SCORE = -2.0
"""Standard deviations below the mean of a task's own images from which on an image fits the task no more."""


def choose_tasks(network: "PackedNetwork", images: Mapping[str, Tensor]) -> list[tuple[str, float | None]]:
    """Returns for each image the likeliest task, and its lead over the next.

    Of tasks with statistics it is the one that the image fits best, by features of the network's first task: one
    network for all, whose densities can be compared. Only an image that fits none of them (below :data:`LEAST_SCORE`)
    is taken for one of a task without statistics, where there are such. Of these it is the one whose prediction has
    the lowest entropy.

    Args:
        network: With the tasks.
        images: Task -> N x C x H x W, the same images, each time prepared and normalised as the task says. Tasks that
            take the same tensor share a pass through the network.

    Returns:
        N tasks, each with its lead: how much higher its score is than the next one's, in standard deviations of
        the tasks' own images; or how much lower its entropy is, in [0, 1]. None if no other task is compared.
    """
    fitted = [task for task in images if task in network.statistics]
    unsure = [task for task in images if task not in network.statistics]
    by_entropy = fits = None
    if fitted:
        scores = _scores(network, {task: images[task] for task in fitted})
        fits = (scores.max(dim=0).values >= LEAST_SCORE) if unsure else torch.ones(scores.shape[1], dtype=torch.bool)
        by_score = _lowest(-scores, fitted)
    if unsure and (fits is None or not bool(fits.all())):
        entropies = torch.stack([normalised_entropy(network(images[task], task=task)) for task in unsure])
        by_entropy = _lowest(entropies, unsure)
    if fits is None or by_entropy is None:
        return by_score if by_entropy is None else by_entropy
    return [by_score[index] if fit else by_entropy[index] for index, fit in enumerate(fits.tolist())]


def normalised_entropy(logits: Tensor) -> Tensor:
    """Returns the entropy of each row's softmax over the logarithm of its length, in [0, 1].

    Args:
        logits: N x classes.
    """
    log = logits.double().log_softmax(dim=1)
    return -(log.exp() * log).sum(dim=1) / torch.tensor(logits.shape[1], dtype=torch.float64).log()


def renormalised(images: Tensor, was: TaskInfo, now: TaskInfo) -> Tensor:
    """Returns images that were normalised as one task says, normalised as another; as they are if one says nothing.

    Args:
        images: N x C x H x W.
        was: How they are normalised.
        now: How they are to be.
    """
    if (was.mean, was.std) == (now.mean, now.std) or not (was.mean and was.std and now.mean and now.std):
        return images
    old_mean, old_std, mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (was.mean, was.std, now.mean, now.std)
    )
    return images * (old_std / std).to(images) + ((old_mean - mean) / std).to(images)


def _scores(network: "PackedNetwork", images: Mapping[str, Tensor]) -> Tensor:
    """Returns tasks x N: the score of each image for each task."""
    first = network.tasks[0]
    passes: dict[object, Tensor] = {}
    scores = []
    for task, given in images.items():
        info = network.info(task)
        key = (id(given), info.mean, info.std)
        if key not in passes:
            passes[key] = network.features(renormalised(given, info, network.info(first)), task=first)
        scores.append(network.statistics[task].scores(passes[key].cpu()))
    return torch.stack(scores)


def _lowest(costs: Tensor, tasks: list[str]) -> list[tuple[str, float | None]]:
    """Returns for each column of tasks x N the task of the lowest cost, and how much higher the next one is."""
    ordered, order = costs.sort(dim=0, stable=True)  # NaN comes last
    leads = (ordered[1] - ordered[0]).tolist() if len(tasks) > 1 else [None] * costs.shape[1]
    return [(tasks[index], lead) for index, lead in zip(order[0].tolist(), leads, strict=True)]
