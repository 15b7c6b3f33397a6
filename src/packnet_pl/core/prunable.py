"""Which parameters PackNet owns, which it only holds still, and which it cannot handle."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["PRUNABLE_MODULES", "Inventory", "PrunableFilter", "take_inventory"]

PrunableFilter = Callable[[str, nn.Module], bool]

PRUNABLE_MODULES = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
"""Layers whose ``weight`` is divided among tasks: convolutions and fully connected layers, as in the paper."""


LAZY = "it has no values yet (a lazy layer): run one batch through the network first"


@dataclass(frozen=True)
class Inventory:
    """Every tensor of the shared module, by name, in the order of the module tree.

    Attributes:
        owned: Weights that are divided among tasks, each listed once however many modules share it.
        frozen: All other parameters and the persistent buffers: they train with the first task and then stand still.
        refused: Name -> reason of parameters that can neither be owned nor held still.
        places: Name of each owned or frozen tensor -> the module and attribute where it stands.
    """

    owned: dict[str, nn.Parameter]
    frozen: dict[str, Tensor]
    refused: dict[str, str]
    places: dict[str, tuple[nn.Module, str]]

    def tensors_now(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the owned and the frozen tensors that stand in those places now: a layer may replace its buffers."""
        now = {name: getattr(module, attribute) for name, (module, attribute) in self.places.items()}
        return {name: now[name] for name in self.owned}, {name: now[name] for name in self.frozen}


def take_inventory(module: nn.Module, prunable: PrunableFilter | None = None) -> Inventory:
    """Sorts the tensors of ``module`` into owned, frozen and refused.

    Args:
        module: The shared part of the network.
        prunable: Called with the name and the module of each convolution and linear layer; False leaves its weight out
            of pruning, so that it is frozen after the first task. It can narrow the choice, not widen it.

    Returns:
        The tensors as they are now. Names survive ``deepcopy`` and ``load_state_dict``, tensors need not: take a new
        inventory instead of keeping one.
    """
    owned: dict[str, nn.Parameter] = {}
    refused: dict[str, str] = {}
    places: dict[str, tuple[nn.Module, str]] = {}
    seen: set[int] = set()
    for module_name, layer in module.named_modules():
        weight = layer._parameters.get("weight") if isinstance(layer, PRUNABLE_MODULES) else None
        if weight is None or id(weight) in seen:
            continue
        if prunable is not None and not prunable(plain_name(module_name), layer):
            continue
        seen.add(id(weight))
        name = plain_name(f"{module_name}.weight" if module_name else "weight")
        reason = _why_refused(weight)
        if reason:
            refused[name] = reason
        else:
            owned[name] = weight
            places[name] = (layer, "weight")
    frozen: dict[str, Tensor] = {}
    persistent = module.state_dict(keep_vars=True).keys()
    buffers = [(name, buffer) for name, buffer in module.named_buffers() if name in persistent]
    for full_name, tensor in [*module.named_parameters(), *buffers]:
        name = plain_name(full_name)
        if id(tensor) in seen:
            continue
        if nn.parameter.is_lazy(tensor):
            refused[name] = LAZY
            continue
        path, _, attribute = full_name.rpartition(".")
        frozen[name] = tensor
        places[name] = (module.get_submodule(path), attribute)
    return Inventory(owned, frozen, refused, places)


def plain_name(name: str) -> str:
    """Returns ``name`` without the prefix that ``torch.compile`` adds."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _why_refused(weight: nn.Parameter) -> str | None:
    if nn.parameter.is_lazy(weight):
        return LAZY
    if not weight.is_floating_point():
        return f"its type is {weight.dtype}: only real floating point weights have a magnitude to prune by"
    if weight.layout != torch.strided:
        return f"its layout is {weight.layout}: only dense (strided) weights can be owned one by one"
    return None
