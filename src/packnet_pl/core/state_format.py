"""Parses a state from a checkpoint or packed file, and checks that it fits the network."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from packnet_pl.capacity import MAX_TASKS
from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.choices import KEEPINGS, PHASES, PRUNABLES, Prunable, check_choice, check_task_name
from packnet_pl.core.accumulators import Accumulators
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.packed_bits import packed_size
from packnet_pl.core.sharded_reading import IN_LIGHTNING, read_sharded_state
from packnet_pl.core.slots import Slot, tensors_in, wholes_in
from packnet_pl.core.state import State
from packnet_pl.core.state_dump import FORMAT, dump
from packnet_pl.core.state_shapes import check_owners_within, check_shapes, parse_shapes
from packnet_pl.core.state_shards import of_rows
from packnet_pl.counting import counted
from packnet_pl.sharded_files import shards_named

__all__ = ["parse", "read_state", "recorded_prunable"]

_BEFORE_RULES = 2
"""The format before states recorded their rule: what is divided was always the paper's choice, or narrowed from it."""
_BEFORE_SUMS = 3
"""The format before fingerprints were sums; those of tasks that were finished then stay what they are."""
_SOMETIMES = {"trained_rows", "accumulators", "shapes", "masks", "learning"}
"""Keys that a state has where there is something to say."""


def read_state(path: str | PathLike[str]) -> Mapping[str, Any]:
    """Returns the dumped state that a Lightning checkpoint holds; of a sharded network, whole.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the checkpoint is damaged, or holds no PackNet state or more than plain data.
    """
    if Path(path).is_dir():
        return read_sharded_state(path, IN_LIGHTNING)
    checkpoint = read_checkpoint(path)
    if "packnet" not in checkpoint:
        raise ValueError(f"{path} holds no PackNet state; it was not written by a fit with PackNetCallback")
    state = checkpoint["packnet"]
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a PackNet state that is a {type(state).__name__}: it is damaged")
    folder = shards_named(Path(path), checkpoint)
    if folder is not None:
        return read_sharded_state(folder, IN_LIGHTNING)
    return state


def recorded_prunable(dumped: object, here: State) -> Prunable | Literal["function"]:
    """Returns by which rule a dumped state chose what has owners.

    Args:
        dumped: The dict.
        here: The state that it is to replace.

    Raises:
        ValueError: If that is no rule, or a function was given here, and the state was made with a rule.
    """
    if not isinstance(dumped, Mapping) or "prunable" not in dumped:
        return "function" if here.prunable == "function" else "paper"
    given = dumped["prunable"]
    if here.prunable == "function" and given in PRUNABLES:
        raise ValueError(
            f"the state was made with prunable={given!r}, and this PackNet with a function: make it without, or use "
            "PackNet.from_checkpoint(), which reads the rule"
        )
    return given if given == "function" else check_choice("prunable", given, PRUNABLES)


def parse(dumped: Mapping[str, Any], here: State, inventory: Inventory) -> State:
    """Parses what :func:`packnet_pl.core.state_dump.dump` wrote.

    Args:
        dumped: The dict.
        here: The state that it is to replace: norms and biases must be shared, or each task's own, as in it.
        inventory: The tensors of the network that it must belong to, by the rule of :func:`recorded_prunable`.

    Raises:
        ValueError: If it is of another format, belongs to another network, keeps norms or biases otherwise, or
            contradicts itself.
    """
    _check_keys(dumped, here)
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
            prunable=recorded_prunable(dumped, here),
            trained_rows=dict(dumped.get("trained_rows", {})),
            accumulators=_accumulators(dumped.get("accumulators")),
            copies={task: dict(copies) for task, copies in dumped["copies"].items()},
            shapes=parse_shapes(dumped.get("shapes", {})),
            masks={task: dict(mask) for task, mask in dumped.get("masks", {}).items()},
        )
        state = of_rows(state, wholes_in(inventory.of_tasks))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"PackNet state is malformed: {error}") from error
    check_shapes(state, _shapes(inventory.all))
    _check_owners(state, _shapes(inventory.owned))
    check_owners_within(state)
    _check_copies(state, _shapes(inventory.per_task))
    _check_tasks(state)
    _check_fingerprints(state)
    _check_rows(state)
    _check_masks(state)
    _check_accumulators(state)
    return state


