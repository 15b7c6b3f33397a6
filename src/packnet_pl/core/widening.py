"""Widens a module: what it has moves to the leading entries of a wider one, and the rest is free."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from packnet_pl.core.conversion import take_types_
from packnet_pl.core.fingerprints import fingerprints, owned_fingerprints
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.core.narrow import leading
from packnet_pl.core.ownership import FREE
from packnet_pl.core.slots import tensors_in
from packnet_pl.core.state import State

__all__ = ["check_aligned", "check_wider", "output_of", "padded_owner", "place_", "placed", "prepare_", "widened"]


def placed(narrow: Tensor, wide: Tensor) -> Tensor:
    """Returns a tensor of the shape of ``wide`` that has ``narrow`` at its leading indices.

    The rows that are new (an index in the first dimension beyond ``narrow``) are those of ``wide``: the weights into a
    new channel have to differ, or it would never learn. What is new in an old row is zero: at first, the old channels
    do what they did.

    Args:
        narrow: Of any shape.
        wide: Of as many dimensions, none smaller.
    """
    if narrow.shape == wide.shape:
        return narrow.clone()
    found = wide.clone()
    found[: narrow.shape[0]] = 0
    leading(found, narrow.shape).copy_(narrow)
    return found


def padded_owner(owner: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the owner map (uint8) of a wider weight: ``owner`` at its leading indices, the rest is free."""
    found = torch.full(tuple(shape), FREE, dtype=owner.dtype, device=owner.device)
    leading(found, owner.shape).copy_(owner)
    return found


def check_wider(narrow: Inventory, wide: Inventory) -> None:
    """Checks that each tensor of a wider module has its like in the narrower one, and that one is larger.

    Raises:
        ValueError: Otherwise; it names the tensor.
    """
    if wide.refused:
        name, reason = next(iter(wide.refused.items()))
        raise ValueError(f"cannot grow: parameter {name} of the wider module is refused: {reason}")
    for kind in ("owned", "frozen", "per_task", "unsaved"):
        here, there = getattr(narrow, kind), getattr(wide, kind)
        if here.keys() != there.keys():
            names = sorted(here.keys() ^ there.keys())
            raise ValueError(
                f"cannot grow: the wider module has other tensors than the module: {names[:3]}; it has to be the same "
                "network with more channels"
            )
    before, after = tensors_in(narrow.all), tensors_in(wide.all)
    for name, tensor in before.items():
        old, new = tuple(tensor.shape), tuple(after[name].shape)
        if len(old) != len(new) or any(a > b for a, b in zip(old, new, strict=True)):
            raise ValueError(f"cannot grow: {name} is {old}, and {new} in the wider module: no dimension may shrink")
    if all(tensor.shape == after[name].shape for name, tensor in before.items()):
        raise ValueError("cannot grow: no tensor of the wider module is larger than the module's")


def prepare_(narrow: nn.Module, wide: nn.Module) -> None:
    """Gives a wider module the types, device, modes and ``requires_grad`` of the narrower one."""
    take_types_(wide, narrow.state_dict())
    first = next(iter(narrow.parameters()), None)
    if first is not None:
        wide.to(first.device)
    layers = dict(narrow.named_modules())
    for name, layer in wide.named_modules():
        layer.training = layers[name].training if name in layers else narrow.training
    parameters = dict(narrow.named_parameters())
    for name, parameter in wide.named_parameters():
        if name in parameters:
            parameter.requires_grad_(parameters[name].requires_grad)


@torch.no_grad()
def place_(narrow: Inventory, wide: Inventory) -> None:
    """Writes :func:`placed` of each tensor to a wider module."""
    for name, slot in narrow.all.items():
        target = wide.all[name].now.detach()
        target.copy_(placed(slot.now.detach(), target))


@torch.no_grad()
def check_aligned(narrow: nn.Module, slots: Inventory, wide: nn.Module, wider: Inventory, example: Tensor) -> None:
    """Checks that channels of the narrower module are the leading ones in the wider module, layer by layer.

    With all that is new at zero, the wider module has to compute, up to rounding, what the narrower one does: not where
    features are concatenated, in groups, or normalised over all channels. What tasks have learned would be in the
    wrong channels there. The wider module is as it was afterwards.

    Args:
        narrow: As it is.
        slots: Its tensors.
        wide: With any values.
        wider: Its tensors.
        example: A batch that both take.

    Raises:
        ValueError: Otherwise.
    """
    before = output_of(narrow, example)
    drawn = {name: slot.now.detach().clone() for name, slot in wider.all.items()}
    try:
        for name, slot in slots.all.items():
            target = wider.all[name].now.detach()
            if wider.all[name].is_parameter:
                target.zero_()
            leading(target, slot.now.shape).copy_(slot.now.detach())
        try:
            after = output_of(wide, example)
        except RuntimeError as error:
            raise ValueError(f"cannot grow {type(wide).__name__}: {' '.join(str(error).split())[:200]}") from error
        small = after.dim() == before.dim() and all(a <= b for a, b in zip(before.shape, after.shape, strict=True))
        if not small or not _is_close(leading(after, before.shape), before):
            raise ValueError(
                f"cannot grow {type(wide).__name__}: wider, its channels are not at the same places any more, as where "
                "features are concatenated, in groups, or normalised over all channels (DenseNet, Inception, grouped "
                "and depthwise convolutions, LayerNorm)"
            )
    finally:
        for name, value in drawn.items():
            wider.all[name].now.detach().copy_(value)


def widened(state: State, narrow: Inventory, wide: Inventory) -> State:
    """Returns the state of a wider module, to which everything was written by :func:`place_`.

    Args:
        state: Of the narrower module; no task is open.
        narrow: Its tensors.
        wide: Those of the wider module.
    """
    owners = {
        name: padded_owner(owner, wide.owned[name].now.shape).to(wide.owned[name].now.device)
        for name, owner in state.owners.items()
    }
    weights = {name: tensor.detach() for name, tensor in tensors_in(wide.owned).items()}
    of_weights = owned_fingerprints(weights, owners, len(state.tasks))
    of_frozen = fingerprints({name: tensor.detach() for name, tensor in tensors_in(wide.frozen).items()})
    found = {}
    for task, mine in zip(state.tasks, of_weights, strict=True):
        now = {**of_frozen, **mine}
        before = state.fingerprints[task]
        found[task] = {name: now.get(name, mark) for name, mark in before.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_in(narrow.all).items()}
    return state.widen(owners, found, shapes)


def _is_close(output: Tensor, expected: Tensor) -> bool:
    """Returns whether two outputs are equal up to rounding, measured by the largest finite number."""
    finite = expected[expected.isfinite()]
    most = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(output, expected, rtol=1e-3, atol=1e-3 * most, equal_nan=True)


@torch.no_grad()
def output_of(module: nn.Module, example: Tensor) -> Tensor:
    """Returns what ``module`` computes of ``example`` in eval mode.

    Raises:
        ValueError: If it is no tensor.
    """
    with in_eval_mode(module.modules()):
        found = module(example)
    if not isinstance(found, Tensor):
        raise ValueError(f"cannot grow: the module returns a {type(found).__name__}; a tensor is needed to compare")
    return found
