"""Passes one blank image of each task through the network, before its data are read where the configuration says it."""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.errors import UsageError
from packnet_pl.models import as_input
from packnet_pl.models.image_sizes import nearest_sizes
from packnet_pl.packed import Packed
from packnet_pl.text import as_line

__all__ = ["check_images", "configured_shape"]

_IMAGES = ("packnet_pl.data.image_folder", "packnet_pl.data.published_images")


def configured_shape(config: DictConfig, task: str) -> tuple[int, int, int] | None:
    """Returns channels, height and width of a task's images; None if only its data set knows them.

    Args:
        config: Checked.
        task: Its name.
    """
    data = config.sequence.tasks[task].data
    if data.get("_target_") not in _IMAGES:
        return None
    size = data.get("image_size") or 224
    return data.get("channels") or 3, size, size


def check_images(
    backbone: nn.Module, num_features: int, task: str, shape: tuple[int, int, int], source: Packed | None
) -> None:
    """Passes one blank image through the backbone, which is that of the packed file ``source`` if there is one.

    Args:
        backbone: The network.
        num_features: What it is to put out.
        task: Whose images they are.
        shape: Channels, height and width.
        source: Where the network is from.

    Raises:
        UsageError: If it does not take images of this shape.
    """
    try:
        with torch.no_grad(), in_eval_mode(backbone.modules()):
            features = backbone(as_input(torch.zeros(1, *shape), backbone))
    except (RuntimeError, ValueError, AssertionError) as error:
        given, reason = " x ".join(map(str, shape)), as_line(error) or type(error).__name__
        if source is not None:
            known = " x ".join(map(str, source.header["tasks"][-1]["input_shape"])) or "unknown"
            raise UsageError(
                f"the network in {source.path} does not take the images of task {task!r} ({given}; those of its own "
                f"tasks are {known}): give matching sequence.tasks.{task}.data.image_size and channels, if the data "
                f"have them ({reason})"
            ) from error
        raise UsageError(
            f"arch does not take the images of task {task!r} ({given}): {_advice(backbone, shape)} ({reason})"
        ) from error
    if features.shape != (1, num_features):
        raise UsageError(
            f"arch gives features of shape {tuple(features.shape)} for one image of task {task!r}; "
            f"expected (1, {num_features})"
        )


def _advice(backbone: nn.Module, shape: tuple[int, int, int]) -> str:
    builder: Any = getattr(backbone, "builder", None)
    channels, height, width = shape
    if isinstance(builder, Mapping) and builder["arguments"].get("in_channels") == channels and height == width:
        sizes = nearest_sizes(builder, height)
        if sizes:
            name = builder["arguments"].get("name", builder["name"])
            nearest = f"sizes that {name} takes are {' and '.join(map(str, sizes))}"
            if len(sizes) == 1:
                nearest = f"size that {name} takes is {sizes[0]}"
            return f"the nearest {nearest}: give arch.image_size={sizes[-1]}"
    return "give matching arch.in_channels and arch.image_size"