def _check_keys(dumped: Mapping[str, Any], here: State) -> None:
    expected = set(dump(here))
    if isinstance(dumped, Mapping) and dumped.get("format") == _BEFORE_RULES:
        expected.discard("prunable")
    if not isinstance(dumped, Mapping):
        raise ValueError(f"a PackNet state has the keys {sorted(expected)}; this one has {type(dumped).__name__}")
    for what, own in (("norm", here.norm), ("bias", here.bias)):
        given = dumped.get(what)
        if given in KEEPINGS and given != own:
            raise ValueError(
                f"the state was made with {what}={given!r}, and this PackNet with {what}={own!r}: make it with "
                f"{what}={given!r}, or use PackNet.from_checkpoint(), which reads it"
            )
    if dumped.get("format", FORMAT) not in (_BEFORE_RULES, _BEFORE_SUMS, FORMAT):
        reads = f"formats {_BEFORE_RULES} to {FORMAT}"
        raise ValueError(f"PackNet state has format {dumped['format']!r}; this version reads {reads}")
    if set(dumped) - _SOMETIMES != expected - _SOMETIMES:
        raise ValueError(f"a PackNet state has the keys {sorted(expected)}; this one has {list(map(str, dumped))}")


def _shapes(slots: Mapping[str, Slot]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors_in(slots).items()}


def _check_owners(state: State, shapes: Mapping[str, torch.Size]) -> None:
    missing, unknown = sorted(set(shapes) - set(state.owners)), sorted(set(state.owners) - set(shapes))
    if missing or unknown:
        other = ", or prunable is another function than it was made with" if state.prunable == "function" else ""
        raise ValueError(
            f"PackNet state belongs to another network{other}: {counted(len(missing), 'parameter')} without owners "
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
        own = {name: state.shapes[task][name] for name in shapes} if task in state.shapes else dict(shapes)
        if found != own:
            wrong = sorted({*found, *own} - {name for name in found if found[name] == own.get(name)})
            raise ValueError(f"PackNet state: task {task!r} has other norms or biases than the network: {wrong[:3]}")


def _check_tasks(state: State) -> None:
    for task in state.names:
        check_task_name(task)
    if len(set(state.names)) != len(state.names) or len(state.names) > MAX_TASKS:
        raise ValueError(f"PackNet state names {state.names}: at most {MAX_TASKS} tasks, each once")
    if (state.phase is None) != (state.open_task is None) or state.phase not in (None, *PHASES):
        raise ValueError(f"PackNet state has open task {state.open_task!r} in phase {state.phase!r}")


def _check_rows(state: State) -> None:
    for name, rows in state.trained_rows.items():
        shape = state.owners[name].shape[:1] if name in state.owners else None
        if state.phase is None or getattr(rows, "dtype", None) != torch.bool or rows.shape != shape:
            raise ValueError(f"PackNet state: {name!r} is no table whose rows its open task trains")


def _check_masks(state: State) -> None:
    for task, mask in state.masks.items():
        if task not in state.names[1:]:
            raise ValueError(f"PackNet state: task {task!r} has a mask, and there is no task before it")
        for name, packed in mask.items():
            size = (packed_size(state.owners[name].shape),) if name in state.owners else None
            if getattr(packed, "dtype", None) != torch.uint8 or packed.shape != size:
                raise ValueError(f"PackNet state: the mask of task {task!r} for {name!r} is not a bit for each weight")


def _accumulators(dumped: Any) -> Accumulators | None:
    return None if dumped is None else Accumulators(dumped["score"], dict(dumped["sums"]))


def _check_accumulators(state: State) -> None:
    if state.accumulators is None:
        return
    score, sums = state.accumulators.score, state.accumulators.sums
    if state.phase is None or not isinstance(score, str):
        raise ValueError(f"PackNet state: {score!r} is no score that its open task adds up")
    for name, total in sums.items():
        shape = state.owners[name].shape if name in state.owners else None
        if not isinstance(total, Tensor) or not total.is_floating_point() or total.shape != shape:
            raise ValueError(f"PackNet state: the sum of {name!r} is no float per entry of a weight")


def _check_fingerprints(state: State) -> None:
    for of_tasks in (state.fingerprints, state.private_fingerprints):
        every = [found for of_task in of_tasks.values() for found in of_task.values()]
        if not all(isinstance(found, str) and found.isascii() and found.isprintable() for found in every):
            raise ValueError("PackNet state: a fingerprint is not a string of letters and digits")
    tasks, names = set(state.tasks), set(state.names)
    if set(state.fingerprints) != tasks or not set(state.private) <= names:
        raise ValueError("PackNet state: fingerprints or private modules do not belong to its tasks")
    if not set(state.private_fingerprints) <= tasks:
        raise ValueError("PackNet state: fingerprints of private modules do not belong to its tasks")
