"""A copy of the shared module that shows one task at a time; the module itself stays as it is."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.bits import identity
from packnet_pl.core.compiled import check_weights_are_read
from packnet_pl.core.masked_weights import switch_off_
from packnet_pl.core.narrow import leading, narrow_copy, sliced
from packnet_pl.core.slots import Slot, plain_name, restore_slot_, slots_of
from packnet_pl.packed.task_writer import TaskWriter

__all__ = ["TaskCopy"]

_Entry = tuple[Mapping[str, Any], str]
_Shapes = Mapping[str, tuple[int, ...]]
_READS: tuple[Callable[[Tensor], object], ...] = (
    Tensor.data_ptr,
    attrgetter("_version"),
    attrgetter("requires_grad"),
    Tensor.numel,
)


class TaskCopy:
    """A copy of a shared module that has the weights of one finished task, and is written over for another one.

    Where the module has grown since the task was finished, the copy is as narrow as the module was then, and is made
    anew for tasks of another width.

    Nothing is written while the task stays, as long as nobody changes the module or the copy, or loads another state;
    what they change shows in the next prediction. What is converted or moved keeps its old memory until then, too.

    Args:
        packnet: Knows the shared module and its tasks.

    Attributes:
        task: The task that was shown last, or None.
    """

    def __init__(self, packnet: PackNet) -> None:
        self._packnet = packnet
        self.task: str | None = None
        self._copy: nn.Module | None = None
        self._children: list[Mapping[str, nn.Module | None]] = []
        self._sources: dict[str, Slot] = {}
        self._targets: dict[str, Slot] = {}
        self._source_entries: list[_Entry] = []
        self._target_entries: list[_Entry] = []
        self._kept: list[Tensor] = []
        self._owners: Mapping[str, Tensor] = {}
        self._own: Mapping[str, Tensor] = {}
        self._mask: Mapping[str, Tensor] = {}
        self._shapes: _Shapes | None = None
        self._owned = TaskWriter([])
        self._seen: list[object] = []
        self._written: list[object] = []

    @torch.no_grad()
    def show(self, task: str) -> nn.Module:
        """Returns the copy with the weights of ``task``: bit for bit what :meth:`PackNet.subnetwork` shows.

        Raises:
            RuntimeError: Inside :meth:`PackNet.subnetwork`, or if it was compiled with weights as constants.
            ValueError: If ``task`` is not finished.
        """
        freezer, state = self._packnet.freezer, self._packnet.state
        number = state.finished_number(task)
        with self._packnet.requires_grad.restored():
            own, mask = state.copies[task], state.masks.get(task, {})
            is_of = _are_same(state.owners, self._owners) and _are_same(own, self._own) and _are_same(mask, self._mask)
            shapes = state.shapes.get(task)
            if task != self.task or not is_of or not self._is_unchanged():
                freezer.restore_all_()
                is_unchanged = self._is_unchanged() and shapes == self._shapes
                written, self._written, self.task = self._written, [], None  # a failure half-way leaves no task
                if not is_unchanged:
                    self._renew(shapes)
                state = self._packnet.state  # with the owners where the weights are now
                self._write(number, state.owners, own)
                switch_off_({name: slot.now for name, slot in self._targets.items()}, state.unused(task))
                self._mask = dict(mask)
                is_counted = bool(own or mask)  # in the versions of what was written to
                self._written = written if is_unchanged and not is_counted else _versions(self._target_entries)
                self.task = task
        assert self._copy is not None
        return self._copy

    def __reduce__(self) -> tuple[type["TaskCopy"], tuple[object, ...]]:
        # Copied or saved, it begins anew: the weights that it shows can be written again, and would be kept thrice.
        return TaskCopy, (self._packnet,)

    def _is_unchanged(self) -> bool:
        return (
            bool(self._written)
            and self._versions_of_module() == self._seen
            and _versions(self._target_entries) == self._written
        )

    @torch.inference_mode(False)
    def _renew(self, shapes: _Shapes | None) -> None:
        """Copies the module anew, with whatever was converted, moved or replaced in it.

        Args:
            shapes: Name -> shape of each tensor of a task that is narrower than the module; None for all others.
        """
        check_weights_are_read(self._packnet.module)
        self._copy, self._targets, self._kept = None, {}, []  # their memory first
        self._owners, self._owned = {}, TaskWriter([])
        self._sources, self._shapes = self._packnet.inventory().all, shapes
        if shapes is None:
            self._copy = deepcopy(self._packnet.module)
        else:
            self._copy = narrow_copy(self._packnet.module, self._sources, sliced(self._sources, shapes))
        targets = {plain_name(name): slot for name, slot in slots_of(self._copy)}
        self._targets = {name: targets[name] for name in self._sources}
        # Converted there and back, module or copy would get this memory again, and with it the version of other values.
        self._kept = [slot.now.detach() for slot in [*self._sources.values(), *self._targets.values()]]
        self._source_entries, self._target_entries = _entries(self._sources), _entries(self._targets)
        self._children = [layer._modules for layer in self._packnet.module.modules()]
        self._seen = self._versions_of_module()

    def _write(self, number: int, owners: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
        """Writes a task's own copies and its visible weights; all else is as it was copied."""
        if not _are_same(owners, self._owners):
            self._owned = TaskWriter(
                (self._targets[name].now, self._as_wide(name, self._sources[name].now), self._as_wide(name, owner))
                for name, owner in owners.items()
            )
            self._owners = dict(owners)
        for name, value in own.items():
            restore_slot_(name, self._targets[name], value.to(self._sources[name].now))
        self._own = dict(own)
        self._owned.write_(number)
        torch.clear_autocast_cache()

    def _as_wide(self, name: str, tensor: Tensor) -> Tensor:
        """Returns the entries of ``tensor``, of the module, that the copy has."""
        return tensor if self._shapes is None else leading(tensor, self._shapes[name])

    def _versions_of_module(self) -> list[object]:
        # Layers too: one that replaced another has tensors that nobody has looked at yet.
        return [[layer for children in self._children for layer in children.values()], *_versions(self._source_entries)]


def _are_same(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return list(map(id, tensors.values())) == list(map(id, others.values()))


def _entries(slots: Mapping[str, Slot]) -> list[_Entry]:
    return [(slot.table, slot.key) for slot in slots.values()]


def _versions(entries: Iterable[_Entry]) -> list[object]:
    """Returns what changes when a tensor is moved, replaced, written to or viewed otherwise.

    After a switch nothing of this is in the processor's cache: what it takes is each object that it looks at.
    """
    try:  # numbers only: with a tuple for each tensor Python's collection of garbage took most of the time
        tensors = [table[key] for table, key in entries]
        return [*(list(map(read, tensors)) for read in _READS), list(map(hash, map(Tensor.stride, tensors)))]
    except (KeyError, TypeError):  # taken away, or None
        return [object()]
    except RuntimeError:  # sparse tensors have no address, those of inference mode no version
        versions = [-1 if tensor.is_inference() else tensor._version for tensor in tensors]
        return [[identity(tensor) for tensor in tensors], versions, [tensor.requires_grad for tensor in tensors]]
