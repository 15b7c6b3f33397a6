"""Expands the tasks of a configuration: those of ``sequence.folders`` and those of ``sequence.add``."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import nearest
from packnet_pl.configuration.overrides import mapping_of
from packnet_pl.errors import UsageError

__all__ = ["add_tasks", "expand_tasks"]


def expand_tasks(config: DictConfig) -> DictConfig:
    """Returns the configuration with ``sequence.folders`` and ``sequence.add`` written out in ``order`` and ``tasks``.

    Raises:
        UsageError: If one of them is not of the form that it should have.
    """
    sequence = config.get("sequence")
    if not OmegaConf.is_dict(sequence):
        return config
    expanded = config.copy()
    OmegaConf.set_struct(expanded, False)
    # As lists: a key whose value is missing is not "in" a configuration.
    if "root" in list(sequence) and OmegaConf.is_missing(sequence, "root"):
        raise UsageError("sequence.root has no value: give it as sequence.root=/data, the folder of all data sets")
    if "order" in sequence and not OmegaConf.is_missing(sequence, "order"):
        _check_order(sequence.order, optional="folders" in list(sequence))
    template = expanded.sequence.task if "task" in list(sequence) else None
    if isinstance(template, DictConfig) and OmegaConf.is_dict(template.get("data")):
        template.data.path = None  # each task has its own
    if "folders" in list(sequence):
        _expand_folders(expanded.sequence, template)
    expanded.sequence.add = mapping_of("sequence.add", expanded.sequence.get("add"))
    add = expanded.sequence.add
    if not (add is None or OmegaConf.is_list(add) or OmegaConf.is_dict(add)):
        raise UsageError(f"sequence.add is {add}; give names, 'sequence.add=[new]', or folders, {_EXAMPLE % 'add'}")
    for name in [str(name) for name in add or []]:
        path = add[name] if OmegaConf.is_dict(add) else None
        if path is not None:
            expanded.sequence.tasks[name] = _of_folder(template, path, expanded.sequence.tasks.get(name, {}))
        elif name not in expanded.sequence.tasks:
            known = nearest(name, expanded.sequence.tasks)
            raise UsageError(f"sequence.add names {name!r}; {known} A folder of your own: {_EXAMPLE % 'add'}")
    return expanded


def add_tasks(config: DictConfig, finished: list[str]) -> DictConfig:
    """Returns the configuration with the tasks of ``sequence.add`` at the end of ``sequence.order``.

    Args:
        config: From :func:`expand_tasks`.
        finished: Names of the tasks that are finished already.

    Raises:
        UsageError: If a task to add is there already.
    """
    if not OmegaConf.is_dict(config.get("sequence")) or OmegaConf.is_missing(config.sequence, "order"):
        return config
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    order = list(config.sequence.order)
    for name in [str(name) for name in config.sequence.get("add") or []]:
        # A resumed run has its added tasks among the finished ones in time.
        if name in order and not config.get("resume"):
            raise UsageError(f"sequence.add names {name!r}, which is there already: {order}; choose a new name")
        if name not in order:
            order.append(name)
    changed.sequence.order, changed.sequence.finished = order, finished
    return changed


def _check_order(order: Any, *, optional: bool) -> None:
    if OmegaConf.is_list(order) or (order is None and optional):
        return
    example = order if isinstance(order, str) else "latin"
    shown = "null" if order is None else repr(order)
    raise UsageError(f"sequence.order is {shown}; give a list of tasks: 'sequence.order=[{example}]'")


_EXAMPLE = "'sequence.%s={cats: /data/cats, cars: /data/cars}', quoted"


def _expand_folders(sequence: DictConfig, template: Any) -> None:
    example = _EXAMPLE % "folders"
    if OmegaConf.is_missing(sequence, "folders"):
        raise UsageError(f"sequence.folders has no value: give it as {example}")
    sequence.folders = mapping_of("sequence.folders", sequence.folders)
    folders = sequence.pop("folders")
    if not OmegaConf.is_dict(folders) or not folders:
        raise UsageError(f"sequence.folders is {folders}; give a name and a folder for each task: {example}")
    for name, path in folders.items():
        if not isinstance(path, str):
            raise UsageError(f"sequence.folders.{name} is {path}; give the path of a folder")
    known = [*map(str, folders), *map(str, sequence.get("add") or [])]
    for name in sequence.tasks:
        if str(name) not in known:
            raise UsageError(f"there is no task for sequence.tasks.{name}; {nearest(str(name), known)}")
    sequence.order = sequence.order if sequence.order is not None else [str(name) for name in folders]
    for name, path in folders.items():
        sequence.tasks[str(name)] = _of_folder(template, path, sequence.tasks.get(name, {}))


def _of_folder(template: Any, path: str, own: Any) -> Any:
    return OmegaConf.merge(template, {"data": {"path": str(path)}}, own)
