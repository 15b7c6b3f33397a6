"""Copies a module before a fit, to restore it when the fit is refused."""

import torch
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.slots import can_be_frozen, restore_slot_
from packnet_pl.training.outside_slots import named_slots

__all__ = ["BeforeFit"]


class BeforeFit:
    """A copy of all values of a module, on the CPU: it takes no memory of a GPU.

    Args:
        module: Its layers may be replaced later: names are looked up.
        packnet: Of the module; a task that is opened after this is given up again.
    """

    def __init__(self, module: nn.Module, packnet: PackNet) -> None:
        self._module, self._packnet = module, packnet
        self._had_open_task = packnet.open_task is not None
        self._values = {
            name: slot.now.detach().to("cpu", copy=True)
            for name, slot in named_slots(module).items()
            if can_be_frozen(slot.whole)
        }

    @torch.no_grad()
    def restore_(self) -> None:
        """Restores all values bit for bit, and withdraws the task that was begun."""
        slots = named_slots(self._module)
        for name, value in self._values.items():
            if name in slots:
                restore_slot_(name, slots[name], value.to(slots[name].now.device))
        if not self._had_open_task:
            self._packnet.withdraw_task()
