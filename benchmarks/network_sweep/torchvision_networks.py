"""All networks of torchvision: classification, segmentation, detection, video, optical flow, and quantizable ones."""

from functools import cache, partial
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import detection, get_model, list_models, optical_flow, quantization, segmentation, video

from network_sweep.network import Network, NotTriedError, on_images, random_images
from network_sweep.weightless import weightless

__all__ = ["build", "count", "names", "published"]

LARGEST = 150_000_000  # parameters of a network that is trained here
_KINDS = {"detection": detection, "segmentation": segmentation, "video": video, "optical flow": optical_flow}


@cache
def names() -> list[str]:
    """Returns the names of all networks, those of each kind by size."""
    kinds = [torchvision.models, *_KINDS.values()]
    found = [name for kind in kinds for name in sorted(list_models(module=kind), key=_size)]
    return [*found, *list_models(module=quantization)]


def count() -> int:
    """Returns the number of networks that there are."""
    return sum(len(list_models(module=kind)) for kind in (torchvision.models, *_KINDS.values(), quantization))


def build(name: str) -> Network:
    """Returns the network with inputs of the smallest size that it takes.

    Raises:
        NotTriedError: If it is too large to be trained here.
    """
    size = _size(name)
    if size > LARGEST:
        raise NotTriedError(f"{size:,} parameters")
    torch.manual_seed(0)
    module = _made(name)
    if name in list_models(module=detection):
        return Network(module, _detect)
    if name in list_models(module=optical_flow):
        return Network(module, _flow)
    shapes: list[tuple[int, ...]] = [(2, 3, side, side) for side in (64, 128, 224, 299)]
    if name in list_models(module=video):
        shapes = [(2, 3, 16, side, side) for side in (64, 112, 224)]
    reason = ""
    for shape in shapes:
        try:
            with torch.no_grad():
                module.eval()(random_images(0, *shape))
                module.train()(random_images(0, *shape))
        except Exception as error:  # too small
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        else:
            return Network(module, partial(on_images, shape=shape), (f"{shape[-1]} pixels",))
    raise NotTriedError(reason)


def published(name: str) -> nn.Module:
    """Returns the network on the meta device; its heads belong to it."""
    return weightless(lambda: _made(name))


def _made(name: str) -> nn.Module:
    options: dict[str, Any] = {"weights": None}
    if name in list_models(module=detection) or name in list_models(module=segmentation):
        options["weights_backbone"] = None
    if "inception" in name or "googlenet" in name:
        options["init_weights"] = False  # minutes of scipy otherwise
    module: nn.Module = get_model(name, **options)
    return module


def _size(name: str) -> int:
    return sum(each.numel() for each in published(name).parameters())


def _flow(module: nn.Module, seed: int) -> Any:
    """Calls a network for optical flow on two images, with three rounds of refinement."""
    return module(random_images(seed, 2, 3, 128, 128), random_images(seed + 1, 2, 3, 128, 128), 3)


def _detect(module: nn.Module, seed: int) -> Any:
    """Calls a detector: with boxes to learn from when it trains."""
    images = list(random_images(seed, 2, 3, 96, 96).sigmoid())
    if not module.training:
        return module(images)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0]])
    target = {
        "boxes": boxes,
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, 96, 96, dtype=torch.uint8),
        "keypoints": torch.tensor([[[30.0, 30.0, 1.0]] * 17]),
    }
    return module(images, [target, target])
