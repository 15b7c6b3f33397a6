"""Verifies finished tasks' weights by their fingerprints, and names those that changed."""

from collections.abc import Collection, Iterable, Mapping
from operator import is_

import torch
from torch import Tensor, nn

from packnet_pl.core.content_hash import content_hash, hash_of_owned, is_hash
from packnet_pl.core.fingerprints import fingerprints, owned_fingerprints, type_of
from packnet_pl.core.sharded_masks import packed_stretches
from packnet_pl.core.shards import Processes, Stretch, is_shard, processes_of, with_shards
from packnet_pl.core.slots import find_module, memory_of, plain_name, slots_of
from packnet_pl.core.state import State

__all__ = [
    "VerifiedCopies",
    "check_private",
    "check_shared",
    "masks_by_name",
    "private_fingerprints",
    "private_tensors",
]


class VerifiedCopies:
    """The copies of finished tasks that were verified, and that nobody has written to since.

    They are PackNet's own: no layer and no optimizer has them, and torch counts what is written to a tensor. What is
    copied or pickled is read again: its tensors are others, and nobody knows what happened to a file.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Mapping[str, Tensor], list[int]]] = {}

    def __reduce__(self) -> tuple[type["VerifiedCopies"], tuple[()]]:
        return VerifiedCopies, ()

    def has(self, task: str, copies: Mapping[str, Tensor]) -> bool:
        """Returns whether ``copies`` of ``task`` are those that were added, unwritten since."""
        if task not in self._known:
            return False
        known, versions = self._known[task]
        return (
            known.keys() == copies.keys()
            and all(map(is_, known.values(), copies.values()))
            and versions == [copy._version for copy in copies.values()]
        )

    def add(self, task: str, copies: Mapping[str, Tensor]) -> None:
        """Adds the ``copies`` of ``task``, in the place of those that it had."""
        if not any(copy.is_inference() for copy in copies.values()):  # these have no versions
            self._known[task] = dict(copies), [copy._version for copy in copies.values()]


def check_shared(
    state: State,
    owned: Mapping[str, Tensor],
    fixed: Mapping[str, Tensor],
    verified: VerifiedCopies | None = None,
    own: Mapping[str, Tensor] | None = None,
) -> None:
    """Checks that all that finished tasks use of the shared module is, bit for bit, what it was.

    Args:
        state: What is known of them.
        owned: Name -> weight that is divided among tasks, whole or sharded; so are the others.
        fixed: Name -> other tensor that is frozen.
        verified: Of the tasks' copies, those that need not be read again; the others are added.
        own: Name -> tensor of which tasks have copies, needed where it is sharded: so are the copies.

    Raises:
        RuntimeError: Otherwise; it names the task and the parameter.
    """
    verified = verified or VerifiedCopies()
    processes = processes_of(owned.values())
    known = _known(state, verified, processes)
    expected = {
        task: {name: mark for name, mark in marks.items() if task not in known or name not in state.copies[task]}
        for task, marks in state.fingerprints.items()
    }
    whole = {
        task: {**fixed, **_in_shards(copies, own or {}), **masks_by_name(state.masks.get(task, {}), owned)}
        for task, copies in state.copies.items()
    }
    found = _fingerprints_now(state, expected, owned, whole)
    if processes is not None and any(not is_shard(tensor) for of_task in whole.values() for tensor in of_task.values()):
        found = {task: _as_in_all(expected[task], found[task], processes) for task in state.tasks}
    for task in state.tasks:
        _compare(task, expected[task], found[task], _buffers(fixed))
        if task not in known:
            verified.add(task, state.copies[task])


def _known(state: State, verified: VerifiedCopies, processes: Processes | None) -> set[str]:
    """Returns the tasks whose copies were verified, in all processes that have parts of them."""
    due = {task: not verified.has(task, copies) for task, copies in state.copies.items()}
    if processes is not None and any(state.copies.values()):
        in_all = processes.sum(torch.tensor([int(is_due) for is_due in due.values()])).tolist()
        due = dict(zip(due, map(bool, in_all), strict=True))
    return {task for task, is_due in due.items() if not is_due}


def _in_shards(copies: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: with_shards(copy, own.get(name, copy)) for name, copy in copies.items()}


def masks_by_name(mask: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor | Stretch]:
    """Returns a task's mask by the names that its fingerprints have.

    Args:
        mask: Name -> what the task does not use of a weight, packed.
        weights: Name -> weight, whole or sharded: every process must call this alike then.
    """
    processes = processes_of(weights[name] for name in mask)
    found = mask if processes is None else packed_stretches(mask, weights, processes)
    return {f"mask/{name}": packed for name, packed in found.items()}


def _fingerprints_now(
    state: State,
    expected: Mapping[str, Mapping[str, str]],
    owned: Mapping[str, Tensor],
    whole: Mapping[str, Mapping[str, Tensor | Stretch]],
) -> dict[str, dict[str, str]]:
    """Returns task -> tensor name -> fingerprint, of the kind that is expected, as far as there is that tensor.

    Args:
        state: Its tasks and owners.
        expected: Task -> tensor name -> fingerprint.
        owned: Name -> weight that is divided among tasks.
        whole: Task -> name -> other tensor that it uses.
    """
    sums = {task: [name for name, mark in marks.items() if not is_hash(mark)] for task, marks in expected.items()}
    names = {name for of_task in sums.values() for name in of_task}
    weights = {name: weight.detach() for name, weight in owned.items() if name in names}
    of_weights = owned_fingerprints(weights, state.owners, len(state.tasks))
    used = {
        (task, name): whole[task][name] for task, of_task in sums.items() for name in of_task if name in whole[task]
    }
    of_others = fingerprints(used)
    found = {task: dict(marks) for task, marks in zip(state.tasks, of_weights, strict=True)}
    for (task, name), mark in of_others.items():
        found[task][name] = mark
    for number, task in enumerate(state.tasks, start=1):
        for name in (name for name, mark in expected[task].items() if is_hash(mark)):
            if name in owned:
                found[task][name] = hash_of_owned(owned[name].detach(), state.owners[name], number)
            elif isinstance(tensor := whole[task].get(name), Tensor):
                found[task][name] = content_hash(tensor)
    return found


def check_private(state: State, root: nn.Module) -> None:
    """Checks that the private modules of finished tasks are, bit for bit, what they were.

    Args:
        state: What is known of them.
        root: Has those modules, by the names in ``state.private``.

    Raises:
        RuntimeError: Otherwise; it names the task and the parameter.
    """
    for task, expected in state.private_fingerprints.items():
        tensors = private_tensors(root, state.private[task])
        if tensors:  # a module built for other tasks only need not have this one's head
            known = {name: tensor for name, tensor in tensors.items() if name in expected}
            hashed = {name: content_hash(tensor) for name, tensor in known.items() if is_hash(expected[name])}
            found, processes = fingerprints(known) | hashed, processes_of(tensors.values())
            if processes is not None and _buffers(tensors):
                found = _as_in_all(expected, found, processes)
            _compare(task, expected, found, _buffers(tensors))


def private_fingerprints(root: nn.Module, names: Iterable[str], *, skip: Iterable[Tensor]) -> dict[str, str]:
    """Returns tensor name -> fingerprint of what a file keeps of the modules ``names`` of ``root``.

    Args:
        root: Has the modules.
        names: As ``get_submodule`` takes them; modules that are not there are left out.
        skip: Tensors to leave out: those that the shared module has too.
    """
    shared = {memory_of(tensor) for tensor in skip}
    found = private_tensors(root, names)
    return fingerprints({name: tensor for name, tensor in found.items() if memory_of(tensor) not in shared})


def private_tensors(root: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Returns tensor name -> parameter or buffer of the modules ``names`` of ``root``, as far as a file keeps it."""
    found: dict[str, Tensor] = {}
    for name in names:
        module = find_module(root, name)
        if module is None:
            continue
        slots = slots_of(module)
        found |= {plain_name(f"{name}.{key}"): slot.whole for key, slot in slots if slot.is_saved}
    return found


