"""The configuration of a run that begins with a packed file: network, tasks and recipe come from the file."""

import logging
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import PRUNABLES
from packnet_pl.configuration.overrides import key_of
from packnet_pl.configuration.packed_recipe import with_recipe
from packnet_pl.container import open_packed
from packnet_pl.errors import UsageError
from packnet_pl.preparation import Interpolation
from packnet_pl.text import brief, named

__all__ = ["arch_name", "input_of", "packed_header", "report_recipe", "sequence_name", "with_file"]

_log = logging.getLogger(__name__)
_INPUTS = {"image_size", "resize", "squash", "interpolation", "channels", "mean", "std"}
_BUILDERS = {name: f"packnet_pl.models.{name}" for name in ("vgg_small", "resnet20")} | {
    name: f"packnet_pl.models.{name}_backbone" for name in ("torchvision", "timm")
}


def packed_header(path: Path) -> Mapping[str, Any] | None:
    """Returns the header of a packed file; None if it is missing or unreadable, which is reported later."""
    try:
        return open_packed(path).header
    except (ValueError, OSError):
        return None


def with_file(
    config: DictConfig, header: Mapping[str, Any], overrides: Sequence[str], path: Path, *, main: str
) -> DictConfig:
    """Returns the configuration of a run that goes on from a packed file, but for the order of its tasks.

    The network and how norms and biases are kept follow from the file. So does its recipe, but for what the command
    line says; and one that chooses a whole experiment, or a main configuration of the user's, has no need of it.

    Args:
        config: Composed, with its interpolations.
        header: Of the file.
        overrides: The command line.
        path: Of the file, for messages.
        main: Name of the main configuration.

    Raises:
        UsageError: If the command line says that the network is another one, or the recipe is none.
    """
    given = {key_of(override) for override in overrides}
    whole = _is_whole(given, main)
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    recipe = header.get("recipe")
    if recipe is not None and not whole:
        if not isinstance(recipe, Mapping):
            raise UsageError(f"packed={path}: its recipe is damaged (it is a {type(recipe).__name__})")
        changed = with_recipe(changed, recipe, given, _names(header), path)
    _take_arch(changed, header.get("backbone"), given, path, whole=whole)
    state = header.get("packnet")
    for key in ("norm", "bias"):
        kept = state.get(key, "shared") if isinstance(state, Mapping) else "shared"
        if config.get(key) != kept and (key in given or (whole and config.get(key) != "shared")):
            raise UsageError(f"{key} is {config.get(key)}, and the network in {path} has {kept}: leave {key} out")
        changed[key] = kept
    rule = state.get("prunable", "paper") if isinstance(state, Mapping) else None
    if rule is not None and "prunable" in given and config.get("prunable") != rule:
        raise UsageError(f"prunable is {config.get('prunable')}, and {path} was made with {rule}: leave prunable out")
    if rule in PRUNABLES:
        changed["prunable"] = rule
    return changed


def report_recipe(
    config: DictConfig, header: Mapping[str, Any], overrides: Sequence[str], path: Path, *, main: str
) -> None:
    """Reports in one line which settings come from the packed file, and which from the command line.

    Args:
        config: Checked.
        header: Of the file.
        overrides: The command line.
        path: Of the file.
        main: Name of the main configuration.
    """
    if header.get("recipe") is None:
        whence = f"{path} has no recipe: epochs, rates, optimizer, batch size and pruning are the command line's"
    elif _is_whole({key_of(override) for override in overrides}, main):
        whence = f"the recipe of {path} is not used: the command line chooses a whole configuration"
    else:
        whence = f"the network and recipe of {path} are used; what the command line says goes before"
    optim, prune = config.optim, config.prune
    name = str(optim.optimizer.get("_target_", "")).rpartition(".")[2]
    _log.info(
        "%s (%s, batch size %s, prune.ratio %s, data fraction %g, seed %d)",
        *(whence, name, optim.batch_size, prune.ratio, config.debug.fraction, config.seed),
    )


def arch_name(header: Mapping[str, Any]) -> str:
    """Returns the name of the backbone of the file, for the results."""
    recipe, builder = header.get("recipe"), header["backbone"]
    name = recipe.get("arch") if recipe is not None else None
    if isinstance(name, str) and named(name) == name:
        return name
    return str(builder["arguments"].get("name", builder["name"]))


