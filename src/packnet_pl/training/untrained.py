"""Warns of private modules of the open task that did not learn: most often the loss is another head's."""

from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.bits import same_bits
from packnet_pl.core.gradients import has_gradient
from packnet_pl.core.shards import own_part
from packnet_pl.core.slots import can_be_frozen, find_module

__all__ = ["Untrained"]


class Untrained:
    """Tracks which private modules got a gradient in a fit, and their parameters before it.

    Of sharded ones it looks at this process's rows, and the first process, which warns, has some of each.

    Args:
        packnet: With an open task.
        root: Has the modules.
    """

    def __init__(self, packnet: PackNet, root: nn.Module) -> None:
        self._task, self._looked = packnet.open_task, False
        found = {name: find_module(root, name) for name in packnet.private.get(self._task or "", [])}
        self._modules = {name: module for name, module in found.items() if module is not None}
        self._waiting = dict(self._modules)
        self._before = {name: _values(module) for name, module in self._modules.items()}

    def look(self) -> None:
        """Drops the modules of which a parameter has a gradient now."""
        self._looked = True
        self._waiting = {
            name: module
            for name, module in self._waiting.items()
            if not any(has_gradient(parameter) for parameter in module.parameters())
        }

    def warn(self) -> None:
        """Warns of the modules that have learned nothing, if there was any gradient to look for."""
        for name, module in self._modules.items() if self._looked else ():
            # An optimizer that steps in the backward pass leaves no gradient to be seen: the values show it.
            if not self._before[name] or not _are_alike(self._before[name], _values(module)):
                continue
            waits = name in self._waiting
            what = "never got a gradient in this fit" if waits else "was moved by no optimizer in this fit"
            why = "the module compute with the head of another task" if waits else "configure_optimizers() leave it out"
            rank_zero_warn(f"{name} is private to task {self._task!r} and {what}, so it learned nothing: does {why}?")


def _values(module: nn.Module) -> list[Tensor]:
    parameters = [p for p in module.parameters() if p.requires_grad and can_be_frozen(p)]
    return [own_part(parameter).detach().clone() for parameter in parameters]


def _are_alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(same_bits(a, b) for a, b in zip(one, other, strict=True))
