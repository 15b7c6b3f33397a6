"""Rules for resuming a run: which tasks are finished, and which settings may change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import PHASES, SHARDED
from packnet_pl.configuration.packed_source import packed_header
from packnet_pl.configuration.task_settings import AUTO, prune_ratios
from packnet_pl.errors import UsageError
from packnet_pl.sharded_files import has_shards, move_checkpoint

__all__ = [
    "begun_tasks",
    "differing",
    "finished_tasks",
    "flat",
    "is_harmless",
    "open_tasks",
    "packed_source",
    "refuse_mixing",
    "refuse_other_strategy",
    "set_aside",
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
    "changed_data",
    "which_task",
    "packed",
    "sequence.root",
    "sequence.add",
    "sequence.finished",
    "sweep",
)

_GROWTH = ("grow", "grow_below")

_WATCHING = ("pytorch_lightning.callbacks.LearningRateMonitor", "pytorch_lightning.callbacks.DeviceStatsMonitor")
"""Callbacks that a run may add, or leave out, when it resumes."""


def is_harmless(key: str) -> bool:
    """Returns whether a run may resume with another value of ``key``."""
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
    """Returns the packed file to continue from: that of the run directory if there is one, or ``config.packed``."""
    own = folder / "packed.safetensors"
    return own if own.is_file() or not config.packed else Path(config.packed)


def begun_tasks(folder: Path, order: list[str], *, together: bool = False) -> list[str]:
    """Returns the tasks of ``order`` that have files in the run directory ``folder``, in order.

    Args:
        folder: The run directory.
        order: Of its tasks.
        together: Whether they are learned at once: the files of that are in the last one's folder.
    """
    finished = finished_tasks(folder / "packed.safetensors")
    begun = [name for name in order if name in finished or any((folder / "tasks" / name).glob("*/last.ckpt"))]
    return order if together and begun else begun


def with_packed_tasks(config: DictConfig, folder: Path) -> DictConfig:
    """Returns the configuration with the tasks of the packed file, that a run continues from, put first.

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


def open_tasks(config: Mapping[str, Any], begun: list[str]) -> list[str]:
    """Returns the tasks of ``begun`` that are not finished: one at most, but for methods that learn all at once.

    Args:
        config: As plain objects; it says which tasks are in the packed file. If that cannot be read, the checkpoint of
            the last task has those before it.
        begun: From :func:`begun_tasks`.
    """
    left = [name for name in begun if name not in config["sequence"]["finished"]]
    return left if config["method"]["together"] else left[-1:]


def refuse_mixing(saved: Mapping[str, Any], now: Mapping[str, Any], begun: list[str]) -> tuple[str, ...]:  # noqa: C901
    """Refuses settings ``now`` that would mix two settings in one finished task, or in one run.

    What is not finished may change; then it begins anew, so that it is what it would be in a run of that setting. While
    no task is finished that goes for the settings of the whole run, too.

    Args:
        saved: The configuration so far, as plain objects.
        now: The one to go on with.
        begun: Tasks of which something is trained already, in order.

    Returns:
        Phases of the open tasks, which have to begin anew.

    Raises:
        UsageError: If a setting of finished tasks, or one of the whole run, is another.
    """
    is_open = open_tasks(now, begun)
    anew: set[str] = set()
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
            if name in is_open:
                anew.add("retrain")  # weights are released between the phases
                continue
            raise UsageError(
                f"prune.ratio of {name!r} was {before[old_order.index(name)]} and would be {after[order.index(name)]}, "
                "but it is finished: change it for tasks to come, or start a new run"
            )
    new, old = flat(now), flat(saved)
    anew |= _phases_to_grow_anew(old, new) if is_open and begun != is_open else set()
    for key in differing(saved, now):
        if key in ("prune.ratio", "prune.last", "sequence.order", *_GROWTH):
            continue
        # The network is the packed file's, and what tasks to come begin with decides nothing for those that are there.
        if (now["packed"] and key.startswith("arch.")) or key.startswith("sequence.task."):
            continue
        if is_harmless(key) or _only_watches(key, saved, now):
            continue
        of_task = next((name for name in begun if key.startswith(f"sequence.tasks.{name}.")), None)
        if key.startswith("sequence.tasks.") and (
            of_task is None or key.endswith((".path", ".cache_dir", ".cache_gb"))
        ):
            continue
        if of_task in is_open or begun == is_open:
            anew |= {"retrain"} if key.startswith(f"sequence.tasks.{of_task}.retrain.") else {"train", "retrain"}
            continue
        raise UsageError(
            f"{key} was {old.get(key)} and would be {new.get(key)}: what is trained already would not go with the "
            "rest; leave it as it was, or start a new run in another hydra.run.dir"
        )
    return tuple(sorted(anew))


