"""Holding still what must not move while a task trains: gradients masked before the step, values restored after it.

Masking gradients alone is not enough: momentum left over from earlier steps and weight decay move a weight whose
gradient is zero, some optimizers do not look at gradients at all, and layers update buffers in the forward pass.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers, same_bits
from packnet_pl.core.inventory import Place

__all__ = ["Hold", "put_back_"]


class Hold:
    """The values that must stay, taken when it is made, and the two operations that keep them.

    Both work on the bits of the numbers: an integer AND is exact (a multiplication turns inf * 0 into NaN), runs at
    memory speed on every device (``masked_fill_`` does not on CPU), and takes any memory layout. Restoring is
    ``bits = (bits & trainable) | kept``.

    Args:
        weights: Name -> place of a weight of which single entries may move.
        trainable: Name -> bool of the same shape: the entries that may move.
        fixed: Name -> place of a tensor that may not move at all.
    """

    @torch.inference_mode(False)
    def __init__(
        self, weights: Mapping[str, Place], trainable: Mapping[str, Tensor], fixed: Mapping[str, Place]
    ) -> None:
        self._weights: dict[str, Place] = {}
        self._masks: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        for name, place in weights.items():
            if bool(trainable[name].all()):
                continue
            bits = as_integers(place.now)
            mask = torch.zeros_like(bits).masked_fill_(trainable[name], -1)
            self._weights[name], self._masks[name], self._kept[name] = place, mask, bits & ~mask
        self._fixed = dict(fixed)
        self._values = {name: place.now.detach().clone() for name, place in fixed.items()}
        self._dtypes = {name: place.now.dtype for name, place in self._weights.items()}
        self._seen = {name: _mark(place.now) for name, place in {**self._weights, **fixed}.items()}
        self._looked = False

    def bind(self, places: Mapping[str, Place]) -> None:
        """Takes other places for the same names: those of the layers that a module has now."""
        self._weights = {name: places[name] for name in self._weights if name in places}
        self._fixed = {name: places[name] for name in self._fixed if name in places}

    def changed_buffers(self) -> list[str]:
        """Returns the names of held buffers whose bits are not what they were: a layer writes to them in forward."""
        return [name for name, place in self._fixed.items() if _is_changed_buffer(place, self._values[name])]

    def changed(self, *, sure: bool = False) -> list[str]:
        """Returns the names of fixed tensors that hold other values than were taken; caches may have another shape.

        Args:
            sure: Whether to look at the values of all, and not only of those that say that they were written to.
        """
        return [
            name
            for name, place in self._fixed.items()
            if (sure or self._was_written(name, place.found)) and _has_other_values(place, self._values[name])
        ]

    @torch.no_grad()
    def mask_gradients_(self) -> None:
        """Sets the gradients of everything held to exactly zero. Call it before ``optimizer.step()``."""
        for name, place in self._weights.items():
            weight = place.now
            if weight.grad is None:
                continue
            if weight.grad.layout != torch.strided:
                weight.grad = _masked_sparse(weight.grad, self._masks[name])
                continue
            bits = as_integers(weight.grad)
            bits.bitwise_and_(self._masks[name].to(bits))
        for place in self._fixed.values():
            tensor = place.found
            if tensor is not None and tensor.grad is not None:
                tensor.grad.zero_()

    @torch.inference_mode(False)
    @torch.no_grad()
    def restore_(self, of: Iterable[Tensor] | None = None) -> list[str]:
        """Puts everything held back to the bits it had. Call it after ``optimizer.step()``.

        Args:
            of: The tensors that were stepped. All others are only written to if they were written to since the last
                time: a graph that was built on them stays valid, and nothing is done twice. None: all that is held.

        Returns:
            The names of buffers that were put back because a layer had changed them.

        Raises:
            RuntimeError: If a parameter was converted or replaced by one of another shape, or a buffer that a state
                dict has changed its shape.
        """
        chosen = None if of is None else {id(tensor) for tensor in of}
        for name, place in self._weights.items():
            weight = place.now
            if chosen is None or id(weight) in chosen or self._was_written(name, weight):
                self._restore_entries(name, weight)
        return self._restore_fixed(self._fixed, chosen)

    @torch.inference_mode(False)
    @torch.no_grad()
    def restore_buffers_(self, names: Iterable[str]) -> list[str]:
        """Puts these buffers back without asking whether they were written to: not every kernel tells.

        Returns:
            As :meth:`restore_`, but only the first time: looking at the bits makes a GPU wait.
        """
        places = {name: self._fixed[name] for name in names if name in self._fixed}
        changed: list[str] = []
        if not self._looked:
            changed = [name for name, place in places.items() if _is_changed_buffer(place, self._values[name])]
        self._looked = True
        self._restore_fixed(places, None)
        return changed

    def _restore_entries(self, name: str, weight: Tensor) -> None:
        if weight.dtype != self._dtypes[name] or weight.shape != self._masks[name].shape:
            raise RuntimeError(_was_converted(name, weight, self._dtypes[name], self._masks[name].shape))
        bits = as_integers(weight)
        for kept in (self._masks, self._kept):
            if kept[name].device != bits.device:
                kept[name] = kept[name].to(bits.device)
        bits.bitwise_and_(self._masks[name]).bitwise_or_(self._kept[name])
        self._seen[name] = _mark(weight)

    def _restore_fixed(self, places: Mapping[str, Place], chosen: set[int] | None) -> list[str]:
        moved = []
        for name, place in places.items():
            tensor, value = place.found, self._values[name]
            written = self._was_written(name, tensor)
            if chosen is not None and id(tensor) not in chosen and not written:
                continue
            if written and _is_changed_buffer(place, value):
                moved.append(name)
            replaced = tensor is not self._seen[name][0]
            if replaced and not place.is_parameter and _is_alike(tensor, value):
                # Not in place: a graph that is still to be used may have saved the layer's new buffer.
                place.layer._buffers[place.key] = value.clone()
            else:
                put_back_(name, place, value)
            self._seen[name] = _mark(place.found)
        return moved

    def _was_written(self, name: str, tensor: Tensor | None) -> bool:
        before, version = self._seen[name]
        return before is not tensor or version is None or version != _mark(tensor)[1]


def put_back_(name: str, place: Place, value: Tensor) -> None:
    """Gives the tensor in ``place`` the bits of ``value`` again, in place where that is possible.

    A buffer that no state dict has is left alone where it changed its shape or type: it is a cache of the layer's.

    Raises:
        RuntimeError: If a parameter has another shape or type now, or a buffer that a state dict has.
    """
    tensor = place.found
    if not _is_alike(tensor, value):
        if not place.is_saved:
            return
        if tensor is not None:
            raise RuntimeError(_was_converted(name, tensor, value.dtype, value.shape))
        if place.is_parameter:
            raise RuntimeError(f"{name} was removed, but finished tasks use it: put it back")
    if tensor is None or (not place.is_parameter and _must_be_replaced(tensor)):
        place.layer._buffers[place.key] = value.clone()
    else:
        tensor.copy_(value)


def _is_alike(tensor: Tensor | None, value: Tensor) -> bool:
    return tensor is not None and (tensor.shape, tensor.dtype) == (value.shape, value.dtype)


def _is_changed_buffer(place: Place, value: Tensor) -> bool:
    tensor = place.found
    if place.is_parameter or (not place.is_saved and not _is_alike(tensor, value)):
        return False
    return tensor is None or not same_bits(tensor, value)


def _has_other_values(place: Place, value: Tensor) -> bool:
    tensor = place.found
    if not place.is_saved and not _is_alike(tensor, value):
        return False
    if not _is_alike(tensor, value):
        return True
    assert tensor is not None
    # Zero may have lost its sign in an addition.
    return not (same_bits(tensor, value) or (tensor.layout == torch.strided and torch.equal(tensor, value)))


def _was_converted(name: str, tensor: Tensor, dtype: torch.dtype, shape: Iterable[int]) -> str:
    return (
        f"{name} was {dtype} {tuple(shape)} and is {tensor.dtype} {tuple(tensor.shape)} now, but finished tasks use it "
        "as it was: convert it back, or take the values as they are now with PackNet.hold(); a cache that grows should "
        "be a buffer with persistent=False"
    )


def _must_be_replaced(buffer: Tensor) -> bool:
    """Returns whether ``buffer`` cannot be written to: made in inference mode, expanded, or sparse."""
    if buffer.layout != torch.strided or buffer.is_inference():
        return True
    return any(stride == 0 and size > 1 for stride, size in zip(buffer.stride(), buffer.shape, strict=True))


def _mark(tensor: Tensor | None) -> tuple[Tensor | None, int | None]:
    """Returns what tells later whether a tensor was replaced or written to; inference tensors do not tell."""
    return tensor, None if tensor is None or tensor.is_inference() else tensor._version


def _masked_sparse(grad: Tensor, mask: Tensor) -> Tensor:
    grad = grad.coalesce()
    values = grad.values().clone()
    as_integers(values).bitwise_and_(mask.to(grad.device)[tuple(grad.indices())].to(as_integers(values)))
    return torch.sparse_coo_tensor(grad.indices(), values, grad.shape, is_coalesced=True)
