"""Finds what a LightningModule has outside the shared part and the tasks' own modules, but for what is free."""

from collections.abc import Sequence

from torch import nn
from torchmetrics import Metric

from packnet_pl.core import PackNet
from packnet_pl.core.slots import Slot, find_module, memory_of, plain_name, slots_of

__all__ = ["check_free_names", "named_slots", "outside_slots"]


def check_free_names(packnet: PackNet, root: nn.Module, free: Sequence[str], private: Sequence[str]) -> list[str]:
    """Checks the names in ``free``, and returns them as a list.

    Args:
        packnet: Knows the shared module and the private modules of finished tasks.
        root: Must have modules, parameters or buffers of these names.
        free: The names.
        private: Names of the modules of the task that is fitted.

    Raises:
        ValueError: If one is not there, or may not change.
    """
    shared = {id(module) for module in packnet.module.modules()}
    for name in free:
        module, _ = _find(root, name) if isinstance(name, str) and name else (None, None)
        if module is None:
            raise ValueError(
                f"free={name!r}: {type(root).__name__} has no module, parameter or buffer of that name; give names as "
                "named_modules(), named_parameters() and named_buffers() have them"
            )
        if id(module) in shared:
            raise ValueError(
                f"free={name!r} lies inside the shared module ({type(packnet.module).__name__}), which holds what "
                "finished tasks use: only what is outside can be free"
            )
        for task in packnet.tasks:
            if any(_is_in(name, other) for other in packnet.private.get(task, [])):
                raise ValueError(f"free={name!r} belongs to the finished task {task!r}, which does not change any more")
        if any(_is_in(name, other) for other in private):
            raise ValueError(f"free={name!r} is private={list(private)} as well: it is this task's own, or free")
    return list(free)


def outside_slots(packnet: PackNet, root: nn.Module, free: Sequence[str]) -> dict[str, Slot]:
    """Returns name -> slot of what is neither shared nor private to a task nor free; without the states of metrics."""
    private = [name for names in packnet.private.values() for name in names]
    taken = {memory_of(slot.whole) for _, slot in slots_of(packnet.module)}
    for module, key in (_find(root, name) for name in [*private, *free]):
        slots = slots_of(module) if module is not None else ()
        taken |= {memory_of(slot.whole) for name, slot in slots if key is None or name == key}
    metrics = {id(layer) for metric in root.modules() if isinstance(metric, Metric) for layer in metric.modules()}
    return {
        name: slot
        for name, slot in named_slots(root).items()
        if memory_of(slot.whole) not in taken and (slot.is_parameter or id(slot.layer) not in metrics)
    }


def _find(root: nn.Module, name: str) -> tuple[nn.Module | None, str | None]:
    """Returns the module of that name and None, or a module and the key of its parameter or buffer, or None twice."""
    module = find_module(root, name)
    if module is not None:
        return module, None
    path, _, key = name.rpartition(".")
    layer = find_module(root, path)
    return (layer, key) if layer is not None and key in {**layer._parameters, **layer._buffers} else (None, None)


def named_slots(root: nn.Module) -> dict[str, Slot]:
    """Returns name -> slot of all parameters and buffers, as named without compilation."""
    return {plain_name(name): slot for name, slot in slots_of(root)}


def _is_in(name: str, other: str) -> bool:
    return name == other or name.startswith(f"{other}.")
