"""Verifies finished tasks' weights by their fingerprints, and names those that changed."""

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor, nn

from packnet_pl.core.fingerprints import fingerprint, task_fingerprints, type_of
from packnet_pl.core.slots import find_module, memory_of, plain_name, slots_of
from packnet_pl.core.state import State

__all__ = ["check_private", "check_shared", "private_fingerprints", "private_tensors"]


def check_shared(state: State, owned: Mapping[str, Tensor], fixed: Mapping[str, Tensor]) -> None:
    """Checks that all that finished tasks use of the shared module is, bit for bit, what it was.

    Args:
        state: What is known of them.
        owned: Name -> weight that is divided among tasks.
        fixed: Name -> other tensor that is frozen.

    Raises:
        RuntimeError: Otherwise; it names the task and the parameter.
    """
    for number, task in enumerate(state.tasks, start=1):
        expected = state.fingerprints[task]
        of_task = {name: tensor for name, tensor in fixed.items() if name in expected}
        found = task_fingerprints(owned, state.owners, number, {**of_task, **state.copies[task]})
        _compare(task, expected, found, _buffers(fixed))


def check_private(state: State, root: nn.Module) -> None:
    """Checks that the private modules of finished tasks are, bit for bit, what they were.

    Args:
        state: What is known of them.
        root: Has those modules, by the names in ``state.private``.

    Raises:
        RuntimeError: Otherwise; it names the task and the parameter.
    """
    for task, expected in state.private_fingerprints.items():
        found = private_fingerprints(root, state.private[task], skip=())
        if found:  # a module built for other tasks only need not have this one's head
            _compare(task, expected, found, _buffers(private_tensors(root, state.private[task])))


def private_fingerprints(root: nn.Module, names: Iterable[str], *, skip: Iterable[Tensor]) -> dict[str, str]:
    """Returns tensor name -> fingerprint of what a file keeps of the modules ``names`` of ``root``.

    Args:
        root: Has the modules.
        names: As ``get_submodule`` takes them; modules that are not there are left out.
        skip: Tensors to leave out: those that the shared module has too.
    """
    shared = {memory_of(tensor) for tensor in skip}
    found = private_tensors(root, names)
    return {name: fingerprint(tensor) for name, tensor in found.items() if memory_of(tensor) not in shared}


def private_tensors(root: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Returns tensor name -> parameter or buffer of the modules ``names`` of ``root``, as far as a file keeps it."""
    found: dict[str, Tensor] = {}
    for name in names:
        module = find_module(root, name)
        if module is None:
            continue
        slots = slots_of(module)
        found |= {plain_name(f"{name}.{key}"): slot.now for key, slot in slots if slot.is_saved}
    return found


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
