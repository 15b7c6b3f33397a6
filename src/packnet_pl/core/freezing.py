"""Freezing: gradients are masked before an optimizer's step, and values restored after it.

Masking gradients alone is not enough: momentum left over from earlier steps and weight decay move a weight whose
gradient is zero, some optimizers do not look at gradients at all, and layers update buffers in the forward pass.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from packnet_pl.core.bits import same_bits
from packnet_pl.core.frozen_entries import FrozenEntries
from packnet_pl.core.loops import are_many
from packnet_pl.core.module_modes import EvalMode
from packnet_pl.core.pending import Pending
from packnet_pl.core.shards import is_shard, own_part
from packnet_pl.core.slots import Slot, has_other_values, is_alike, restore_slot_, wholes_in
from packnet_pl.core.step_proof import StepProof
from packnet_pl.core.versions import Versions

__all__ = ["LARGE", "Freezer"]

LARGE = 1 << 12
"""Entries of a weight from which on it is looked at whether a step moved anything: less is restored sooner."""


class Freezer:
    """Freezes tensors at the bits that they have when it is made, whole or entry by entry.

    Args:
        find: Returns name -> slot of all that is to be frozen, as the module has it now. A function or method that can
            be copied with the module.
        owners: Name -> owner map, the shape of the tensor; never changed in place. Tensors without one are frozen
            whole.
        number: The task that may change its own entries. Other tasks' are frozen at their bits, free ones at zero.
        eval_mode: Layers that are kept in eval mode, in which they write to no buffer.
        on_written: Called with name -> slot of the buffers that were restored because a layer had changed them.
        leaves_converted: Whether what was converted or reshaped since is left as it is, and not refused.
        known: A freezer of the same task that has just restored everything: the values of large weights are taken from
            it, and not copied.

    Attributes:
        is_sharded: Whether processes have parts of what is frozen.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        find: Callable[[], Mapping[str, Slot]],
        owners: Mapping[str, Tensor] | None = None,
        number: int = 0,
        *,
        eval_mode: EvalMode | None = None,
        on_written: Callable[[Mapping[str, Slot]], None] | None = None,
        leaves_converted: bool = False,
        known: "Freezer | None" = None,
    ) -> None:
        self._find, self._eval_mode, self._on_written = find, eval_mode, on_written
        self._leaves_converted = leaves_converted
        self._values: dict[str, Tensor] = {}  # of what is frozen whole
        self._entries: dict[str, FrozenEntries] = {}
        owners, slots = owners or {}, dict[str, Slot]()
        compiles, entries_before = are_many(owners.values()), known._entries if known else {}
        for name, slot in find().items():
            if name not in owners:
                self._values[name] = slot.now.detach().clone()
            else:
                before = entries_before.get(name)
                entries = FrozenEntries(slot.now, owners[name], number, compiles=compiles, known=before)
                if entries.is_empty:
                    continue
                self._entries[name] = entries
            slots[name] = slot
        self._bind(slots)
        self._versions = Versions(wholes_in(slots))
        self._large = {
            name
            for name, entries in self._entries.items()
            if entries.compact is not None and owners[name].numel() >= LARGE
        }
        self.is_sharded = any(is_shard(slot.held) for slot in slots.values())
        self._proof = StepProof()
        self._last = Pending()
        self._compared = False

    def mask_gradients_(self) -> None:
        """Sets the gradients of everything frozen to exactly zero. Call it before ``optimizer.step()``."""
        if self._slots:
            self._mask_gradients()

    @torch.no_grad()
    def _mask_gradients(self) -> None:
        whole, pending = [], Pending()
        for name, slot in self._slots.items():
            tensor = slot.held
            grad = None if tensor is None else tensor.grad
            if tensor is None or grad is None:
                continue
            grad = own_part(grad)
            entries = self._entries.get(name)
            if entries is not None:
                masked = entries.masked(grad, pending)
                if masked is not grad:
                    tensor.grad = masked
            elif grad.layout == torch.strided:
                whole.append(grad)
            else:
                grad.zero_()
        pending.do_()
        if whole:
            torch._foreach_zero_(whole)
        # At the end: gradients that fully_shard reduces together have one version.
        for name in self._large & self._slots.keys():
            tensor = self._slots[name].held
            if tensor is not None and tensor.grad is not None:
                self._proof.masked(tensor)

    def restore_(self, of: Iterable[Tensor] | None = None) -> None:
        """Restores the bits of everything frozen. Call it after ``optimizer.step()``.

        Of large weights, those are left alone that the step is proved not to have moved.

        Args:
            of: The tensors that were stepped. All others are only written to if they were written to since the last
                time: a graph that was built on them stays valid, and nothing is done twice. None: all that is frozen.

        Raises:
            RuntimeError: If a parameter was converted or replaced by one of another shape, or a buffer that a state
                dict has changed its shape.
        """
        if self._slots:
            self._restore_after_step(None if of is None else {id(tensor) for tensor in of})

    def restore_buffers_(self) -> None:
        """Restores buffers that layers may write to in a forward pass; not every kernel raises their version.

        Whether they changed is looked at only the first time, as that makes a GPU wait.
        """
        if self._buffers:
            self._restore_buffers()

    @torch.inference_mode(False)
    @torch.no_grad()
    def restore_all_(self) -> None:
        """Finds all tensors anew, as layers may have been replaced, and restores those that changed.

        Raises:
            RuntimeError: As :meth:`restore_`.
        """
        self._rebind()
        self._proof.forget_steps()
        changed = {name: slot for name, slot in self._slots.items() if self._is_changed_buffer(name)}
        self._restore([name for name, slot in self._slots.items() if self._may_differ(name, slot.found)])
        self._report(changed)

    @torch.inference_mode(False)
    def changed(self, *, sure: bool = False) -> list[str]:
        """Returns the names of whole tensors that hold other values than were frozen.

        Args:
            sure: Whether to find all anew and look at their values, and not only of those that say that they were
                written to.
        """
        return [name for name in self.suspects(sure=sure) if self.is_changed(name)]

    def suspects(self, *, sure: bool = False) -> list[str]:
        """Returns the names of whole tensors that :meth:`changed` looks at; arguments are those."""
        if sure:
            self._rebind()
        return [
            name
            for name, slot in self._slots.items()
            if name not in self._entries and (sure or self._versions.was_written(name, slot.held))
        ]

    @torch.inference_mode(False)
    def is_changed(self, name: str) -> bool:
        """Returns whether a whole tensor, in this process's part, holds other values than were frozen."""
        return has_other_values(self._slots[name], self._values[name])

    @torch.inference_mode(False)
    @torch.no_grad()
    def _restore_after_step(self, stepped: set[int] | None) -> None:
        changed, unmoved = {}, self._unmoved()
        left, due = dict[str, Tensor | None](), list[str]()
        for name, slot in self._slots.items():
            tensor = slot.held
            if name in unmoved:
                left[name] = tensor
            elif stepped is None or id(tensor) in stepped or self._versions.was_written(name, tensor):
                due.append(name)
                if not slot.is_parameter and self._versions.was_written(name, tensor) and self._is_changed_buffer(name):
                    changed[name] = slot
        self._versions.note(left.items())
        self._restore(due, remembers=True)
        self._report(changed)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _restore_buffers(self) -> None:
        quiet = {id(layer) for layer in self._eval_mode.layers} if self._eval_mode is not None else set()
        slots = {name: slot for name, slot in self._buffers.items() if id(slot.layer) not in quiet}
        changed = {} if self._compared else {n: slot for n, slot in slots.items() if self._is_changed_buffer(n)}
        self._compared = True
        self._restore(slots)
        self._report(changed)

    def _rebind(self) -> None:
        # A layer that took a buffer away is to get it back: find() does not see its empty slot.
        empty = {name: slot for name, slot in self._slots.items() if slot.found is None}
        found = {**empty, **self._find()}
        self._bind({name: found[name] for name in self._slots if name in found})

    def _bind(self, slots: dict[str, Slot]) -> None:
        self._slots = slots
        self._buffers = {name: slot for name, slot in slots.items() if not slot.is_parameter}

    def _restore(self, names: Iterable[str], *, remembers: bool = False) -> None:
        slots = {name: self._slots[name] for name in names}
        held = {name: slot.held for name, slot in slots.items()}
        due = {name: None if tensor is None else own_part(tensor) for name, tensor in held.items()}
        if self._last.is_for(due):
            self._last.do_()
            self._versions.note(held.items())
            return
        pending = Pending()
        for name, tensor in due.items():
            slot, entries = slots[name], self._entries.get(name)
            if entries is not None:
                entries.restore_(name, slot.now, pending)
            elif tensor is not None and self._is_copied(name, held[name], tensor):
                pending.copy(tensor, self._values[name])
            else:
                self._restore_whole(name, slot)
        pending.do_()
        self._versions.note((name, slot.held) for name, slot in slots.items())
        if remembers:
            self._last = pending if pending.remembers(due) else Pending()

    def _may_differ(self, name: str, tensor: Tensor | None) -> bool:
        return name in self._entries or tensor is None or not same_bits(tensor, self._values[name])

    def _is_copied(self, name: str, held: Tensor | None, tensor: Tensor) -> bool:
        """Returns whether it is the tensor that was restored last, and nothing about it but its values has changed.

        Args:
            name: Of the tensor.
            held: What its slot has.
            tensor: This process's part of it.
        """
        (before, version), value = self._versions[name], self._values[name]
        if held is not before or version is None or not is_alike(tensor, value):
            return False
        return tensor.layout == value.layout == torch.strided and tensor.is_contiguous()

    def _restore_whole(self, name: str, slot: Slot) -> None:
        self._last = Pending()  # the slot may get another tensor
        tensor, value = slot.found, self._values[name]
        if self._leaves_converted and not is_alike(tensor, value):
            return
        is_replaced = slot.held is not self._versions[name][0] and is_alike(tensor, value)
        if tensor is not None and is_replaced and not slot.is_parameter:
            # Not in place: a graph that is still to be used may have saved the layer's new buffer.
            slot.layer._buffers[slot.key] = value.to(tensor.device, copy=True)
        else:
            restore_slot_(name, slot, value)

    def _unmoved(self) -> set[str]:
        """Returns the names of large weights that nothing has moved since they were restored last."""
        found = {}
        for name in self._large & self._slots.keys():
            (before, version), weight, entries = self._versions[name], self._slots[name].held, self._entries[name]
            if weight is not None and weight is before and entries.compact is not None:
                found[name] = (weight, version, entries.compact)
        return self._proof.unmoved(found) if found else set()

    def _is_changed_buffer(self, name: str) -> bool:
        slot = self._slots[name]
        if self._on_written is None or slot.is_parameter:
            return False
        tensor, value = slot.found, self._values[name]
        if not is_alike(tensor, value) and (self._leaves_converted or not slot.is_saved):
            return False
        return tensor is None or not same_bits(tensor, value)

    def _report(self, changed: Mapping[str, Slot]) -> None:
        if changed and self._on_written is not None:
            self._on_written(changed)
