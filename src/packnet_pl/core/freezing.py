"""Freezing: gradients are masked before an optimizer's step, and values restored after it.

Masking gradients alone is not enough: momentum left over from earlier steps and weight decay move a weight whose
gradient is zero, some optimizers do not look at gradients at all, and layers update buffers in the forward pass.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from packnet_pl.core.bits import same_bits
from packnet_pl.core.frozen_entries import FrozenEntries, Pending
from packnet_pl.core.loops import are_many
from packnet_pl.core.module_modes import EvalMode
from packnet_pl.core.slots import Slot, is_alike, restore_slot_
from packnet_pl.core.step_proof import StepProof

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
        self._slots: dict[str, Slot] = {}
        self._values: dict[str, Tensor] = {}  # of what is frozen whole
        self._entries: dict[str, FrozenEntries] = {}
        owners = owners or {}
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
            self._slots[name] = slot
        self._versions = {name: _version(slot.now) for name, slot in self._slots.items()}
        self._large = {n for n, e in self._entries.items() if e.compact is not None and owners[n].numel() >= LARGE}
        self._proof = StepProof()
        self._compared = False

    @torch.no_grad()
    def mask_gradients_(self) -> None:
        """Sets the gradients of everything frozen to exactly zero. Call it before ``optimizer.step()``."""
        whole, pending = [], Pending()
        for name, slot in self._slots.items():
            tensor = slot.found
            if tensor is None or tensor.grad is None:
                continue
            if name in self._entries:
                grad = self._entries[name].masked(tensor.grad, pending)
                if grad is not tensor.grad:
                    tensor.grad = grad
                if name in self._large:
                    self._proof.masked(tensor)
            elif tensor.grad.layout == torch.strided:
                whole.append(tensor.grad)
            else:
                tensor.grad.zero_()
        pending.do_()
        if whole:
            torch._foreach_zero_(whole)

    @torch.inference_mode(False)
    @torch.no_grad()
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
        stepped = None if of is None else {id(tensor) for tensor in of}
        changed, unmoved, due = {}, self._unmoved(), []
        for name, slot in self._slots.items():
            tensor = slot.found
            if name in unmoved:
                self._versions[name] = _version(tensor)
                continue
            if stepped is None or id(tensor) in stepped or self._was_written(name, tensor):
                due.append(name)
                if not slot.is_parameter and self._was_written(name, tensor) and self._is_changed_buffer(name):
                    changed[name] = slot
        self._restore(due)
        self._report(changed)

    @torch.inference_mode(False)
    @torch.no_grad()
    def restore_buffers_(self) -> None:
        """Restores buffers that layers may write to in a forward pass; not every kernel raises their version.

        Whether they changed is looked at only the first time, as that makes a GPU wait.
        """
        names = self._written_in_forward()
        changed = {} if self._compared else {name: self._slots[name] for name in names if self._is_changed_buffer(name)}
        self._compared = True
        self._restore(names)
        self._report(changed)

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
        if sure:
            self._rebind()
        return [
            name
            for name, slot in self._slots.items()
            if name not in self._entries
            and (sure or self._was_written(name, slot.found))
            and _has_other_values(slot, self._values[name])
        ]

    def _rebind(self) -> None:
        # A layer that took a buffer away is to get it back: find() does not see its empty slot.
        empty = {name: slot for name, slot in self._slots.items() if slot.found is None}
        found = {**empty, **self._find()}
        self._slots = {name: found[name] for name in self._slots if name in found}

    def _restore(self, names: Sequence[str]) -> None:
        pending, copied, values, done = Pending(), [], [], []
        for name in names:
            slot = self._slots[name]
            tensor, entries = slot.found, self._entries.get(name)
            if entries is not None:
                tensor = slot.now
                entries.restore_(name, tensor, pending)
            elif tensor is not None and self._is_copied(name, tensor):
                copied.append(tensor)
                values.append(self._values[name])
            else:
                self._restore_whole(name, slot)
                tensor = slot.found
            done.append((name, tensor))
        pending.do_()
        if copied:  # one call for each would take longer than the copying
            torch._foreach_copy_(copied, values)
        self._versions.update((name, _version(tensor)) for name, tensor in done)

    def _may_differ(self, name: str, tensor: Tensor | None) -> bool:
        return name in self._entries or tensor is None or not same_bits(tensor, self._values[name])

    def _is_copied(self, name: str, tensor: Tensor) -> bool:
        """Returns whether it is the tensor that was restored last, and nothing about it but its values has changed."""
        (before, version), value = self._versions[name], self._values[name]
        if tensor is not before or version is None or not is_alike(tensor, value):
            return False
        return tensor.layout == value.layout == torch.strided and tensor.is_contiguous()

    def _restore_whole(self, name: str, slot: Slot) -> None:
        tensor, value = slot.found, self._values[name]
        if self._leaves_converted and not is_alike(tensor, value):
            return
        is_replaced = tensor is not self._versions[name][0] and is_alike(tensor, value)
        if tensor is not None and is_replaced and not slot.is_parameter:
            # Not in place: a graph that is still to be used may have saved the layer's new buffer.
            slot.layer._buffers[slot.key] = value.to(tensor.device, copy=True)
        else:
            restore_slot_(name, slot, value)

    def _unmoved(self) -> set[str]:
        """Returns the names of large weights that nothing has moved since they were restored last."""
        found = {}
        for name in self._large & self._slots.keys():
            (before, version), weight, entries = self._versions[name], self._slots[name].found, self._entries[name]
            if weight is not None and weight is before and entries.compact is not None:
                found[name] = (weight, version, entries.compact)
        return self._proof.unmoved(found) if found else set()

    def _written_in_forward(self) -> list[str]:
        quiet = {id(layer) for layer in self._eval_mode.layers} if self._eval_mode is not None else set()
        return [n for n, slot in self._slots.items() if not slot.is_parameter and id(slot.layer) not in quiet]

    def _was_written(self, name: str, tensor: Tensor | None) -> bool:
        before, version = self._versions[name]
        return before is not tensor or version is None or version != _version(tensor)[1]

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


def _version(tensor: Tensor | None) -> tuple[Tensor | None, int | None]:
    """Returns what changes when a tensor is replaced or written to; inference tensors have no version."""
    if tensor is None:
        return None, None
    try:
        return tensor, tensor._version
    except RuntimeError:  # asked beforehand, is_inference() takes longer than the version
        return tensor, None


def _has_other_values(slot: Slot, value: Tensor) -> bool:
    """Returns whether the tensor in the slot has other values; a cache may have another shape."""
    tensor = slot.found
    if tensor is None or not is_alike(tensor, value):
        return slot.is_saved
    # Zero may have lost its sign in an addition.
    return not (same_bits(tensor, value) or (tensor.layout == torch.strided and torch.equal(tensor, value)))
