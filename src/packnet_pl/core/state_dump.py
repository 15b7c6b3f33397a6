"""Dumps a state: as tensors and primitives, or as one hash of all that is in it."""

import hashlib
from typing import Any

from packnet_pl.core.content_hash import content_hash
from packnet_pl.core.state import State

__all__ = ["FORMAT", "digest", "dump"]

FORMAT = 4
"""Of a dumped state."""

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


def digest(state: State) -> str:
    """Returns a BLAKE2b hash (hex) of a whole state: equal in processes that have the same one."""
    plain = {key: value for key, value in dump(state).items() if key not in _HASHED}
    owners = {name: content_hash(owner) for name, owner in state.owners.items()}
    copies = {task: {name: content_hash(t) for name, t in found.items()} for task, found in state.copies.items()}
    rows = {name: content_hash(rows) for name, rows in state.trained_rows.items()}
    masks = {task: {name: content_hash(m) for name, m in mask.items()} for task, mask in state.masks.items()}
    sums = [] if state.accumulators is None else [state.accumulators.hashes()]
    return hashlib.blake2b(repr((plain, owners, copies, rows, masks, *sums)).encode(), digest_size=16).hexdigest()