def _as_in_all(expected: Mapping[str, str], found: Mapping[str, str], processes: Processes) -> dict[str, str]:
    """Returns fingerprints of which none is as expected, unless it is so in all processes: each has its own buffers."""
    wrong = torch.tensor([int(found.get(name) != before) for name, before in expected.items()], dtype=torch.int64)
    changed = {
        name: f"{type_of(before)}:another in another process"
        for (name, before), count in zip(expected.items(), processes.sum(wrong).tolist(), strict=True)
        if count and found.get(name) == before
    }
    return {**found, **changed}


def _buffers(tensors: Mapping[str, Tensor]) -> set[str]:
    return {name for name, tensor in tensors.items() if not isinstance(tensor, nn.Parameter)}


def _compare(task: str, expected: Mapping[str, str], found: Mapping[str, str], buffers: Collection[str]) -> None:
    for name, before in expected.items():
        now = found.get(name)
        if now == before:
            continue
        if now is not None and type_of(now) != type_of(before):
            raise RuntimeError(
                f"{name} is {type_of(now)}, and was {type_of(before)} when task {task!r} was finished: convert the "
                f"network to {type_of(before)} before its weights are loaded, and keep that precision"
            )
        cause = "a fit without PackNetCallback? other weights loaded?"
        if name in buffers:
            cause += " a forward pass in training mode, or of a layer that writes to its buffers in eval mode too?"
        raise RuntimeError(
            f"{name} is not what it was when task {task!r} was finished: it was changed from outside ({cause}); load "
            "the right weights again"
        )
