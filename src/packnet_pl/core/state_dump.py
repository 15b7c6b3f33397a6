"""Dumps a state: as tensors and primitives, or as one hash of all that is in it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from packnet_pl.core.content_hash import content_hash
from packnet_pl.core.state import State

__all__ = ["FORMAT", "digest", "dump"]

FORMAT = 4
"""Of a dumped state."""

_Path = tuple[str, ...]
_HASHED = ("owners", "copies", "trained_rows", "accumulators", "masks")


def dump(state: State) -> dict[str, Any]:
    """Returns a state as a dict of tensors and primitives; ``state_format`` parses it."""
    rows: dict[str, Any] = {"trained_rows": dict(state.trained_rows)} if state.trained_rows else {}
    if state.accumulators is not None:
        rows["accumulators"] = {"score": state.accumulators.score, "sums": dict(state.accumulators.sums)}
    plain = {task: {name: list(shape) for name, shape in of.items()} for task, of in state.shapes.items()}
    shapes = {"shapes": plain} if plain else {}
    masks = {"masks": {task: dict(mask) for task, mask in state.masks.items()}} if state.masks else {}
    return {
        "format": FORMAT,
        "tasks": list(state.tasks),
        "open_task": state.open_task,
        "phase": state.phase,
        "owners": dict(state.owners),
        "private": {task: list(names) for task, names in state.private.items()},
        "fingerprints": {task: dict(found) for task, found in state.fingerprints.items()},
        "private_fingerprints": {task: dict(found) for task, found in state.private_fingerprints.items()},
        "norm": state.norm,
        "bias": state.bias,
        "prunable": state.prunable,
        "copies": {task: dict(copies) for task, copies in state.copies.items()},
        **rows,
        **shapes,
        **masks,
    }


def digest(state: State, hashes: Callable[[Mapping[_Path, Tensor]], Mapping[_Path, str]] | None = None) -> str:
    """Returns a BLAKE2b hash (hex) of a whole state: equal in processes that have the same one.

    Args:
        state: What is known.
        hashes: Returns what stands for tensors, from those in the state by their place; None is their content hashes.
    """
    plain = {key: value for key, value in dump(state).items() if key not in _HASHED}
    tensors = dict(_tensors(state))
    found = {at: content_hash(t) for at, t in tensors.items()} if hashes is None else dict(hashes(tensors))
    score = None if state.accumulators is None else state.accumulators.score
    return hashlib.blake2b(repr((plain, score, found)).encode(), digest_size=16).hexdigest()


def _tensors(state: State) -> Iterator[tuple[_Path, Tensor]]:
    sums = {} if state.accumulators is None else state.accumulators.sums
    for key, of in {"owners": state.owners, "trained_rows": state.trained_rows, "accumulators": sums}.items():
        yield from (((key, name), tensor) for name, tensor in of.items())
    for key, of_tasks in {"copies": state.copies, "masks": state.masks}.items():
        yield from (((key, task, name), t) for task, of in of_tasks.items() for name, t in of.items())
