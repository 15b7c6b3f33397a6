"""Networks of timm: the smallest of every family first, then the second smallest, and so on."""

import copy
from collections import defaultdict
from functools import cache, partial
from itertools import zip_longest

import timm
import torch
from timm.models._registry import _model_to_module
from torch import nn

from network_sweep.network import Network, NotTriedError, on_images, random_images
from network_sweep.weightless import weightless

__all__ = ["build", "count", "families", "names", "published"]

LARGEST = 120_000_000  # parameters of a network that is trained here


@cache
def names() -> list[str]:
    """Returns the names of all networks, round by round: one of every family, by size."""
    families = defaultdict(list)
    for name in timm.list_models():
        families[_model_to_module[name]].append(name)
    rounds = zip_longest(*(sorted(each, key=_size) for each in families.values()))
    return [name for round_ in rounds for name in round_ if name]


def families() -> int:
    """Returns the number of families: so many of ``names`` are the smallest of theirs."""
    return len(set(_model_to_module.values()))


def count() -> int:
    """Returns the number of networks that there are."""
    return len(timm.list_models())


def build(name: str) -> Network:
    """Returns the network without its head, with images of the smallest size that it takes.

    Raises:
        NotTriedError: If it is too large to be trained here, or takes no images.
    """
    module = published(name)
    size = sum(each.numel() for each in module.parameters())
    if size > LARGEST:
        raise NotTriedError(f"{size:,} parameters")
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, num_classes=0)
    channels, *own = timm.get_pretrained_cfg_value(name, "input_size") or (3, 224, 224)
    reason = ""
    for sides in ([64, 64], [128, 128], own):
        shape = (2, channels, *sides)
        try:
            with torch.no_grad():
                copy.deepcopy(module).eval()(random_images(0, *shape))
                copy.deepcopy(module).train()(random_images(0, *shape))
        except Exception as error:  # too small
            reason = f"{sides}: {type(error).__name__}: {' '.join(str(error).split())[:100]}"
        else:
            return Network(module, partial(on_images, shape=shape), (f"{shape[-1]} pixels",))
    raise NotTriedError(reason)


def published(name: str) -> nn.Module:
    """Returns the network in its published size without its head, on the meta device."""
    return weightless(lambda: timm.create_model(name, pretrained=False, num_classes=0))


def _size(name: str) -> tuple[int, str]:
    """Returns a number that grows with the size of a network: its place among those of its family."""
    try:
        return sum(each.numel() for each in published(name).parameters()), name
    except Exception:  # whatever it is, build() says it
        return 1 << 62, name
