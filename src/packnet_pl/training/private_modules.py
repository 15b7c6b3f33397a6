"""The modules that belong to single tasks: which they are, and holding those of finished tasks still."""

from collections.abc import Iterable, Sequence

from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.bits import same_bits
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.gradients import has_gradient
from packnet_pl.core.module_modes import EvalMode, layers_with_statistics
from packnet_pl.core.slots import Slot, can_be_frozen, find_module, memory_of, slots_of

__all__ = ["PrivateHold", "Untrained", "check_private_names", "frozen_parameters", "private_parameters"]


class PrivateHold:
    """Holds every tensor of finished tasks' private modules, as it is now, until it is removed.

    Modules that ``root`` does not have (any more) are left out, and so is what the shared module has as well.

    Args:
        packnet: Knows the tasks and the names of their modules.
        root: Has the modules.
    """

    def __init__(self, packnet: PackNet, root: nn.Module) -> None:
        self._packnet, self._root = packnet, root
        self._freezer, self._eval_mode = Freezer(self._find), EvalMode()
        # Their statistics would move if a later task ran them in training mode.
        self._eval_mode.keep(
            layer for module in _modules(packnet, root).values() for layer in layers_with_statistics(module)
        )

    def mask_gradients_(self) -> None:
        """Zeroes the gradients of what is held."""
        self._freezer.mask_gradients_()

    def restore_(self, of: Iterable[Tensor] | None = None) -> None:
        """Restores what is held; ``of`` as in :meth:`Freezer.restore_`."""
        self._freezer.restore_(of)

    def settle_(self) -> None:
        """Restores what is held in the layers that there are now: some may have been replaced."""
        self._freezer.restore_all_()

    def remove(self) -> None:
        """Lets layers train again."""
        self._eval_mode.end()

    def _find(self) -> dict[str, Slot]:
        return _slots(self._packnet, self._root)


class Untrained:
    """The private modules of the open task that could learn, and did not.

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
        """Forgets the modules of which a parameter has a gradient now."""
        self._looked = True
        self._waiting = {
            name: module
            for name, module in self._waiting.items()
            if not any(has_gradient(parameter) for parameter in module.parameters())
        }

    def warn(self) -> None:
        """Names the modules that have learned nothing, if there was a gradient to look for at all."""
        for name, module in self._modules.items() if self._looked else ():
            # An optimizer that steps in the backward pass leaves no gradient to be seen: the values tell.
            if not self._before[name] or not _are_alike(self._before[name], _values(module)):
                continue
            waits = name in self._waiting
            what = "never got a gradient in this fit" if waits else "was moved by no optimizer in this fit"
            why = "the module compute with the head of another task" if waits else "configure_optimizers() leave it out"
            rank_zero_warn(f"{name} is private to task {self._task!r} and {what}, so it learned nothing: does {why}?")


def _values(module: nn.Module) -> list[Tensor]:
    parameters = [p for p in module.parameters() if p.requires_grad and can_be_frozen(p)]
    return [parameter.detach().clone() for parameter in parameters]


def _are_alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(same_bits(a, b) for a, b in zip(one, other, strict=True))


def check_private_names(packnet: PackNet, root: nn.Module, names: Sequence[str]) -> list[str]:
    """Returns ``names`` as a list.

    Args:
        packnet: Knows the shared module.
        root: Must have modules of these names, outside the shared one.
        names: As ``get_submodule`` takes them.

    Raises:
        ValueError: If one is not there, or is part of the shared module.
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


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _is_of(module: nn.Module, root: nn.Module, names: Iterable[str]) -> bool:
    """Whether all parameters of ``module`` are those of the modules ``names``: the same module under another name."""
    found = [find_module(root, name) for name in names]
    theirs = {id(parameter) for other in found if other is not None for parameter in other.parameters()}
    own = [id(parameter) for parameter in module.parameters()]
    return bool(own) and theirs.issuperset(own)


def frozen_parameters(packnet: PackNet) -> list[nn.Parameter]:
    """Returns the parameters of the shared module that no further task changes: they need no gradient."""
    slots = packnet.inventory().frozen.values() if packnet.tasks else ()
    return [slot.now for slot in slots if isinstance(slot.now, nn.Parameter)]


def private_parameters(packnet: PackNet, root: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of finished tasks' private modules in ``root``."""
    slots = _slots(packnet, root).values()
    return [slot.now for slot in slots if isinstance(slot.now, nn.Parameter)]


def _slots(packnet: PackNet, root: nn.Module) -> dict[str, Slot]:
    shared = {memory_of(slot.now) for _, slot in slots_of(packnet.module)}
    return {
        f"{prefix}.{name}": slot
        for prefix, module in _modules(packnet, root).items()
        for name, slot in slots_of(module)
        if memory_of(slot.now) not in shared
    }


def _modules(packnet: PackNet, root: nn.Module) -> dict[str, nn.Module]:
    private = packnet.private
    names = [name for task in packnet.tasks for name in private.get(task, [])]
    found = {name: find_module(root, name) for name in names}
    return {name: module for name, module in found.items() if module is not None}
