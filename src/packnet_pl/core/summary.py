"""Counts and fractions: what each task owns, in all and layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from packnet_pl.core.inventory import Inventory
from packnet_pl.core.ownership import counts_in_all
from packnet_pl.core.unowned import parameter_count, usable_fraction
from packnet_pl.counting import counted
from packnet_pl.shares import Share, shares_of, total_of

__all__ = ["Summary", "summarize"]


@dataclass(frozen=True)
class Summary:
    """The result of :meth:`PackNet.summary`.

    Attributes:
        total: All prunable weights together.
        layers: Parameter name -> its share.
        owned: Names of the parameters that are divided among tasks.
        frozen: Names of the parameters and buffers that are frozen after the first task.
        per_task: Names of the parameters and buffers of which each task has its own copy.
        refused: Name -> reason of the parameters that PackNet cannot handle.
        parameters: Number of all parameters of the shared part, each once.
        usable: Share of them, in [0, 1], that is divided among tasks, or that each task has of its own: all that later
            tasks could use, as far as it is free.
    """

    total: Share
    layers: dict[str, Share]
    owned: tuple[str, ...]
    frozen: tuple[str, ...]
    per_task: tuple[str, ...]
    refused: dict[str, str]
    parameters: int
    usable: float

    def shares(self, open_task: str | None, phase: str | None) -> str:
        """Returns one line: how many weights there are, and what share of them each task owns and is free."""
        total = self.total
        names = {task: f"{task!r} (open, {phase})" if task == open_task else repr(task) for task in total.owned}
        parts = [*(f"{names[task]} {total.fraction(task):.2%}" for task in names), f"free {total.free_fraction:.2%}"]
        return f"{total.weights:,} weights: {', '.join(parts)}"

    def __str__(self) -> str:
        tasks = list(self.total.owned)
        width = max([len(name) for name in self.layers] + [5])
        lines = [f"{'layer':<{width}}  {'weights':>11}" + "".join(f"  {task:>10}" for task in [*tasks, "free"])]
        for name, share in [*self.layers.items(), ("total", self.total)]:
            parts = [share.fraction(task) for task in tasks] + [share.free_fraction]
            lines.append(f"{name:<{width}}  {share.weights:>11,}" + "".join(f"  {part:>10.2%}" for part in parts))
        lines.append(f"usable by later tasks: {self.usable:.2%} of all {self.parameters:,} parameters")
        lines.append(f"frozen after the first task: {counted(len(self.frozen), 'tensor')}")
        lines += [f"of its own for each task: {counted(len(self.per_task), 'tensor')}"] if self.per_task else []
        lines += [f"refused: {name}: {reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)


def summarize(inventory: Inventory, owners: Mapping[str, Tensor], tasks: Sequence[str]) -> Summary:
    """Counts the owners.

    Args:
        inventory: The tensors of the shared module.
        owners: Parameter name -> owner map, one for each of ``inventory.owned``.
        tasks: Task names; the first has owner 1.
    """
    of_owned = {name: owners[name] for name in inventory.owned}
    layers = shares_of(counts_in_all(of_owned, len(tasks), inventory.processes), tasks)
    return Summary(
        total_of(layers, tasks),
        layers,
        tuple(inventory.owned),
        tuple(inventory.frozen),
        tuple(inventory.per_task),
        dict(inventory.refused),
        parameter_count(inventory),
        usable_fraction(inventory),
    )
