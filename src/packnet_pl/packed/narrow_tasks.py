"""Tasks that are narrower than the network of a packed file: whether their shapes go together, and what layers say."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.core.narrow import leading, narrow_copy
from packnet_pl.text import brief

__all__ = ["check_narrow", "name_widths_"]

_USUAL_SIDE = 32


@torch.no_grad()
def check_narrow(packnet: PackNet, header: Mapping[str, Any], features: Mapping[str, int]) -> None:
    """Checks that each narrower task can be computed: one image passes through, on the meta device, without values.

    Args:
        packnet: With a shared module that a builder made.
        header: Of the file: its backbone, and its tasks.
        features: Task -> number of features that its head takes.

    Raises:
        ValueError: If layers do not fit on each other, or the features not in the head.
    """
    arguments, shapes_of = header["backbone"]["arguments"], packnet.state.shapes
    slots, seen = packnet.inventory().all, list[Any]()
    for entry in header["tasks"]:
        task = entry["name"]
        if task not in shapes_of or (shapes_of[task], features[task], entry["input_shape"]) in seen:
            continue
        seen.append((shapes_of[task], features[task], entry["input_shape"]))
        shapes = shapes_of[task]
        narrow = narrow_copy(
            packnet.module, slots, {name: leading(s.now.detach().to("meta"), shapes[name]) for name, s in slots.items()}
        )
        side = arguments.get("image_size") or _USUAL_SIDE
        shape = entry["input_shape"] or (arguments.get("in_channels", 3), side, side)
        first = next(parameter for parameter in narrow.parameters() if parameter.is_floating_point())
        try:
            with in_eval_mode(narrow.modules()):
                found = tuple(narrow(torch.empty(1, *shape, dtype=first.dtype, device="meta")).shape)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ValueError(f"shapes of task {brief(task)} do not fit on each other: {error}") from error
        if found != (1, features[task]):
            raise ValueError(
                f"the head of task {brief(task)} takes {features[task]} features, and its backbone gives {list(found)}"
            )


def name_widths_(backbone: nn.Module, num_features: int) -> None:
    """Writes the widths of a narrower copy to the attributes of its layers, which were the module's."""
    for layer in backbone.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            kind = "channels" if isinstance(layer, nn.Conv2d) else "features"
            setattr(layer, f"out_{kind}", layer.weight.shape[0])
            setattr(layer, f"in_{kind}", layer.weight.shape[1])
        elif isinstance(layer, nn.BatchNorm2d):
            layer.num_features = layer.weight.shape[0]
    whole: Any = backbone
    if hasattr(whole, "num_features"):
        whole.num_features = num_features
