"""Forecasts how many weights each task of a run will own, and for which of them the network will grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig
from torch import Tensor

from packnet_pl.capacity import forecast
from packnet_pl.configuration.growth import Growing, WiderNetwork, growth_of
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.container.header import narrow_shapes
from packnet_pl.core import PackNet, PruneRule
from packnet_pl.core.ownership import FREE
from packnet_pl.core.pruning import count_units
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError
from packnet_pl.packed import Packed
from packnet_pl.packed.weights import unpack_owners

__all__ = ["Forecast", "forecast_shares"]


@dataclass(frozen=True)
class Forecast:
    """The capacity of a run.

    Attributes:
        shares: Task that is not finished -> how many weights (or filters, as the rule has it) it owns and leaves.
        grown: Task for which the network grows -> what it will be then.
    """

    shares: dict[str, tuple[int, int]]
    grown: dict[str, WiderNetwork]


def forecast_shares(
    config: DictConfig, tasks: Sequence[TaskSettings], rule: PruneRule, packnet: PackNet, packed: Packed | None
) -> Forecast:
    """Returns how many weights (or filters, as the rule has it) each task owns and leaves, and when the network grows.

    Args:
        config: Checked.
        tasks: Of the configuration.
        rule: How each is pruned.
        packnet: Of the network, without tasks.
        packed: What the run goes on from, or None.

    Raises:
        UsageError: If a task will find nothing free, its filters belong to earlier tasks too, or the network cannot
            grow, or has grown and a task is to learn a mask.
    """
    todo = [task for task in tasks if not task.finished]
    owners = packnet.owners
    if packed is not None:
        layers = packed.header["weights"]
        owners = {name: unpack_owners(layer, packed.tensors[f"owners/{name}"]) for name, layer in layers.items()}
    weights, free_now = sum(owner.numel() for owner in owners.values()), _free_units(rule, packnet, owners)
    growth = growth_of(config)
    if todo and not sum(free_now) and growth is None:
        finished = [task.name for task in tasks if task.finished]
        raise UsageError(
            f"no weight is free for task {todo[0].name!r}: all {weights:,} belong to {finished}. It needs at least "
            f"one in each of the {counted(len(owners), 'layer')}, {len(owners)} in all; tasks that others are to "
            "follow must release some: train them again with a higher prune.ratio, and prune.last=true; or "
            "let the network grow: grow=1.25"
        )
    grown: dict[str, WiderNetwork] = {}
    growing = None if growth is None else Growing(growth, packnet.module, {n: o.numel() for n, o in owners.items()})

    def grow(number: int, free: int) -> list[int]:
        is_first = number == 0 and len(todo) == len(tasks)  # it finds everything free
        added = [] if growing is None or is_first else growing.grow_if_due(free)
        if growing is not None and added:
            grown[todo[number].name] = growing.network
        return added

    if config.mask and todo and packed is not None and narrow_shapes(packed.header):
        raise UsageError(
            f"mask=learned was given for {todo[0].name!r}, and the network of {packed.path} has grown: masks fit one "
            "width only; give mask=all"
        )
    shares = forecast(free_now, [task.prune_ratio for task in todo], scope=rule.scope, grow=grow)
    for task, (_, free) in zip(todo[1:], shares, strict=False):
        if free == 0 and growth is None:
            raise UsageError(
                f"prune.ratio is {config.prune.ratio}: no {rule.granularity} is free for task {task.name!r}; "
                "release more in earlier tasks, or let the network grow: grow=1.25"
            )
    if packed is not None and grown and (masked := _masked_tasks(packed)):
        raise UsageError(
            f"grow is {config.grow:g}, and {masked} in {packed.path} have learned masks, which fit one width only: the "
            f"network cannot grow for {next(iter(grown))!r}; leave grow out"
        )
    return Forecast({task.name: share for task, share in zip(todo, shares, strict=True)}, grown)


def _masked_tasks(packed: Packed) -> list[str]:
    """Returns the tasks that do not use all weights of earlier ones."""
    counts = list(packed.unused.values())
    return [task for number, task in enumerate(packed.tasks) if any(unused[number] for unused in counts)]


def _free_units(rule: PruneRule, packnet: PackNet, owners: Mapping[str, Tensor]) -> list[int]:
    slots = packnet.inventory().owned
    try:
        return [count_units(name, slots[name], owner, FREE, rule.granularity) for name, owner in owners.items()]
    except ValueError as error:
        raise UsageError(f"prune.granularity is {rule.granularity!r}: {error}") from error
