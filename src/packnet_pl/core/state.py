"""What PackNet knows beside the weights, its form on disk, and the check of a form read back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from packnet_pl.capacity import MAX_TASKS
from packnet_pl.choices import KEEPINGS, PHASES, Keeping, Phase, check_choice, check_task_name
from packnet_pl.core.fingerprints import fingerprint
from packnet_pl.counting import counted

__all__ = ["State"]

FORMAT = 2


@dataclass
class State:
    """The one state of the method.

    Attributes:
        tasks: Finished tasks, in order; the k-th (from 1) has owner k.
        open_task: The task that is being trained, or None; its owner is ``len(tasks) + 1``.
        phase: Of the open task: "train" before it was pruned, "retrain" after; None without one.
        owners: Parameter name -> uint8 owner map.
        private: Task -> names of the modules that only it uses, as seen from the user's module.
        fingerprints: Finished task -> tensor name -> fingerprint of what it uses and no earlier task does.
        private_fingerprints: Finished task -> tensor name -> fingerprint of its private modules, as far as known.
        norm: Whether norms (parameters and statistics) are "shared" after the first task or "per_task".
        bias: Whether biases are "shared" after the first task or "per_task".
        copies: Finished task -> tensor name -> its own values of what is kept per task (maybe nothing).
    """

    tasks: list[str] = field(default_factory=list)
    open_task: str | None = None
    phase: Phase | None = None
    owners: dict[str, Tensor] = field(default_factory=dict)
    private: dict[str, list[str]] = field(default_factory=dict)
    fingerprints: dict[str, dict[str, str]] = field(default_factory=dict)
    private_fingerprints: dict[str, dict[str, str]] = field(default_factory=dict)
    norm: Keeping = "shared"
    bias: Keeping = "shared"
    copies: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Finished tasks and the open one: the names that the owner numbers 1, 2, ... stand for."""
        return [*self.tasks, self.open_task] if self.open_task is not None else list(self.tasks)

    def dump(self) -> dict[str, Any]:
        """Returns the state as a dict of tensors and primitives."""
        return {
            "format": FORMAT,
            "tasks": list(self.tasks),
            "open_task": self.open_task,
            "phase": self.phase,
            "owners": dict(self.owners),
            "private": {task: list(names) for task, names in self.private.items()},
            "fingerprints": {task: dict(marks) for task, marks in self.fingerprints.items()},
            "private_fingerprints": {task: dict(marks) for task, marks in self.private_fingerprints.items()},
            "norm": self.norm,
            "bias": self.bias,
            "copies": {task: dict(copies) for task, copies in self.copies.items()},
        }

    def digest(self) -> str:
        """Returns a BLAKE2b hash (hex) of everything in it."""
        plain = {key: value for key, value in self.dump().items() if key not in ("owners", "copies")}
        owners = {name: fingerprint(owner) for name, owner in self.owners.items()}
        copies = {task: {name: fingerprint(t) for name, t in found.items()} for task, found in self.copies.items()}
        return hashlib.blake2b(repr((plain, owners, copies)).encode(), digest_size=16).hexdigest()

    @classmethod
    def parse(
        cls, dumped: Mapping[str, Any], owned: Mapping[str, torch.Size], copied: Mapping[str, torch.Size]
    ) -> "State":
        """Reads what :meth:`dump` wrote.

        Args:
            dumped: The dict.
            owned: Parameter name -> shape that the owner maps must have.
            copied: Name -> shape of the tensors of which each task must have its own copy.

        Raises:
            ValueError: If it is of another format, belongs to another network, or contradicts itself.
        """
        expected = set(cls().dump())
        if not isinstance(dumped, Mapping) or set(dumped) != expected:
            if isinstance(dumped, Mapping) and dumped.get("format", FORMAT) != FORMAT:
                raise ValueError(f"PackNet state has format {dumped['format']!r}; this version reads format {FORMAT}")
            found = [str(key) for key in dumped] if isinstance(dumped, Mapping) else type(dumped).__name__
            raise ValueError(f"a PackNet state has the keys {sorted(expected)}; this one has {found}")
        if dumped["format"] != FORMAT:
            raise ValueError(f"PackNet state has format {dumped['format']!r}; this version reads format {FORMAT}")
        try:
            state = cls(
                list(dumped["tasks"]),
                dumped["open_task"],
                dumped["phase"],
                dict(dumped["owners"]),
                {task: list(names) for task, names in dumped["private"].items()},
                {task: dict(marks) for task, marks in dumped["fingerprints"].items()},
                {task: dict(marks) for task, marks in dumped["private_fingerprints"].items()},
                check_choice("norm", dumped["norm"], KEEPINGS),
                check_choice("bias", dumped["bias"], KEEPINGS),
                {task: dict(copies) for task, copies in dumped["copies"].items()},
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"PackNet state is malformed: {error}") from error
        _check_owners(state, owned)
        _check_copies(state, copied)
        for task in state.names:
            check_task_name(task)
        if len(set(state.names)) != len(state.names) or len(state.names) > MAX_TASKS:
            raise ValueError(f"PackNet state names {state.names}: at most {MAX_TASKS} tasks, each once")
        if (state.phase is None) != (state.open_task is None) or state.phase not in (None, *PHASES):
            raise ValueError(f"PackNet state has open task {state.open_task!r} in phase {state.phase!r}")
        marks = [
            m
            for of in (state.fingerprints, state.private_fingerprints)
            for found in of.values()
            for m in found.values()
        ]
        if not all(isinstance(mark, str) for mark in marks):
            raise ValueError("PackNet state: a fingerprint is not a string")
        tasks, names = set(state.tasks), set(state.names)
        if set(state.fingerprints) != tasks or not set(state.private) <= names:
            raise ValueError("PackNet state: fingerprints or private modules do not belong to its tasks")
        if not set(state.private_fingerprints) <= tasks:
            raise ValueError("PackNet state: fingerprints of private modules do not belong to its tasks")
        return state


def _check_owners(state: State, shapes: Mapping[str, torch.Size]) -> None:
    missing, unknown = sorted(set(shapes) - set(state.owners)), sorted(set(state.owners) - set(shapes))
    if missing or unknown:
        raise ValueError(
            f"PackNet state belongs to another network: {counted(len(missing), 'parameter')} without owners "
            f"{missing[:3]}, {counted(len(unknown), 'owner map')} without a parameter {unknown[:3]}"
        )
    for name, owner in state.owners.items():
        if not isinstance(owner, Tensor) or owner.dtype != torch.uint8 or owner.shape != shapes[name]:
            given = f"{owner.dtype} {tuple(owner.shape)}" if isinstance(owner, Tensor) else type(owner).__name__
            raise ValueError(f"PackNet state: owners of {name} are {given}; expected uint8 {tuple(shapes[name])}")
        if owner.numel() and int(owner.max()) > len(state.names):
            raise ValueError(
                f"PackNet state: {name} has owner {int(owner.max())}, with {counted(len(state.names), 'task')}"
            )


def _check_copies(state: State, shapes: Mapping[str, torch.Size]) -> None:
    if set(state.copies) != set(state.tasks):
        raise ValueError(f"PackNet state: tasks {sorted(state.copies)} have copies of their own, not {state.tasks}")
    for task, copies in state.copies.items():
        found = {name: getattr(copy, "shape", None) for name, copy in copies.items()}
        if found != dict(shapes):
            wrong = sorted({*found, *shapes} - {name for name in found if found[name] == shapes.get(name)})
            raise ValueError(f"PackNet state: task {task!r} has other norms or biases than the network: {wrong[:3]}")
