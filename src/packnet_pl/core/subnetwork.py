"""Showing a module, for a while and in place, as an earlier task knew it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from packnet_pl.core.freezing import put_back_
from packnet_pl.core.inventory import Place

__all__ = ["shown"]


@contextmanager
def shown(
    places: Callable[[], Mapping[str, Place]], hidden: Mapping[str, Tensor], replaced: Mapping[str, Tensor]
) -> Iterator[None]:
    """Makes hidden entries zero and puts other values in place of some tensors; gives all back at the end.

    All means every tensor: some layers write to their weights or buffers in eval mode too.

    Args:
        places: Returns name -> place of every tensor; asked again at the end, as layers may be replaced meanwhile.
        hidden: Name -> bool of the same shape: the entries to make zero.
        replaced: Name -> values of the same shape.
    """
    found = places()
    with torch.inference_mode(False):
        saved = {name: place.now.detach().clone() for name, place in found.items()}
    try:
        with torch.no_grad():
            for name, mask in hidden.items():
                if bool(mask.any()):
                    found[name].now.detach().masked_fill_(mask, 0)
            for name, value in replaced.items():
                found[name].now.detach().copy_(value)
        # Autocast keeps low-precision copies of weights, which would outlive the change.
        torch.clear_autocast_cache()
        yield
    finally:
        try:
            _give_back(places, found, saved)
        except KeyboardInterrupt:
            _give_back(places, found, saved)
            raise


@torch.inference_mode(False)
@torch.no_grad()
def _give_back(
    places: Callable[[], Mapping[str, Place]], found: Mapping[str, Place], saved: Mapping[str, Tensor]
) -> None:
    """What can be given back is given back before anything that cannot be is told."""
    trouble: RuntimeError | None = None
    now = dict(found)
    try:
        now |= places()
    except RuntimeError as error:
        trouble = error
    for name, value in saved.items():
        try:
            put_back_(name, now[name], value)
        except RuntimeError as error:
            trouble = trouble or error
    torch.clear_autocast_cache()
    if trouble is not None:
        raise trouble