def refuse_other_strategy(folder: Path, tasks: Sequence[str], strategy: str) -> None:
    """Refuses to go on with a task of a sharded network where it is not to be sharded, or the other way round.

    Args:
        folder: The run directory.
        tasks: That are begun and not finished.
        strategy: Of the Trainer, as a configuration names it.

    Raises:
        UsageError: If there is a checkpoint that is so.
    """
    for path in (folder / "tasks" / task / phase / "last.ckpt" for task in tasks for phase in PHASES):
        if path.exists() and has_shards(path) != (strategy == SHARDED):
            was, now = ("fsdp", "another") if has_shards(path) else ("another", "fsdp")
            raise UsageError(
                f"{path} was written with {was} as trainer.strategy and would be read with {now}, which cannot take "
                "its optimizer: go on as it was begun, on any number of devices, or remove it to begin its phase anew"
            )


def set_aside(folder: Path, tasks: list[str], phases: tuple[str, ...]) -> list[Path]:
    """Renames the checkpoints of phases that begin anew, so that the run does not resume from them, nor from trials.

    Args:
        folder: The run directory.
        tasks: Whose.
        phases: Which.

    Returns:
        Where they are now.
    """
    moved = []
    for task in tasks if phases else ():
        (folder / "tasks" / task / "ratio_trials.json").unlink(missing_ok=True)
    for path in (folder / "tasks" / task / phase / "last.ckpt" for task in tasks for phase in phases):
        if path.exists():
            moved.append(move_checkpoint(path, path.with_name("replaced.ckpt")))
    return moved


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns the keys, sorted, whose values are not the same in two configurations given as plain objects."""
    first, second = flat(one), flat(other)
    keys = [key for key in {*first, *second} if first.get(key) != second.get(key)]
    # These repeat settings of other keys, which are those that the user gave.
    return sorted(keys, key=lambda key: (key.startswith(("method.fit.", "prune.rule.")), key))


def _phases_to_grow_anew(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Returns both phases if the network would grow otherwise: that is decided when a task begins."""
    before, after = ([config.get(key) for key in _GROWTH] for config in (old, new))
    return {"train", "retrain"} if before != after and (before[0], after[0]) != (None, None) else set()


def _ratios(config: Mapping[str, Any]) -> Sequence[float | str | None]:
    sequence = config["sequence"]
    if config["prune"]["ratio"] == AUTO:  # what is chosen depends on the tasks to come, and may, for those to come
        return [*[AUTO] * (len(sequence["order"]) - 1), AUTO if config["prune"]["last"] else None]
    return prune_ratios(config["prune"], len(sequence["order"]), finished=len(sequence.get("finished") or []))


def _only_watches(key: str, *configs: Mapping[str, Any]) -> bool:
    """Returns whether ``key`` is of a callback that changes nothing in training, in all configurations that have it."""
    section, _, rest = key.partition(".")
    if section != "callbacks":
        return False
    found = [(config.get(section) or {}).get(rest.partition(".")[0]) for config in configs]
    given = [callback for callback in found if callback is not None]
    return all(isinstance(callback, Mapping) and callback.get("_target_") in _WATCHING for callback in given)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a configuration, given as plain objects, as one level: "prune.ratio" -> value."""
    if isinstance(node, Mapping) and not node:
        return {prefix: None}  # as where it is not there
    if not isinstance(node, Mapping):
        return {prefix: node}
    found: dict[str, Any] = {}
    for name, child in node.items():
        found |= flat(child, f"{prefix}.{name}" if prefix else str(name))
    return found
