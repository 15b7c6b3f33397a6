"""Forecasts how many weights each task of a run will own."""

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig
from torch import Tensor

from packnet_pl.capacity import forecast
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.core import PackNet, PruneRule
from packnet_pl.core.ownership import FREE
from packnet_pl.core.pruning import count_units
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError
from packnet_pl.packed import Packed
from packnet_pl.packed.weights import unpack_owners

__all__ = ["forecast_shares"]


def forecast_shares(
    config: DictConfig, tasks: Sequence[TaskSettings], rule: PruneRule, packnet: PackNet, packed: Packed | None
) -> dict[str, tuple[int, int]]:
    """Returns, per task that is not finished, how many weights (or filters, as the rule has it) it owns and leaves.

    Args:
        config: Checked.
        tasks: Of the configuration.
        rule: How each is pruned.
        packnet: Of the network, without tasks.
        packed: What the run goes on from, or None.

    Raises:
        UsageError: If a task will find nothing free, or its filters belong to earlier tasks too.
    """
    todo = [task for task in tasks if not task.finished]
    owners = packnet.owners
    if packed is not None:
        layers = packed.header["weights"]
        owners = {name: unpack_owners(layer, packed.tensors[f"owners/{name}"]) for name, layer in layers.items()}
    weights, free_now = sum(owner.numel() for owner in owners.values()), _free_units(rule, packnet, owners)
    if todo and not sum(free_now):
        finished = [task.name for task in tasks if task.finished]
        raise UsageError(
            f"no weight is free for task {todo[0].name!r}: all {weights:,} belong to {finished}. It needs at least "
            f"one in each of the {counted(len(owners), 'layer')}, {len(owners)} in all; tasks that others are to "
            "follow must release some: train them again with a higher prune.ratio, and prune.last=true"
        )
    ratios = [task.prune_ratio for task in todo]
    shares = forecast(free_now, ratios, scope=rule.scope)
    for task, (_, free) in zip(todo[1:], shares, strict=False):
        if free == 0:
            raise UsageError(
                f"prune.ratio is {config.prune.ratio}: no {rule.granularity} is free for task {task.name!r}; "
                "release more in earlier tasks"
            )
    return {task.name: share for task, share in zip(todo, shares, strict=True)}


def _free_units(rule: PruneRule, packnet: PackNet, owners: Mapping[str, Tensor]) -> list[int]:
    slots = packnet.inventory().owned
    try:
        return [count_units(name, slots[name], owner, FREE, rule.granularity) for name, owner in owners.items()]
    except ValueError as error:
        raise UsageError(f"prune.granularity is {rule.granularity!r}: {error}") from error
