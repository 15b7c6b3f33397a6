"""Shows a module, for a while and in place, as it was for an earlier task."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from packnet_pl.core.slots import Slot, restore_slot_

__all__ = ["shown"]


@contextmanager
def shown(
    slots: Callable[[], Mapping[str, Slot]], hidden: Mapping[str, Tensor], replaced: Mapping[str, Tensor]
) -> Iterator[None]:
    """Zeroes hidden entries and replaces some tensors by others; restores all at the end.

    All means every tensor: some layers write to their weights or buffers in eval mode too.

    Args:
        slots: Returns name -> slot of every tensor; asked again at the end, as layers may be replaced meanwhile.
        hidden: Name -> bool of the same shape: the entries to make zero.
        replaced: Name -> values of the same shape.
    """  # noqa: DOC501
    found = slots()
    with torch.inference_mode(False):
        saved = {name: slot.now.detach().clone() for name, slot in found.items()}
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
            _restore(slots, found, saved)
        except KeyboardInterrupt:
            _restore(slots, found, saved)
            raise


@torch.inference_mode(False)
@torch.no_grad()
def _restore(slots: Callable[[], Mapping[str, Slot]], found: Mapping[str, Slot], saved: Mapping[str, Tensor]) -> None:
    """Restores what can be restored before it raises for what cannot be."""
    trouble: RuntimeError | None = None
    now = dict(found)
    try:
        now |= slots()
    except RuntimeError as error:
        trouble = error
    for name, value in saved.items():
        try:
            restore_slot_(name, now[name], value)
        except RuntimeError as error:
            trouble = trouble or error
    torch.clear_autocast_cache()
    if trouble is not None:
        raise trouble
