"""Reading a state that was written to a checkpoint or packed file, and checking that it fits the network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from packnet_pl.capacity import MAX_TASKS
from packnet_pl.choices import KEEPINGS, PHASES, check_choice, check_task_name
from packnet_pl.core.state import FORMAT, State
from packnet_pl.counting import counted

__all__ = ["parse"]


def parse(dumped: Mapping[str, Any], owned: Mapping[str, torch.Size], copied: Mapping[str, torch.Size]) -> State:
    """Reads what :meth:`State.dump` wrote.

    Args:
        dumped: The dict.
        owned: Parameter name -> shape that the owner maps must have.
        copied: Name -> shape of the tensors of which each task must have its own copy.

    Raises:
        ValueError: If it is of another format, belongs to another network, or contradicts itself.
    """
    _check_keys(dumped)
    try:
        state = State(
            tasks=tuple(dumped["tasks"]),
            open_task=dumped["open_task"],
            phase=dumped["phase"],
            owners=dict(dumped["owners"]),
            private={task: list(names) for task, names in dumped["private"].items()},
            fingerprints={task: dict(found) for task, found in dumped["fingerprints"].items()},
            private_fingerprints={task: dict(found) for task, found in dumped["private_fingerprints"].items()},
            norm=check_choice("norm", dumped["norm"], KEEPINGS),
            bias=check_choice("bias", dumped["bias"], KEEPINGS),
            copies={task: dict(copies) for task, copies in dumped["copies"].items()},
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"PackNet state is malformed: {error}") from error
    _check_owners(state, owned)
    _check_copies(state, copied)
    _check_tasks(state)
    _check_fingerprints(state)
    return state


def _check_keys(dumped: Mapping[str, Any]) -> None:
    expected = set(State().dump())
    if not isinstance(dumped, Mapping):
        raise ValueError(f"a PackNet state has the keys {sorted(expected)}; this one has {type(dumped).__name__}")
    if dumped.get("format", FORMAT) != FORMAT:
        raise ValueError(f"PackNet state has format {dumped['format']!r}; this version reads format {FORMAT}")
    if set(dumped) != expected:
        raise ValueError(f"a PackNet state has the keys {sorted(expected)}; this one has {list(map(str, dumped))}")


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
        raise ValueError(
            f"PackNet state: tasks {sorted(state.copies)} have copies of their own, not {list(state.tasks)}"
        )
    for task, copies in state.copies.items():
        found = {name: getattr(copy, "shape", None) for name, copy in copies.items()}
        if found != dict(shapes):
            wrong = sorted({*found, *shapes} - {name for name in found if found[name] == shapes.get(name)})
            raise ValueError(f"PackNet state: task {task!r} has other norms or biases than the network: {wrong[:3]}")


def _check_tasks(state: State) -> None:
    for task in state.names:
        check_task_name(task)
    if len(set(state.names)) != len(state.names) or len(state.names) > MAX_TASKS:
        raise ValueError(f"PackNet state names {state.names}: at most {MAX_TASKS} tasks, each once")
    if (state.phase is None) != (state.open_task is None) or state.phase not in (None, *PHASES):
        raise ValueError(f"PackNet state has open task {state.open_task!r} in phase {state.phase!r}")


def _check_fingerprints(state: State) -> None:
    for of_tasks in (state.fingerprints, state.private_fingerprints):
        if not all(isinstance(found, str) for of_task in of_tasks.values() for found in of_task.values()):
            raise ValueError("PackNet state: a fingerprint is not a string")
    tasks, names = set(state.tasks), set(state.names)
    if set(state.fingerprints) != tasks or not set(state.private) <= names:
        raise ValueError("PackNet state: fingerprints or private modules do not belong to its tasks")
    if not set(state.private_fingerprints) <= tasks:
        raise ValueError("PackNet state: fingerprints of private modules do not belong to its tasks")
