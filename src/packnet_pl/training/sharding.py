"""Divides a network among processes with ``fully_shard``: its blocks one by one, and then what is left of it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.shards import is_shard

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule

__all__ = ["divided_parts", "is_sharded", "shard_", "shard_with_owners_", "units_of"]

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def shard_(module: nn.Module, mesh: "DeviceMesh") -> None:
    """Gives the blocks of ``module``, and then itself, to torch's ``fully_shard``.

    What was given to it before, and what has no parameter, is left as it is, so it can be called again. In a
    LightningModule under ``ModelParallelStrategy``, of the shared part and of each head::

        def configure_model(self):
            for part in [self.backbone, *self.heads.values()]:
                shard_(part, self.device_mesh["data_parallel"])

    Args:
        module: Is called as a whole, and calls its blocks as a whole; it is changed in place.
        mesh: Of one dimension: the processes among which rows are divided.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    for part in [*units_of(module), module]:
        if not isinstance(part, FSDPModule) and any(not is_shard(parameter) for parameter in part.parameters()):
            fully_shard(part, mesh=mesh)


def shard_with_owners_(packnet: PackNet | None, parts: Iterable[nn.Module], mesh: "DeviceMesh") -> None:
    """Divides the parts of a network, and what is known of its weights, which may be whole still.

    Args:
        packnet: Of one of the parts, such as after a packed file was loaded; None if no task owns weights.
        parts: As :func:`shard_` takes them.
        mesh: Likewise.
    """
    known = None
    if packnet is not None and packnet.state.names and not is_sharded(packnet.module):
        known = packnet.state_dict()
    for part in parts:
        shard_(part, mesh)
    if packnet is not None and known is not None:
        packnet.load_state_dict(known)


def units_of(module: nn.Module) -> list[nn.Module]:
    """Returns the modules in ``module`` that are gathered one by one: its blocks.

    These are the elements of its outermost lists and sequences that have a weight (a parameter of two or more
    dimensions), such as the blocks of a transformer or of a residual network. An element that shares a parameter with
    what is outside it is none: two could not gather it at once.
    """
    times = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    found = dict.fromkeys(_elements(module, inside=isinstance(module, _CONTAINERS)))
    return [unit for unit in found if unit is not module and _has_all(unit, times)]


def divided_parts(module: nn.Module) -> list["FSDPModule"]:
    """Returns the modules in ``module`` that ``fully_shard`` was given."""
    if not is_sharded(module):
        return []
    from torch.distributed.fsdp import FSDPModule

    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def is_sharded(module: nn.Module) -> bool:
    """Returns whether processes have the rows of a parameter of ``module``."""
    return any(is_shard(parameter) for parameter in module.parameters())


def _elements(module: nn.Module, *, inside: bool) -> Iterator[nn.Module]:
    """Yields the elements of the outermost containers; ``inside``: whether ``module`` is one."""
    for child in module.children():
        if isinstance(child, _CONTAINERS):
            yield from _elements(child, inside=True)
        elif not inside:
            yield from _elements(child, inside=False)
        elif any(parameter.dim() > 1 for parameter in child.parameters()):
            yield child


def _has_all(unit: nn.Module, times: Counter[int]) -> bool:
    own = Counter(id(parameter) for _, parameter in unit.named_parameters(remove_duplicate=False))
    return all(times[key] == count for key, count in own.items())
