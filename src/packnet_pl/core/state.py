"""The state of PackNet beside the weights, and its transitions in the life of a task.

A state never changes: each step of a task's life returns the next state, which PackNet takes once the work is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from packnet_pl.choices import Keeping, Phase, Prunable, check_task_name
from packnet_pl.core.accumulators import Accumulators
from packnet_pl.core.capacity import check_room
from packnet_pl.core.ownership import all_free, claim, release, trainable
from packnet_pl.core.packed_bits import unpack_mask
from packnet_pl.core.shards import Processes

__all__ = ["State"]

_NO_RANKS: dict[str, Any] = {"trained_rows": {}, "accumulators": None}
"""What weights are ranked by is of the open task alone."""


@dataclass(frozen=True, eq=False)
class State:
    """The whole state of the method, which never changes: each transition makes a new one.

    Attributes:
        tasks: Finished tasks, in order; the k-th (from 1) has owner k.
        open_task: The task that is being trained, or None; its owner is ``len(tasks) + 1``.
        phase: Of the open task: "train" before it was pruned, "retrain" after; None without one.
        owners: Parameter name -> uint8 owner map; of a sharded one, that of this process's rows.
        private: Task -> names of the modules that only it uses, as seen from the user's module.
        fingerprints: Finished task -> tensor name -> fingerprint of what it uses and no earlier task does.
        private_fingerprints: Finished task -> tensor name -> fingerprint of its private modules, as far as known.
        norm: Whether norms (parameters and statistics) are "shared" after the first task or "per_task".
        bias: Whether biases are "shared" after the first task or "per_task".
        copies: Finished task -> tensor name -> its own values of what is kept per task (maybe nothing).
        trained_rows: Name of a table that is divided -> rows (bool) that have had a gradient in the open task; empty
            once it was pruned, unless it is to be pruned on.
        accumulators: What a score of gradients has added up in the open task; None without one, or once it was pruned,
            unless it is to be pruned on.
        prunable: By which rule it was chosen what has owners; "function" if by one of the user's.
        shapes: Finished task -> tensor name -> shape that each tensor had when it was finished; only of tasks that are
            narrower than the module is now.
        masks: Task that uses a learned subset of earlier tasks' weights -> parameter name -> what it does not use, as
            :func:`packnet_pl.core.packed_bits.pack_mask` has it; what is used whole is left out.
    """

    tasks: tuple[str, ...] = ()
    open_task: str | None = None
    phase: Phase | None = None
    owners: Mapping[str, Tensor] = field(default_factory=dict)
    private: Mapping[str, list[str]] = field(default_factory=dict)
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    private_fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    norm: Keeping = "shared"
    bias: Keeping = "shared"
    copies: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    trained_rows: Mapping[str, Tensor] = field(default_factory=dict)
    accumulators: Accumulators | None = None
    prunable: Prunable | Literal["function"] = "weights"
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Finished tasks and the open one: the names that the owner numbers 1, 2, ... stand for."""
        return [*self.tasks, *([self.open_task] if self.open_task is not None else [])]

    def beside(self, weights: Mapping[str, Tensor]) -> "State":
        """Returns the state with each owner map on the device of its weight.

        Without any task, layers may still have been added or taken shape: all weights are free.

        Args:
            weights: Parameter name -> weight, all that can be owned.

        Raises:
            RuntimeError: If these are not the weights that the owners are of.
        """
        if not self.names:
            known = self.owners
            free = {n: known[n] if n in known and _is_beside(known[n], w) else all_free(w) for n, w in weights.items()}
            return replace(self, owners=free)
        if weights.keys() != self.owners.keys():
            changed = sorted(weights.keys() ^ self.owners.keys())
            raise RuntimeError(f"the module's prunable parameters changed since PackNet was made: {changed[:3]}")
        for name, weight in weights.items():
            if self.owners[name].shape != weight.shape:
                raise RuntimeError(
                    f"{name} has shape {tuple(weight.shape)}, its owners {tuple(self.owners[name].shape)}: it was "
                    "replaced"
                )
        if all(self.owners[name].device == weight.device for name, weight in weights.items()):
            return self
        return replace(self, owners={name: owner.to(weights[name].device) for name, owner in self.owners.items()})

    def begin(self, task: str, private: Sequence[str], network: str, processes: Processes | None = None) -> "State":
        """Returns the state in which ``task`` is open, in phase "train", and owns every free weight.

        Args:
            task: A new name.
            private: Names of the modules of this task alone.
            network: What the network is called in errors.
            processes: That have the rows of the owner maps; None if maps are whole.

        Raises:
            CapacityError: If no weight is free, or 255 tasks exist.
            RuntimeError: If a task is open.
            ValueError: If the name is not allowed or taken, or ``private`` is one name instead of a list.
        """
        check_task_name(task)
        if isinstance(private, str):
            raise ValueError(f"private is {private!r}; it takes a list of module names: private=[{private!r}]")
        if self.open_task is not None:
            raise RuntimeError(
                f"cannot begin {task!r}: {self.open_task!r} is open; finish_task() or abort_task() first"
            )
        if task in self.tasks:
            raise ValueError(f"task {task!r} is finished already; finished are {list(self.tasks)}: choose a new name")
        check_room(task, self.tasks, self.owners, network, self.prunable, processes)
        number = len(self.tasks) + 1
        return replace(
            self,
            open_task=task,
            phase="train",
            owners={name: claim(owner, number) for name, owner in self.owners.items()},
            private={**self.private, task: list(private)},
        )

    def train_rows(self, rows: Mapping[str, Tensor]) -> "State":
        """Returns the state in which the open task has trained these rows of tables too.

        Args:
            rows: Name -> bool, one per row.
        """
        before = self.trained_rows
        both = {name: before[name].to(new.device) | new for name, new in rows.items() if name in before}
        return replace(self, trained_rows={**before, **rows, **both})

    def choose(self, unused: Mapping[str, Tensor]) -> "State":
        """Returns the state in which the open task does not use some weights of earlier tasks.

        Args:
            unused: Parameter name -> which, packed.
        """
        others = {task: mask for task, mask in self.masks.items() if task != self.open_task}
        return replace(self, masks={**others, **({self.names[-1]: dict(unused)} if unused else {})})

    def unused(self, task: str) -> dict[str, Tensor]:
        """Returns name -> which weights (bool, beside the owners) of earlier tasks ``task`` does not use."""
        masks = self.masks.get(task, {})
        return {name: unpack_mask(m, self.owners[name].shape).to(self.owners[name].device) for name, m in masks.items()}

    def accumulate(self, accumulators: Accumulators) -> "State":
        """Returns the state in which a score of gradients has added up these sums."""
        return replace(self, accumulators=accumulators)

    def prune(self, released: Mapping[str, Tensor], *, goes_on: bool = False) -> "State":
        """Returns the state in which the open task is in phase "retrain" and the ``released`` weights are free.

        Args:
            released: Parameter name -> bool, the shape of the weight. Their memory becomes that of the owner maps.
            goes_on: Whether the task may be pruned on: what its weights are ranked by is kept.
        """
        owners = {name: release(owner, released[name]) for name, owner in self.owners.items()}
        pruned = replace(self, phase="retrain", owners=owners)
        return pruned if goes_on else replace(pruned, **_NO_RANKS)

    def finish(
        self,
        fingerprints: Mapping[str, str],
        copies: Mapping[str, Tensor],
        private_fingerprints: Mapping[str, str] | None,
    ) -> "State":
        """Returns the state in which the open task is finished.

        Args:
            fingerprints: Tensor name -> fingerprint of what it uses of the shared module and no earlier task does.
            copies: Tensor name -> its own values of what is kept per task.
            private_fingerprints: Tensor name -> fingerprint of its private modules; None if they are not known.
        """
        task = self.names[-1]
        known = {} if private_fingerprints is None else {task: private_fingerprints}
        return replace(
            self,
            tasks=(*self.tasks, task),
            open_task=None,
            phase=None,
            **_NO_RANKS,
            fingerprints={**self.fingerprints, task: fingerprints},
            private_fingerprints={**self.private_fingerprints, **known},
            copies={**self.copies, task: copies},
        )

    def abort(self) -> "State":
        """Returns the state without the open task: what it owned is free."""
        given_back = self.trainable()
        return replace(
            self,
            open_task=None,
            phase=None,
            **_NO_RANKS,
            owners={name: release(owner, given_back[name]) for name, owner in self.owners.items()},
            private={task: names for task, names in self.private.items() if task != self.open_task},
            masks={task: mask for task, mask in self.masks.items() if task != self.open_task},
        )

    def widen(
        self,
        owners: Mapping[str, Tensor],
        fingerprints: Mapping[str, Mapping[str, str]],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> "State":
        """Returns the state of a wider module, in which no task is open.

        Args:
            owners: Parameter name -> owner map of the wider module.
            fingerprints: Finished task -> tensor name -> fingerprint in the wider module.
            shapes: Tensor name -> its shape before: that of finished tasks, unless they are narrower already.
        """
        of_tasks = {task: self.shapes.get(task, shapes) for task in self.tasks}
        return replace(self, owners=owners, fingerprints=fingerprints, shapes=of_tasks)

    def open_number(self, action: str) -> int:
        """Returns the owner number of the open task, which ``action`` needs.

        Raises:
            RuntimeError: If no task is open.
        """
        if self.open_task is None:
            raise RuntimeError(
                f"{action}: no task is open; finished are {list(self.tasks)}; call begin_task(name) first"
            )
        return len(self.tasks) + 1

    def check_unpruned(self, action: str, otherwise: str = "") -> None:
        """Checks that the open task was not pruned yet.

        Args:
            action: What cannot be done to it then.
            otherwise: What the message ends with.

        Raises:
            RuntimeError: Otherwise.
        """
        if self.phase != "train":
            raise RuntimeError(f"cannot {action} {self.open_task!r}: it was pruned already{otherwise}")

    def finished_number(self, task: str) -> int:
        """Returns the owner number of a finished task.

        Raises:
            ValueError: If ``task`` is not finished.
        """
        if task not in self.tasks:
            why = "is still open: it is what the module computes now" if task == self.open_task else "is unknown"
            raise ValueError(f"task {task!r} {why}; subnetwork() shows finished tasks: {list(self.tasks)}")
        return self.tasks.index(task) + 1

    def trainable(self) -> dict[str, Tensor]:
        """Returns parameter name -> mask (bool) of the weights that the open task owns, and may change."""
        number = len(self.tasks) + 1
        return {name: trainable(owner, number) for name, owner in self.owners.items()}


def _is_beside(owner: Tensor, weight: Tensor) -> bool:
    return (owner.shape, owner.device, owner.stride()) == (weight.shape, weight.device, weight.stride())
