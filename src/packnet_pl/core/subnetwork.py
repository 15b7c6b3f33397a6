"""Shows a module, for a while and in place, as it was for an earlier task."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from packnet_pl.core.hiding import hide_
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.masked_weights import switch_off_
from packnet_pl.core.narrow import shown_narrow
from packnet_pl.core.slots import Slot, restore_slot_
from packnet_pl.core.state import State

__all__ = ["shown", "shown_task"]


def shown_task(
    module: nn.Module, state: State, task: str, find: Callable[[], Inventory]
) -> AbstractContextManager[None]:
    """Shows a module as a finished task computes with it: in place, or narrower, if the module has grown since.

    Args:
        module: The shared one.
        state: Of its tasks.
        task: A finished one.
        find: Returns the tensors of the module as it is now.

    Raises:
        ValueError: If ``task`` is not finished.
    """
    number = state.finished_number(task)
    if task in state.shapes:
        return shown_narrow(module, find().all, state.owners, number, state.shapes[task], state.copies[task])
    return shown(lambda: find().all, state.owners, number, state.copies[task], state.unused(task))


@contextmanager
def shown(
    slots: Callable[[], Mapping[str, Slot]],
    owners: Mapping[str, Tensor],
    task: int,
    replaced: Mapping[str, Tensor],
    unused: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """Zeroes weights that a task does not compute with, and replaces some tensors by others; restores all at the end.

    All means every tensor: some layers write to their weights or buffers in eval mode too.

    Args:
        slots: Returns name -> slot of every tensor; asked again at the end, as layers may be replaced meanwhile.
        owners: Name -> owner map (uint8) of each weight that is divided among tasks, on the device of the weight.
        task: Number of the task, 1 to 255.
        replaced: Name -> values of the same shape.
        unused: Name of a weight -> which of its entries (bool) the task does not use although earlier tasks own them.
    """  # noqa: DOC501
    found = slots()
    with torch.inference_mode(False):
        saved = {name: slot.now.detach().clone() for name, slot in found.items()}
    try:
        with torch.no_grad():
            weights = {name: found[name].now for name in owners}
            hide_(weights, owners, task)
            switch_off_(weights, unused or {})
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
