"""A copy of the shared module that shows one task at a time, while the module itself stays as it is."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from packnet_pl.core.freezing import put_back_
from packnet_pl.core.materialize import write_visible_
from packnet_pl.core.ownership import FREE
from packnet_pl.core.prunable import Inventory, Place, places_of, plain_name

__all__ = ["Finished", "LiveCopy"]


@dataclass(frozen=True)
class Finished:
    """What there is to know of a finished task.

    Attributes:
        number: Its owner number, from 1.
        is_last: Whether no other task, finished or open, comes after it.
        owners: Parameter name -> uint8 owner map.
        own: Name -> values of its own of what is kept per task.
    """

    number: int
    is_last: bool
    owners: Mapping[str, Tensor]
    own: Mapping[str, Tensor]


class LiveCopy:
    """A copy of a shared module that has the weights of one finished task, and is written over for another one.

    Nothing is written while the task stays, as long as nobody changes the module or the copy; what they change shows in
    the next answer. A module that is converted or moved keeps its old memory until then, too.

    Args:
        module: The shared module.
        inventory: Returns its tensors as they are now.
        finished: Returns what there is to know of a task; raises if it cannot be shown.
        as_trained: Returns a context in which all parameters need gradients as when tasks were finished: torch chooses
            kernels by it, and other kernels round otherwise.

    Attributes:
        task: The task that was asked for last, or None.
    """

    def __init__(
        self,
        module: nn.Module,
        inventory: Callable[[], Inventory],
        finished: Callable[[str], Finished],
        as_trained: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._module, self._inventory, self._finished, self._as_trained = module, inventory, finished, as_trained
        self.task: str | None = None
        self._number = 0
        self._copy: nn.Module | None = None
        self._layers: list[nn.Module] = []
        self._pairs: dict[str, tuple[Place, Place]] = {}
        self._kept: list[Tensor] = []
        self._free_is_zero = False
        self._seen: list[object] = []
        self._written: list[object] = []

    @torch.no_grad()
    def show(self, task: str) -> nn.Module:
        """Returns the copy with the weights of ``task``: bit for bit what :meth:`PackNet.subnetwork` shows.

        Raises:
            RuntimeError: Inside :meth:`PackNet.subnetwork`.
            ValueError: If ``task`` is not finished.
        """
        with self._as_trained():
            is_seen = self._copy is not None and self._marks_of_module() == self._seen
            is_known = is_seen and _marks(target for _, target in self._pairs.values()) == self._written
            if not is_known or task != self.task:
                found = self._finished(task)
                # The weights of an open task may have been restored meanwhile.
                if not is_seen or self._marks_of_module() != self._seen:
                    self._renew(found.owners)
                    is_known = False
                shown = self._number if is_known else 0
                self.task, self._number = None, 0  # a failure half-way leaves no task
                self._write(found, shown)
                self.task, self._number = task, found.number
                self._written = _marks(target for _, target in self._pairs.values())
        assert self._copy is not None
        return self._copy

    @torch.inference_mode(False)
    def _renew(self, owners: Mapping[str, Tensor]) -> None:
        """Copies anew: what was converted, moved or replaced is so in the copy too."""
        self._copy, self._pairs, self._kept = None, {}, []  # their memory first
        self._copy = deepcopy(self._module)
        places = self._inventory().held
        targets = {plain_name(name): place for name, place in places_of(self._copy)}
        self._pairs = {name: (place, targets[name]) for name, place in places.items()}
        # Converted there and back, the module would get this memory again, and with it the marks of other values.
        self._kept = [place.now.detach() for place in places.values()]
        self._free_is_zero = not any(
            bool(((places[name].now != 0) & (owner == FREE)).any()) for name, owner in owners.items()
        )
        self._layers = list(self._module.modules())
        self._seen = self._marks_of_module()

    def _write(self, found: Finished, shown: int) -> None:
        """Writes what ``found`` has into the copy.

        Args:
            found: The task.
            shown: Number of the task whose weights the copy has, bit for bit; 0 if that is not known.
        """
        has_all = shown > found.number  # an earlier task's weights are some of those
        needs_all = self._free_is_zero and found.is_last
        masked = []
        for name in [*found.owners, *found.own] if shown else self._pairs:
            source, target = (place.now for place in self._pairs[name])
            if name in found.owners and not needs_all:
                masked.append((target, target if has_all else source, found.owners[name]))
            else:
                value = found.own[name].to(source) if name in found.own else source.detach()
                put_back_(name, self._pairs[name][1], value)
            target.requires_grad_(source.requires_grad)
        write_visible_(masked, found.number, free_is_zero=self._free_is_zero)
        torch.clear_autocast_cache()

    def _marks_of_module(self) -> list[object]:
        # Layers too: one that was put in the place of another has tensors that nobody has looked at yet.
        layers = [layer for parent in self._layers for layer in parent._modules.values()]
        return [layers, *_marks(source for source, _ in self._pairs.values())]


def _marks(places: Iterable[Place]) -> list[object]:
    """Returns what changes when a tensor is moved, replaced, written to or seen otherwise.

    Numbers only: with a tuple for each tensor Python's collection of garbage took most of the time.
    """
    tensors = [place.now for place in places]
    return [
        [tensor.data_ptr() if tensor.layout == torch.strided else id(tensor) for tensor in tensors],
        [-1 if tensor.is_inference() else tensor._version for tensor in tensors],
        [tensor.requires_grad for tensor in tensors],
        [tensor.dtype for tensor in tensors],
        [hash((tensor.shape, tensor.stride())) for tensor in tensors if tensor.layout == torch.strided],
    ]