def sequence_name(header: Mapping[str, Any], overrides: Sequence[str], main: str) -> str | None:
    """Returns the name of the sequence that a run goes on with; None if that is the one that its command line chooses.

    Args:
        header: Of the file.
        overrides: The command line.
        main: Name of the main configuration.
    """
    given, recipe = {key_of(override) for override in overrides}, header.get("recipe")
    if recipe is None or "sequence" in given or _is_whole(given, main):
        return None
    name = recipe["sequence"]["name"]
    return name if isinstance(name, str) else None


def input_of(header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns how a new task's images are prepared by default; None if the file does not say it.

    Args:
        header: Of the file.

    Raises:
        UsageError: If its recipe has something else there.
    """
    recipe = header.get("recipe")
    if isinstance(recipe, Mapping):
        return _checked_inputs(recipe.get("inputs"))
    shapes = [task.get("input_shape") for task in header.get("tasks") or [] if isinstance(task, Mapping)]
    known = [shape for shape in shapes if isinstance(shape, list) and len(shape) == 3]
    return {"channels": known[-1][0], "image_size": known[-1][1]} if known else None


def _checked_inputs(inputs: Any) -> dict[str, Any] | None:
    """Returns the recipe's inputs, checked to be plain values; the data sets check them further."""
    if inputs is None:
        return None
    if not isinstance(inputs, Mapping) or not inputs.keys() <= _INPUTS or not all(map(_is_input, inputs.values())):
        raise UsageError(
            f"the recipe of the packed file has the inputs {brief(inputs)}; allowed are {sorted(_INPUTS)}, each a "
            f"number, a list of up to 8192 numbers, true, false, one of {list(get_args(Interpolation))}, or null"
        )
    return dict(inputs)


def _is_input(value: Any) -> bool:
    if isinstance(value, list) and len(value) <= 8192:
        return all(type(number) in (int, float) for number in value)
    return value is None or type(value) in (int, float, bool) or value in get_args(Interpolation)


def _is_whole(given: Collection[str], main: str) -> bool:
    return "experiment" in given or main != "train"


def _names(header: Mapping[str, Any]) -> list[str]:
    tasks = header.get("tasks")
    return [str(task.get("name")) for task in tasks if isinstance(task, Mapping)] if isinstance(tasks, list) else []


def _take_arch(config: DictConfig, builder: Any, given: Collection[str], path: Path, *, whole: bool) -> None:
    """Replaces ``arch`` by the network of the file.

    Raises:
        UsageError: If the command line says that it is another one.
    """
    if not isinstance(builder, Mapping) or builder.get("name") not in _BUILDERS:
        return  # reading the file says so
    arguments = builder.get("arguments")
    if not isinstance(arguments, Mapping) or not all(_is_plain(name, value) for name, value in arguments.items()):
        return
    has = {"_target_": _BUILDERS[builder["name"]], **arguments}
    configured: Any = OmegaConf.to_container(config.arch, resolve=True)
    chosen = "arch" in given or (whole and configured != _default_arch())
    for key, value in configured.items():
        if not (chosen or f"arch.{key}" in given):
            continue
        if key == "pretrained":
            if value and f"arch.{key}" in given:
                raise UsageError(f"arch.pretrained is {value}, and the weights are those of {path}: leave it out")
            continue
        if value is None and key in has:
            continue  # left open
        if key == "width" and key not in has and value == 1:
            continue  # it scales nothing; the file has what came of it
        if key not in has or has[key] != value:
            name = "arch" if key == "_target_" else f"arch.{key}"
            there = has.get(key, "no such argument")
            raise UsageError(
                f"{name} is {value}, and the network in {path} has {there}: leave arch out, the file brings its network"
            )
    config.arch = has


def _is_plain(name: str, value: Any) -> bool:
    """Returns whether an argument of the file is plain data: it names no class and has no interpolation."""
    if isinstance(value, list):
        return all(_is_plain(name, part) for part in value)
    return not (name.startswith("_") or isinstance(value, Mapping) or (isinstance(value, str) and "${" in value))


def _default_arch() -> Any:
    text = (files("packnet_pl.conf") / "arch" / "vgg_small.yaml").read_text(encoding="utf-8")
    return OmegaConf.to_container(OmegaConf.create(text))
