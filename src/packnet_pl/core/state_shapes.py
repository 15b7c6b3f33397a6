"""Parses and checks the shapes that a dumped state has of tasks that are narrower than the network."""

from collections.abc import Mapping
from typing import Any

from packnet_pl.core.narrow import leading
from packnet_pl.core.ownership import visible
from packnet_pl.core.state import State

__all__ = ["check_owners_within", "check_shapes", "parse_shapes"]


def parse_shapes(dumped: Any) -> dict[str, dict[str, tuple[int, ...]]]:
    """Parses the entry "shapes" of :func:`packnet_pl.core.state_dump.dump`.

    Raises:
        ValueError: If it is no mapping of tasks to names and lists of numbers.
    """
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for task, shapes in dumped.items():
        found[task] = {name: tuple(shape) for name, shape in shapes.items()}
        for name, shape in found[task].items():
            if any(type(size) is not int or size < 0 for size in shape):
                raise ValueError(f"shape of {name} for task {task!r} is {list(shape)}; allowed is a list of counts")
    return found


def check_shapes(state: State, present: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that narrower tasks are finished, and no wider than the network.

    Args:
        state: With the shapes.
        present: Name -> shape of each tensor of the network.

    Raises:
        ValueError: Otherwise.
    """
    unknown = sorted(set(state.shapes) - set(state.tasks))
    if unknown:
        raise ValueError(f"PackNet state: shapes of {unknown[:3]}, which are no finished tasks")
    for task, shapes in state.shapes.items():
        if shapes.keys() != present.keys():
            wrong = sorted(shapes.keys() ^ present.keys())
            raise ValueError(f"PackNet state: task {task!r} has shapes of other tensors than the network: {wrong[:3]}")
        for name, shape in shapes.items():
            now = tuple(present[name])
            if len(shape) != len(now) or any(size > most for size, most in zip(shape, now, strict=True)):
                raise ValueError(f"PackNet state: {name} is {shape} for task {task!r}, and {now} in the network")


def check_owners_within(state: State) -> None:
    """Checks that narrower tasks own nothing beyond their shapes.

    Raises:
        ValueError: Otherwise.
    """
    for number, task in enumerate(state.tasks, start=1):
        following = state.tasks[number] if number < len(state.tasks) else None
        if task not in state.shapes or state.shapes[task] == state.shapes.get(following or ""):
            continue  # a task that is as wide comes later, and has the same bounds
        for name, owner in state.owners.items():
            within = leading(owner, state.shapes[task][name])
            if visible(owner, number).sum() != visible(within, number).sum():
                raise ValueError(f"PackNet state: a task up to {task!r} owns weights of {name} beyond its shape")
