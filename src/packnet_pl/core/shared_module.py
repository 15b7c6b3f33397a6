"""The shared module and what is known of its tasks, kept in step: found by name, frozen, verified, and shown."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from packnet_pl.choices import KEEPINGS, Keeping, Prunable, check_choice
from packnet_pl.core.compiled import check_weights_are_read
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.gradients import RequiresGrad
from packnet_pl.core.inventory import Inventory, take_inventory
from packnet_pl.core.module_modes import in_eval_mode, layers_with_statistics
from packnet_pl.core.open_mask import OpenMask
from packnet_pl.core.prunable import PrunableRule, check_prunable, rule_named
from packnet_pl.core.sharded_checks import check_sharded
from packnet_pl.core.shards import reshard_
from packnet_pl.core.slots import tensors_in, wholes_in
from packnet_pl.core.state import State
from packnet_pl.core.state_format import parse, recorded_prunable
from packnet_pl.core.subnetwork import shown_task
from packnet_pl.core.task_freezer import TaskFreezer
from packnet_pl.core.unowned import warn_of_later
from packnet_pl.core.verification import VerifiedCopies, check_private, check_shared

__all__ = ["SharedModule"]


class SharedModule:
    """A module that tasks share, with the state of the tasks and the mask of the open one, which belong together.

    Args:
        module: The shared part of the network.
        prunable: As for :class:`packnet_pl.PackNet`, and so are the others.
        norm: "shared" or "per_task".
        bias: "shared" or "per_task".

    Attributes:
        module: As given, or the wider one that took its place.
        state: Of the tasks, beside the weights.
        mask: What the open task does not compute with.
        frozen: What of the module is frozen now.
        requires_grad: Turns ``requires_grad`` off during a fit.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        module: nn.Module,
        prunable: Prunable | PrunableRule = "weights",
        *,
        norm: Keeping = "shared",
        bias: Keeping = "shared",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"PackNet was given a {type(module).__name__}; it takes the nn.Module that all tasks share"
            )
        given = check_prunable(prunable)
        self._function = None if isinstance(given, str) else given
        self.module = module
        self.state = State(
            norm=check_choice("norm", norm, KEEPINGS),
            bias=check_choice("bias", bias, KEEPINGS),
            prunable=given if isinstance(given, str) else "function",
        )
        self.mask = OpenMask()
        self.frozen = TaskFreezer(self.inventory)
        self.requires_grad = RequiresGrad()
        self._verified = VerifiedCopies()
        self._shown: str | None = None

    @classmethod
    def of_state(cls, module: nn.Module, dumped: Mapping[str, Any]) -> "SharedModule":
        """Returns a module with the state that was dumped of it, and by the rule of that.

        Raises:
            ValueError: As :meth:`load_`.
        """
        shared = cls(module, norm=dumped.get("norm", "shared"), bias=dumped.get("bias", "shared"))
        shared.load_(dumped)
        return shared

    def inventory(self) -> Inventory:
        """Finds the tensors of the module by name, and brings the owner maps to their devices.

        Raises:
            RuntimeError: If these are not the weights that tasks own.
        """
        reshard_(self.module)
        inventory = self.inventory_of(self.module)
        if self._shown not in self.state.shapes:  # a narrower task has tensors of its own while it is shown
            self.state = self.state.beside(tensors_in(inventory.owned))
        return inventory

    def inventory_of(
        self, module: nn.Module, prunable: str | None = None, owned: Collection[str] | None = None
    ) -> Inventory:
        """Finds the tensors of a module as those of this one are found.

        Args:
            module: This one, or another with the same tensors.
            prunable: The rule by which weights are divided among tasks; None is the state's.
            owned: Names of the weights that are, which a function that only another process has chose; None is the
                state's.
        """
        state = self.state
        rule = rule_named(prunable or state.prunable, self._function, state.owners if owned is None else owned)
        return take_inventory(module, rule, own_norms=state.norm == "per_task", own_biases=state.bias == "per_task")

    @property
    def freezer(self) -> Freezer:
        """Freezes what the open task may not change; between tasks, buffers that forward passes change unnoticed.

        Raises:
            RuntimeError: While another view is shown.
        """
        self.refuse_inside("PackNet.freezer")
        if self.frozen.freezer is None and self.state.open_task is not None:
            # The state was loaded: only now the weights surely are, too.
            self.inventory()
            self.frozen.freeze_while_open(self.module, self.state)
        return self.frozen.freezer or Freezer(dict)

    def restored(self) -> Inventory:
        """Restores what finished tasks use, and returns the inventory."""
        inventory = self.inventory()
        self.freezer.restore_all_()
        return inventory

    def open_(self, state: State, *, is_restored: bool = False) -> None:
        """Freezes what the open task of ``state`` may not change, and then takes that state, with a mask to be learned.

        Args:
            state: With an open task, in the phase that begins.
            is_restored: Whether the same task was open before, and everything has just been restored.
        """
        self.frozen.freeze_while_open(self.module, state, is_restored=is_restored)
        self.state, self.mask = state, OpenMask()

    def close_(self, state: State) -> None:
        """Takes a ``state`` in which no task is open any more."""
        self.frozen.end()
        self.state, self.mask = state, OpenMask()
        self.frozen.freeze_between_tasks(state)

    def load_(self, dumped: Mapping[str, Any]) -> None:
        """Takes the state that was dumped, before or after the weights are loaded.

        Raises:
            RuntimeError: While another view is shown.
            ValueError: If it belongs to another network, keeps norms or biases otherwise, or contradicts itself.
        """
        self.refuse_inside("load_state_dict")
        recorded = recorded_prunable(dumped, self.state)
        owners = dumped.get("owners") if isinstance(dumped, Mapping) else None
        reshard_(self.module)
        inventory = self.inventory_of(self.module, recorded, owners or {})
        state = parse(dumped, self.state, inventory)
        check_sharded(state, inventory.processes)
        mask = OpenMask.parse(dumped, wholes_in(inventory.owned))
        if "prunable" not in dumped:
            warn_of_later(inventory, self.inventory(), state.prunable, self.state.prunable)
        self.frozen.end()
        self.frozen.freeze_statistics(self.module, state)
        self._verified = VerifiedCopies()
        self.state, self.mask = state, mask

    def resume_(self, root: nn.Module | None) -> None:
        """Freezes what the open task may not change anew, at the values that it has; arguments as :meth:`verify`.

        Raises:
            RuntimeError: If a finished task's weights were changed from outside.
        """
        if self.frozen.freezer is not None:
            self.frozen.freezer.restore_buffers_()  # a forward pass between two fits may have moved them
        self._check(root)
        self.frozen.freeze_while_open(self.module, self.state)

    def verify(self, root: nn.Module | None) -> None:
        """Restores what is frozen, and checks that finished tasks' weights are, bit for bit, what they were.

        Args:
            root: The module that has the tasks' private modules; None leaves them out.

        Raises:
            RuntimeError: Otherwise, or while another view is shown; it names the task and the parameter.
        """
        self.refuse_inside("verify")
        if self.frozen.freezer is not None:
            self.frozen.freezer.restore_all_()
        self._check(root)
        if self.state.open_task is None:
            self.frozen.freeze_between_tasks(self.state)

    @contextmanager
    def subnetwork(self, task: str) -> Iterator[None]:
        """Shows the module as it was when ``task`` was finished: see :meth:`packnet_pl.PackNet.subnetwork`.

        Raises:
            RuntimeError: While another view is shown, or if the module was compiled with weights as constants.
            ValueError: If ``task`` is not finished.
        """
        self.refuse_inside("subnetwork")
        self.state.finished_number(task)
        check_weights_are_read(self.module)
        self.restored()
        with (
            self.requires_grad.restored(),
            shown_task(self.module, self.state, task, self.inventory),
            in_eval_mode(layers_with_statistics(self.module)),
        ):
            self._shown = task
            try:
                yield
            finally:
                self._shown = None

    def open_number(self, action: str) -> int:
        """Returns the owner number of the open task, which ``action`` needs.

        Raises:
            RuntimeError: If no task is open, or another view is shown.
        """
        self.refuse_inside(action)
        return self.state.open_number(action)

    def refuse_inside(self, action: str) -> None:
        """Refuses ``action`` while the module is shown otherwise than it is.

        Raises:
            RuntimeError: Inside :meth:`subnetwork` and :meth:`masked`.
        """
        if self._shown is not None:
            raise RuntimeError(f"{action} inside subnetwork({self._shown!r}): leave the with block first")
        if self.mask.is_shown:
            task = self.state.open_task
            raise RuntimeError(f"{action} inside masked(), in which task {task!r} computes: leave it first")

    def _check(self, root: nn.Module | None) -> None:
        inventory = self.inventory()
        owned, frozen, own = map(wholes_in, (inventory.owned, inventory.frozen, inventory.per_task))
        check_shared(self.state, owned, frozen, self._verified, own)
        if root is not None:
            check_private(self.state, root)
