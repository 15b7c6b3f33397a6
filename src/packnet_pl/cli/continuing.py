"""Going on with what was begun: which tasks are finished, and which settings may be others than they were."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.cli.check import prune_ratios
from packnet_pl.cli.from_file import packed_header
from packnet_pl.cli.usage import UsageError

__all__ = [
    "begun_tasks",
    "differing",
    "finished_tasks",
    "is_harmless",
    "packed_source",
    "refuse_mixing",
    "with_packed_tasks",
]

_HARMLESS = (
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "optim.num_workers",
    "logger",
    "checkpoint",
    "resume",
    "packed",
    "sequence.root",
    "sequence.add",
    "sequence.finished",
    "sweep",
)


def is_harmless(key: str) -> bool:
    """Returns whether a run may go on with another value of ``key``."""
    return any(key == harmless or key.startswith(f"{harmless}.") for harmless in _HARMLESS)


def finished_tasks(path: Path) -> list[str]:
    """Returns the names of the tasks in a packed file; none if it is not there or cannot be read.

    A run passes over a packed file that it cannot read.
    """
    header = packed_header(path)
    try:
        return [entry["name"] for entry in header["tasks"]] if header else []
    except (KeyError, TypeError):
        return []


def packed_source(folder: Path, config: DictConfig) -> Path:
    """Returns the packed file to go on from: that of the run directory if there is one, or ``config.packed``."""
    own = folder / "packed.safetensors"
    return own if own.is_file() or not config.packed else Path(config.packed)


def begun_tasks(folder: Path, order: list[str], *, together: bool = False) -> list[str]:
    """Returns the tasks of ``order`` of which something is on disk in the run directory ``folder``, in order.

    Args:
        folder: The run directory.
        order: Of its tasks.
        together: Whether they are learned at once: the files of that are in the last one's folder.
    """
    finished = finished_tasks(folder / "packed.safetensors")
    begun = [name for name in order if name in finished or any((folder / "tasks" / name).glob("*/last.ckpt"))]
    return order if together and begun else begun


def with_packed_tasks(config: DictConfig, folder: Path) -> DictConfig:
    """Returns the configuration of a run that goes on from a packed file: its tasks come first.

    Args:
        config: With ``packed``.
        folder: The run directory: when the run itself is resumed, its own packed file holds some more tasks already.

    Raises:
        UsageError: If there is no such file, or no task to add.
    """
    source = packed_source(folder, config)
    old = finished_tasks(source)
    if not old:
        raise UsageError(f"packed={source}: there is no such file, or it is no packed network")
    if not config.sequence.add:
        raise UsageError(f"packed={source} holds the tasks {old}; say which to add: 'sequence.add=[new]'")
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    changed.sequence.order = old
    return changed


def refuse_mixing(saved: Mapping[str, Any], now: Mapping[str, Any], begun: list[str]) -> None:
    """Does nothing if going on with ``now`` gives what the run was started for.

    Args:
        saved: The configuration so far, as plain objects.
        now: The one to go on with.
        begun: Tasks of which something is trained already, in order.

    Raises:
        UsageError: If a setting of those tasks, or one of the whole run, is another.
    """
    order, old_order = list(now["sequence"]["order"]), list(saved["sequence"]["order"])
    if order[: len(begun)] != begun:
        raise UsageError(f"sequence.order is {order}, but {begun} were trained first: they have to stay there")
    if begun and order != old_order and now["method"]["together"]:
        raise UsageError(
            f"sequence.order was {old_order} and would be {order}, but method={now['method']['name']} learns all tasks "
            "at once, and its training has begun: leave it as it was, or start a new run in another hydra.run.dir"
        )
    before, after = (_ratios(config) for config in (saved, now))
    for name in begun:
        # A finished task that was the last one, and kept all: whether another one fits is found out later.
        kept_all = name in now["sequence"]["finished"] and name == old_order[-1] and not saved["prune"]["last"]
        if name in old_order and not kept_all and before[old_order.index(name)] != after[order.index(name)]:
            raise UsageError(
                f"prune.ratio of {name!r} was {before[old_order.index(name)]} and would be {after[order.index(name)]}, "
                "but its training has begun: change it for tasks to come, or start a new run"
            )
    new, old = _flat(now), _flat(saved)
    for key in differing(saved, now):
        if key in ("prune.ratio", "prune.last", "sequence.order"):
            continue
        # The network is the packed file's, and what tasks to come begin with decides nothing for those that are there.
        if (now["packed"] and key.startswith("arch.")) or key.startswith("sequence.task."):
            continue
        if is_harmless(key):
            continue
        of_task = next((name for name in begun if key.startswith(f"sequence.tasks.{name}.")), None)
        if key.startswith("sequence.tasks.") and (of_task is None or key.endswith((".path", ".cache_dir"))):
            continue
        raise UsageError(
            f"{key} was {old.get(key)} and would be {new.get(key)}: what is trained already would not go with the "
            "rest; leave it as it was, or start a new run in another hydra.run.dir"
        )


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns the keys, sorted, whose values are not the same in two configurations given as plain objects."""
    first, second = _flat(one), _flat(other)
    keys = [key for key in {*first, *second} if first.get(key) != second.get(key)]
    # method.fit repeats settings of other keys, which are those that the user gave.
    return sorted(keys, key=lambda key: (key.startswith("method.fit."), key))


def _ratios(config: Mapping[str, Any]) -> list[float | None]:
    sequence, prune = config["sequence"], config["prune"]
    finished = len(sequence.get("finished") or [])
    return prune_ratios(prune["ratio"], len(sequence["order"]), last=prune["last"], finished=finished)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    found: dict[str, Any] = {}
    for name, child in node.items():
        found |= _flat(child, f"{prefix}.{name}" if prefix else str(name))
    return found
