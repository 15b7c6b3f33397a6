"""Finds the modules that belong to single tasks, and freezes those of finished tasks."""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.module_modes import layers_with_statistics
from packnet_pl.core.slots import Slot, find_module, memory_of, slots_of

__all__ = [
    "check_private_names",
    "frozen_parameters",
    "private_freezer",
    "private_parameters",
    "private_statistics",
    "turn_off_frozen_gradients",
]


def private_freezer(packnet: PackNet, root: nn.Module) -> Freezer:
    """Freezes every tensor of finished tasks' private modules, at its present value.

    Modules that ``root`` does not have (any more) are left out, and so is what the shared module has as well.

    Args:
        packnet: Knows the tasks and the names of their modules.
        root: Has the modules.
    """
    return Freezer(partial(_private_slots, packnet, root))


def private_statistics(packnet: PackNet, root: nn.Module) -> list[nn.Module]:
    """Returns the layers of finished tasks' private modules whose statistics training mode would move."""
    modules = _private_modules(packnet, root).values()
    return [layer for module in modules for layer in layers_with_statistics(module)]


def turn_off_frozen_gradients(packnet: PackNet, root: nn.Module) -> None:
    """Turns ``requires_grad`` off for all parameters that no further task changes, until ``packnet`` restores it."""
    packnet.requires_grad.turn_off([*frozen_parameters(packnet), *private_parameters(packnet, root)])


def frozen_parameters(packnet: PackNet) -> list[nn.Parameter]:
    """Returns the parameters of the shared module that no further task changes."""
    return _parameters_in(packnet.inventory().frozen.values()) if packnet.tasks else []


def private_parameters(packnet: PackNet, root: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of finished tasks' private modules."""
    return _parameters_in(_private_slots(packnet, root).values())


def check_private_names(packnet: PackNet, root: nn.Module, names: Sequence[str]) -> list[str]:
    """Checks the names of private modules, and returns them as a list.

    Args:
        packnet: Knows the shared module.
        root: Must have modules of these names, outside the shared one.
        names: As ``get_submodule`` takes them.

    Raises:
        ValueError: If one is not there, is part of the shared module, or belongs to a finished task.
    """
    shared = {id(module) for module in packnet.module.modules()}
    for name in names:
        if not name:
            raise ValueError("private='' is all, with the shared module: name modules that only this task uses")
        try:
            module = root.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f"private={name!r}: {type(root).__name__} has no such module ({error})") from error
        for task in packnet.tasks:
            theirs = packnet.private.get(task, [])
            if any(_overlap(name, other) for other in theirs) or _is_of(module, root, theirs):
                raise ValueError(
                    f"private={name!r} is, or overlaps with, {packnet.private[task]} of the finished task {task!r}, "
                    "which does not train any more: give each task modules of its own"
                )
        if id(module) in shared:
            raise ValueError(
                f"private={name!r} lies inside the shared module ({type(packnet.module).__name__}), whose weights are "
                "divided among all tasks: give PackNet only the part that all tasks share"
            )
    return list(names)


def _parameters_in(slots: Iterable[Slot]) -> list[nn.Parameter]:
    return [slot.whole for slot in slots if isinstance(slot.whole, nn.Parameter)]


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _is_of(module: nn.Module, root: nn.Module, names: Iterable[str]) -> bool:
    """Returns whether ``module`` is one of the modules ``names`` under another name: it has no other parameters."""
    found = [find_module(root, name) for name in names]
    theirs = {id(parameter) for other in found if other is not None for parameter in other.parameters()}
    own = [id(parameter) for parameter in module.parameters()]
    return bool(own) and theirs.issuperset(own)


def _private_slots(packnet: PackNet, root: nn.Module) -> dict[str, Slot]:
    shared = {memory_of(slot.whole) for _, slot in slots_of(packnet.module)}
    return {
        f"{prefix}.{name}": slot
        for prefix, module in _private_modules(packnet, root).items()
        for name, slot in slots_of(module)
        if memory_of(slot.whole) not in shared
    }


def _private_modules(packnet: PackNet, root: nn.Module) -> dict[str, nn.Module]:
    """Returns name -> module of finished tasks' private modules, as far as ``root`` has them."""
    private = packnet.private
    found = {name: find_module(root, name) for task in packnet.tasks for name in private.get(task, [])}
    return {name: module for name, module in found.items() if module is not None}
