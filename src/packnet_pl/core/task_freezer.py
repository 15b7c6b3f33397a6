"""What of the shared module is frozen when: while its first task is open, while a later one is, and between two.

=====================  =================================================================================
first task, train      nothing
first task, retrain    the weights that it gave up, at zero
later task             weights of other tasks and of none, and all tensors that are not divided among tasks
between two tasks      buffers that a forward pass changes and no fingerprint, or no fit, would notice
=====================  =================================================================================

What each task has of its own (``norm="per_task"``, ``bias="per_task"``) is never frozen: PackNet keeps copies.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from packnet_pl.core.freezing import Freezer
from packnet_pl.core.hiding import EVERY_TASK, hide_
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.module_modes import EvalMode, is_norm, is_observer, layers_with_statistics
from packnet_pl.core.rows import tables_in
from packnet_pl.core.shards import is_shard
from packnet_pl.core.slots import Slot, tensors_in
from packnet_pl.core.state import State
from packnet_pl.core.written_buffers import BufferWarnings

__all__ = ["TaskFreezer"]


class TaskFreezer:
    """Freezes the shared module, at the values that it has when asked to, for one part of a task's life at a time.

    Args:
        find: Returns the inventory of the module as it is now.

    Attributes:
        freezer: Of what is frozen now; None if that is nothing, or a state was loaded for which nobody asked yet.
        owned: Name -> slot of each weight that is divided among tasks, when the open one was frozen last.
        tables: Those of them whose rows are looked up one by one.
        is_sharded: Whether processes have parts of them.
    """

    def __init__(self, find: Callable[[], Inventory]) -> None:
        self._find = find
        self.freezer: Freezer | None = None
        self.owned: Mapping[str, Slot] = {}
        self.tables: Mapping[str, Slot] = {}
        self.is_sharded = False
        self._eval_mode = EvalMode()
        self._warnings = BufferWarnings()

    def freeze_while_open(self, module: nn.Module, state: State, *, is_restored: bool = False) -> None:
        """Freezes what the open task of ``state`` may not change: what was pruned at zero, the rest as it is.

        Statistics that are frozen are kept from moving.

        Args:
            module: The shared module.
            state: With the open task.
            is_restored: Whether that task has been frozen before, and everything has just been restored.
        """
        owned = self._find().owned
        if state.phase == "retrain":
            # Also where other weights were loaded, or an optimizer's step was not followed by a restore.
            hide_(tensors_in(owned), state.owners, EVERY_TASK)
        self.freezer = Freezer(
            partial(_while_open, self._find, is_first=not state.tasks),
            state.owners,
            len(state.tasks) + 1,
            eval_mode=self._eval_mode,
            on_written=self._warnings.in_training,
            known=self.freezer if is_restored else None,
        )
        self.freeze_statistics(module, state)
        self.owned, self.tables = owned, tables_in(owned)
        self.is_sharded = any(is_shard(slot.held) for slot in owned.values())

    def freeze_statistics(self, module: nn.Module, state: State) -> None:
        """Keeps layers in eval mode, while a later task is open, whose forward pass would move frozen statistics."""
        layers = layers_with_statistics(module) if state.tasks and state.open_task is not None else []
        own_norms = state.norm == "per_task"
        self._eval_mode.keep(layer for layer in layers if not (own_norms and is_norm(layer)))

    def freeze_between_tasks(self, state: State) -> None:
        """Freezes what forward passes change without anybody noticing: before a task is finished, nobody needs it."""
        if state.tasks:
            warn = self._warnings.between_tasks
            self.freezer = Freezer(partial(_between_tasks, self._find), on_written=warn, leaves_converted=True)

    def end(self) -> None:
        """Freezes nothing any more."""
        self._eval_mode.end()
        self._warnings.forget()
        self.freezer = None


def _while_open(find: Callable[[], Inventory], *, is_first: bool) -> dict[str, Slot]:
    """The first task trains everything; what is not divided among tasks, or each task's own, is frozen after it."""
    inventory = find()
    return inventory.owned if is_first else inventory.owned | inventory.fixed


def _between_tasks(find: Callable[[], Inventory]) -> dict[str, Slot]:
    """Buffers of observers, which write in eval mode too, and those that no file, so no fingerprint, knows."""
    fixed = find().fixed
    return {n: s for n, s in fixed.items() if not s.is_parameter and (is_observer(s.layer) or not s.is_saved)}
