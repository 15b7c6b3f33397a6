"""What each task will own, and for how long it is trained, as the configuration says."""

import re
from collections.abc import Mapping

from omegaconf import DictConfig
from torch import Tensor

from packnet_pl.capacity import forecast
from packnet_pl.choices import Phase
from packnet_pl.configuration.overrides import escaped
from packnet_pl.configuration.validate import prune_ratios
from packnet_pl.core import PackNet
from packnet_pl.core.ownership import FREE
from packnet_pl.core.pruning import count_units
from packnet_pl.counting import counted
from packnet_pl.data import TaskData
from packnet_pl.errors import UsageError
from packnet_pl.packed import Packed
from packnet_pl.packed.weights import unpack_owners

__all__ = ["epochs_of", "forecast_shares", "lower_rate", "phase_settings", "phases_of", "ratios_of"]

Share = tuple[str, TaskData | None, float | None, tuple[int, int] | None]


def forecast_shares(
    config: DictConfig, data: Mapping[str, TaskData | None], packnet: PackNet | None, packed: Packed | None
) -> list[Share]:
    """Returns, per task that is not finished, its name, data, prune ratio, and how much it will own and leave.

    The last two are numbers of weights, or of filters if ``prune.rule`` releases these; None without pruning.

    Args:
        config: Checked.
        data: Task -> its data.
        packnet: Of the network, without tasks; None if the method does not prune.
        packed: What the run goes on from, or None.

    Raises:
        UsageError: If a task will find nothing free, or its filters belong to earlier tasks too.
    """
    order, finished = list(config.sequence.order), list(config.sequence.finished)
    todo = order[len(finished) :]
    if packnet is None:
        return [(name, data[name], None, None) for name in todo]
    ratios = ratios_of(config)[len(finished) :]
    owners = packnet.owners
    if packed is not None:
        layers = packed.header["weights"]
        owners = {name: unpack_owners(layer, packed.tensors[f"owners/{name}"]) for name, layer in layers.items()}
    weights, free_now = sum(owner.numel() for owner in owners.values()), _free_units(config, packnet, owners)
    if todo and not sum(free_now):
        raise UsageError(
            f"no weight is free for task {todo[0]!r}: all {weights:,} belong to {finished}. It needs at least "
            f"one in each of the {counted(len(owners), 'layer')}, {len(owners)} in all; tasks that others are to "
            "follow must release some: train them again with a higher prune.ratio, and prune.last=true"
        )
    shares = forecast(free_now, ratios, scope=config.prune.scope)
    for name, (_, free) in zip(todo[1:], shares, strict=False):
        if free == 0:
            raise UsageError(
                f"prune.ratio is {config.prune.ratio}: no {config.prune.granularity} is free for task {name!r}; "
                "release more in earlier tasks"
            )
    return [(name, data[name], ratio, share) for name, ratio, share in zip(todo, ratios, shares, strict=True)]


def ratios_of(config: DictConfig) -> list[float | None]:
    """Returns the prune ratio of each task of the sequence; None for one that prunes nothing, or is finished."""
    sequence = config.sequence
    return prune_ratios(
        config.prune.ratio, len(sequence.order), last=config.prune.last, finished=len(sequence.finished)
    )


def phases_of(config: DictConfig, ratio: float | None) -> list[Phase]:
    """Returns the phases of a task with prune ratio ``ratio``: nothing pruned, nothing to retrain."""
    return ["train", "retrain"] if config.method.pack and ratio is not None else ["train"]


def epochs_of(config: DictConfig, task: str, phase: Phase) -> int:
    """Returns the epochs of a phase, at most ``debug.max_epochs`` of them."""
    epochs: int = phase_settings(config, task, phase).epochs
    return min(epochs, config.debug.max_epochs or epochs)


def phase_settings(config: DictConfig, task: str, phase: Phase) -> DictConfig:
    """Returns what ``task`` is trained with; tasks that are learned at once, with what most epochs are asked for."""
    settings: DictConfig = config.sequence.tasks[_deciding(config, task, phase)][phase]
    return settings


def lower_rate(config: DictConfig, task: str, phase: Phase) -> str:
    """Returns the word, for a command line, that gives a phase a tenth of its learning rate.

    Args:
        config: Checked.
        task: Whose phase; with tasks that are learned at once any of them.
        phase: Which.
    """
    task = _deciding(config, task, phase)
    rate = f"{config.sequence.tasks[task][phase].lr / 10:g}"
    if re.fullmatch(r"[A-Za-z_][\w-]*", task, re.ASCII):
        return f"sequence.tasks.{task}.{phase}.lr={rate}"
    # Other names are no keys on Hydra's command line, but keys of a mapping.
    return f"sequence.tasks={{{escaped(task)}: {{{phase}: {{lr: {rate}}}}}}}"


def _deciding(config: DictConfig, task: str, phase: Phase) -> str:
    """Returns the task whose settings count: of tasks that are learned at once the one with the most epochs."""
    if not config.method.together:
        return task
    names: list[str] = list(config.sequence.order)
    return max(names, key=lambda name: config.sequence.tasks[name][phase].epochs)


def _free_units(config: DictConfig, packnet: PackNet, owners: Mapping[str, Tensor]) -> list[int]:
    module, granularity = packnet.module, config.prune.granularity
    layers = {name: module.get_submodule(name.rpartition(".")[0]) for name in owners}
    try:
        return [count_units(name, layers[name], owner == FREE, granularity) for name, owner in owners.items()]
    except ValueError as error:
        raise UsageError(f"prune.granularity is {granularity!r}: {error}") from error
