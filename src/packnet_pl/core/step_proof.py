"""The proof that an optimizer's step moved nothing frozen, so that a large weight need not be restored after it.

A weight is left alone if, since it was restored last, exactly one step of one optimizer wrote to it, and

- the optimizer is one that moves nothing where gradient and state are zero (``unmoving_optimizers``),
- its gradient was masked, and nobody has written to the gradient since,
- its state is zero in frozen entries: looked at until it is known how often a step writes to it, and from then on
  followed by its versions,
- the weight's version has risen by what that step writes, and no more, and it lies where it lay.

Not all writing raises a version (``.data``, foreign kernels), so that a sample of the frozen entries is compared, too.
"""

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.utils.weak import TensorWeakRef

from packnet_pl.core.compact_entries import CompactEntries
from packnet_pl.core.shards import own_part
from packnet_pl.core.unmoving_optimizers import writes_per_step
from packnet_pl.core.versions import version_of

__all__ = ["StepProof"]

_Seen = tuple[TensorWeakRef, int]  # a tensor, and its version
_Step = tuple[weakref.ref[Optimizer], int, int | None]  # an optimizer, which of its groups, and how often it writes


class StepProof:
    """Watches the steps of torch's optimizers, as far as they have the weights of one freezer.

    Copies begin anew: they belong to other weights.
    """

    def __init__(self) -> None:
        self._is_watching = False
        self._weights: set[int] = set()
        self._steps: dict[int, list[_Step]] = {}  # by weight
        self._masked: dict[int, _Seen] = {}  # by weight
        self._states: dict[int, dict[str, tuple[_Seen, int | None]]] = {}  # by weight: and how much a version rises
        self._is_distrusted = False

    def __reduce__(self) -> tuple[type["StepProof"], tuple[()]]:
        return StepProof, ()

    def masked(self, weight: Tensor) -> None:
        """Notes that the gradient of ``weight`` was masked just now."""
        if not self._is_watching:
            self._is_watching = True
            # torch calls it before each step of each optimizer: after one, what others register there comes first.
            handle = register_optimizer_step_pre_hook(partial(_note_step, weakref.ref(self)))
            weakref.finalize(self, handle.remove).atexit = False
        self._weights.add(id(weight))
        if weight.grad is not None and not weight.grad.is_inference():
            self._masked[id(weight)] = _seen(weight.grad)

    def unmoved(self, weights: Mapping[str, tuple[Tensor, int | None, CompactEntries]]) -> set[str]:
        """Returns which weights need not be restored, and forgets the steps that were seen.

        Args:
            weights: Name -> weight, its version when it was restored last, and what is frozen of it.
        """
        found = set()
        for name, (weight, version, entries) in weights.items():
            if self._is_unmoved(weight, version, entries):
                found.add(name)
            elif id(weight) in self._steps:
                self._states.pop(id(weight), None)
        self.forget_steps()
        if not all(weights[name][2].is_sample_in(own_part(weights[name][0])) for name in found):
            self._is_distrusted = True  # something writes past autograd, and may do so again
            return set()
        return found

    def note_step(self, optimizer: Optimizer) -> None:
        """Notes that ``optimizer`` begins a step."""
        for index, group in enumerate(optimizer.param_groups):
            for weight in group["params"]:
                if id(weight) in self._weights:
                    writes = writes_per_step(optimizer, group, weight.dtype)
                    self._steps.setdefault(id(weight), []).append((weakref.ref(optimizer), index, writes))

    def forget_steps(self) -> None:
        """Forgets the steps that were seen: all was restored."""
        self._steps = {}

    def _is_unmoved(self, weight: Tensor, version: int | None, entries: CompactEntries) -> bool:
        steps, grad = self._steps.get(id(weight), []), weight.grad
        if self._is_distrusted or len(steps) != 1 or version is None or grad is None:
            return False
        optimizer, index, writes = steps[0][0](), *steps[0][1:]
        if optimizer is None or writes is None or version_of(weight) != version + writes:
            return False
        if grad.layout != torch.strided or not _is_as_seen(grad, self._masked.get(id(weight))):
            return False
        # A closure may have changed the settings.
        if writes_per_step(optimizer, optimizer.param_groups[index], weight.dtype) != writes:
            return False
        if own_part(weight).data_ptr() != entries.memory or not entries.stays_in_sums():
            return False
        return self._is_state_zero(weight, optimizer.state.get(weight, {}), entries)

    def _is_state_zero(self, weight: Tensor, state: Mapping[str, Any], entries: CompactEntries) -> bool:
        tensors = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.dim()}
        if any(tensor.is_inference() for tensor in tensors.values()):
            return False
        before, now, is_known = self._states.get(id(weight), {}), {}, True
        for key, tensor in tensors.items():
            (reference, version), rise = before.get(key, ((None, 0), None))
            is_same = reference is not None and reference() is tensor
            now[key] = (_seen(tensor), (version_of(tensor) or 0) - version if is_same else None)
            is_known = is_known and is_same and rise is not None and now[key][1] == rise
        if not is_known and not all(entries.is_zero_in(own_part(tensor)) for tensor in tensors.values()):
            return False
        self._states[id(weight)] = now
        return True


def _seen(tensor: Tensor) -> _Seen:
    return TensorWeakRef(tensor), version_of(tensor) or 0


def _is_as_seen(tensor: Tensor, seen: _Seen | None) -> bool:
    """Returns whether it is the tensor that was seen, and was not written to since."""
    return seen is not None and seen[0]() is tensor and seen[1] == version_of(tensor)


def _note_step(proof: "weakref.ref[StepProof]", optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if torch.compiler.is_compiling():  # the code of a compiled step is not torch's: restored
        return
    found = proof()
    if found is not None:
        found.note_step(optimizer)
