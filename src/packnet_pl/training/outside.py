"""Freezes what is outside the shared part and the tasks' own modules, since finished tasks may use it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.gradients import has_gradient
from packnet_pl.core.shards import processes_of
from packnet_pl.core.slots import Slot, can_be_frozen, find_module
from packnet_pl.training.outside_slots import outside_slots
from packnet_pl.training.unregistered import unregistered

__all__ = ["Outside"]


class Outside:
    """Freezes, in a fit, what is neither shared nor a task's own nor free to change, and refuses its learning.

    A finished task computes with all of it, as far as anybody knows. Heads of other tasks, which get no gradient, class
    weights or an input mean stay as they are. The states of metrics are left alone: nothing is computed from them.

    Args:
        packnet: Knows the shared module, the tasks and the names of their modules; the task is open.
        root: Has all of it.
        free: Names of modules, parameters and buffers of ``root`` that may change.
        optimizers: Returns the optimizers of the fit.
    """

    def __init__(
        self, packnet: PackNet, root: nn.Module, free: Sequence[str], optimizers: Callable[[], Iterable[Any]]
    ) -> None:
        self._packnet, self._root, self._free, self._optimizers = packnet, root, free, optimizers
        self._warned: set[str] = set()
        self._slots: dict[str, Slot] = {}
        self.freeze()

    def freeze(self) -> None:
        """Freezes everything at its present values."""
        self._freezer = Freezer(self._find)

    def tensors(self) -> list[Tensor]:
        """Returns the parameters and buffers that are outside."""
        return [slot.whole for slot in self._slots.values() if slot.found is not None]

    def refuse_learning(self, of: Iterable[Tensor] | None = None) -> None:
        """Refuses gradients outside that an optimizer would follow, registered or not.

        Args:
            of: The tensors that an optimizer has stepped just now; None: those of all optimizers, as they are now.

        Raises:
            ValueError: Otherwise; it names them, and says what may be done.
        """
        stepped = _stepped(self._optimizers()) if of is None else {id(tensor): tensor for tensor in of}
        parameters = {name: slot.held for name, slot in self._slots.items() if slot.is_parameter}
        with_gradient = [
            name
            for name, parameter in parameters.items()
            if parameter is not None and parameter.grad is not None and (stepped is None or id(parameter) in stepped)
        ]
        # The gradient's values last: a GPU has to be waited for.
        names = self._of_any_process(with_gradient, lambda name: has_gradient(parameters[name]))
        if names:
            raise ValueError(self._refusal(names, "trained by"))
        if not stepped or self._known.issuperset(stepped):
            return
        strange = [tensor for key, tensor in stepped.items() if key not in self._known]
        names = unregistered(self._root, filter(has_gradient, strange))
        if names:
            raise ValueError(
                f"{_some(names)} would be trained by the fit of task {self._packnet.open_task!r}, but is in a plain "
                f"attribute of {type(self._root).__name__}, where neither checkpoints nor PackNet find it: make it an "
                "nn.Parameter, or its list or dict an nn.ModuleList or nn.ModuleDict; then part of the module that "
                "PackNet was given, private to a task, or free"
            )

    def look(self, *, sure: bool = False, unseen: bool = False) -> None:
        """Checks that everything has the values that were frozen.

        A parameter that gets no gradient, and that an optimizer has or may have, is restored: such are the heads of
        other tasks, which a module may clamp with all its weights.

        Args:
            sure: Whether to look at the values of all, and not only of those that say that they were written to.
            unseen: Whether an optimizer may have stepped unseen: weight decay moves heads of other tasks, too.

        Raises:
            ValueError: If something else changed; it names it.
        """
        if not self._slots and not sure:
            return
        changed = self._of_any_process(self._freezer.suspects(sure=sure), self._freezer.is_changed)
        if not changed:
            return
        stepped = None if unseen else _stepped(self._optimizers())
        learned = self._of_any_process(changed, lambda name: not _is_idle(self._slots[name], stepped))
        if learned:
            raise ValueError(self._refusal(learned, "changed by"))
        self._warn(changed)
        self._freezer.restore_()

    def restore_(self, of: Iterable[Tensor] | None = None) -> None:
        """Restores everything; ``of`` as in :meth:`Freezer.restore_`."""
        if self._slots:
            self._freezer.restore_(of)

    def restore_all_(self, *, warn: bool) -> None:
        """Restores everything in the present layers: some may have been replaced.

        Args:
            warn: Whether to name what had changed since the last look.
        """
        if warn:
            self._warn(self._freezer.changed(sure=True))
        self._freezer.restore_all_()

    def _find(self) -> dict[str, Slot]:
        """Returns what can be frozen of all that is outside now: some may have been added or replaced."""
        found = outside_slots(self._packnet, self._root, self._free)
        emptied = {name: slot for name, slot in self._slots.items() if slot.found is None}
        self._slots = emptied | found
        self._known = {id(parameter) for parameter in self._root.parameters()}
        return {name: slot for name, slot in found.items() if can_be_frozen(slot.whole)}

    def _of_any_process(self, names: Sequence[str], is_so: Callable[[str], bool]) -> list[str]:
        """Returns the ``names`` of which it is so, of sharded ones in the rows of any process: all raise alike then."""
        processes = processes_of(self._slots[name].whole for name in names if self._slots[name].found is not None)
        if processes is None:
            return [name for name in names if is_so(name)]
        counts = processes.sum(torch.tensor([is_so(name) for name in names], dtype=torch.int64))
        return [name for name, count in zip(names, counts.tolist(), strict=True) if count]

    def _warn(self, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self._warned]
        self._warned.update(new)
        if new:
            rank_zero_warn(
                f"{_some(new)} changed in the fit of task {self._packnet.open_task!r}, but {_belongs(new)} neither to "
                "the shared part nor to this task: restored, as finished tasks may use it; "
                f"free={self._holders(new)} lets it change",
            )

    def _refusal(self, names: Sequence[str], how: str) -> str:
        task, holders = self._packnet.open_task, self._holders(names)
        bare = [name for name in holders if find_module(self._root, name) is None]
        own = [*self._packnet.private.get(task or "", []), *(name for name in holders if name not in bare)]
        each = ", one of its own for each task" if self._packnet.tasks else ""
        each += f", with {_some(bare)} in a module" if bare else ""
        eval_mode = "" if all(self._slots[name].is_parameter for name in names) else "; or keep its layer in eval mode"
        return (
            f"{_some(names)} would be {how} the fit of task {task!r}, but {_belongs(names)} neither to the shared "
            f"{type(self._packnet.module).__name__} nor to a task: finished tasks would predict otherwise after later "
            f"ones. Make it part of the module that PackNet was given, or this task's own: private={own}{each}; "
            f"or let it change knowingly: free={holders}{eval_mode}"
        )

    def _holders(self, names: Sequence[str]) -> list[str]:
        """Returns the largest modules of which all parameters are among ``names``, and what is in none of them."""
        learned = {id(self._slots[name].held) for name in names}
        found: list[str] = []
        for name in names:
            *path, _ = name.split(".")
            prefixes = [".".join(path[: depth + 1]) for depth in range(len(path))]
            whole = [prefix for prefix in prefixes if self._is_whole(prefix, learned)]
            holder = (whole[:1] or prefixes[-1:] or [name])[0]
            found += [holder] if holder not in found else []
        return found

    def _is_whole(self, name: str, learned: set[int]) -> bool:
        module = find_module(self._root, name)
        own = {id(parameter) for parameter in module.parameters()} if module is not None else set()
        return bool(own) and own <= learned


def _is_idle(slot: Slot, stepped: Mapping[int, Tensor] | None) -> bool:
    """Returns whether it is like a parameter of another task's head: in an optimizer (None: maybe), no gradient."""
    parameter = slot.held
    if not slot.is_parameter or parameter is None or not parameter.requires_grad:
        return False
    return (stepped is None or id(parameter) in stepped) and not has_gradient(parameter)


def _stepped(optimizers: Iterable[Any]) -> dict[int, Tensor] | None:
    """Returns the tensors that these optimizers move, by id; None if one of them does not list them."""
    found: dict[int, Tensor] = {}
    for optimizer in optimizers:
        groups = getattr(optimizer, "param_groups", None)
        if groups is None:
            return None
        found |= {id(parameter): parameter for group in groups for parameter in group["params"]}
    return found


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _belongs(names: Sequence[str]) -> str:
    return "belongs" if len(names) == 1 else "belong"
