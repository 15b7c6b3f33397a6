"""From the words of a command line to a checked configuration, before anything is started or written."""

import logging
import os
import re
import shlex
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from packnet_pl.command_line import check_alone, version_text
from packnet_pl.configuration.arch_names import check_network
from packnet_pl.configuration.help import GROUPS
from packnet_pl.configuration.mistyped import check_words
from packnet_pl.configuration.overrides import check_unicode, key_of
from packnet_pl.configuration.packed_source import packed_header, tell_recipe, with_file
from packnet_pl.configuration.resume_rules import (
    begun_tasks,
    finished_tasks,
    open_tasks,
    packed_source,
    refuse_mixing,
    set_aside,
    with_packed_tasks,
)
from packnet_pl.configuration.sequences import add_tasks, expand_tasks
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.configuration.validate import check_config
from packnet_pl.errors import UsageError, nearest, one_line
from packnet_pl.old_targets import with_new_targets
from packnet_pl.ranks import Rank, rank_of
from packnet_pl.run_directory import SavedRun, claimed, read_run

if TYPE_CHECKING:
    from packnet_pl.configuration.components import Parts

__all__ = ["CONFIG_MODULE", "Prepared", "checked", "compose", "prepare", "set_up", "sort_arguments", "starts_a_run"]

CONFIG_MODULE = "packnet_pl.conf"
_log = logging.getLogger(__name__)
_EXCLUSIVE = ("run", "multirun", "cfg", "info", "shell_completion")  # Hydra takes one of these options

# What Lightning says about every short run on a CPU, and about norms that PackNet keeps in eval mode.
_KNOWN_WARNINGS = (
    "does not have many workers",
    "in eval mode at the start of training",
    "LeafSpec",
    "your dataloader is not resumable",  # ours is: a task's datamodule saves its place
    "srun. command is available",
)


def set_up() -> None:
    """Makes Hydra raise its errors, which the commands answer, and shows the package's own messages."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Until Hydra sets up a run's own logging.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("packnet_pl").setLevel(logging.INFO)


def sort_arguments() -> Namespace:
    """Parses ``sys.argv``, puts options in front of overrides in it, and returns both.

    Lightning starts further DDP processes with an override behind the options that Hydra's parser does not find there.

    Raises:
        UsageError: If an option is unknown, two are given that exclude each other, or Hydra cannot read a word.
    """
    check_alone(sys.argv[1:])
    check_unicode("a word of the command line", sys.argv[1:])
    parser = get_args_parser()
    for action in parser._actions:
        if "--version" in action.option_strings:
            action.version = version_text()  # type: ignore[attr-defined]
    options = [name for action in parser._actions for name in action.option_strings]

    def refuse(message: str) -> NoReturn:
        unknown = message.rpartition(": ")[2].split(" ")[0]
        bare = unknown.lstrip("-")
        if re.match(r"[a-z_]+[.=]", bare):
            raise UsageError(f"{message}; {bare} is written without dashes")
        close = nearest(unknown, options)
        hint = close if close.startswith("did you mean") else "keys are written without dashes, such as seed=1"
        raise UsageError(f"{message}; {hint}")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(sys.argv[1:])
    given = ["--" + name.replace("_", "-") for name in _EXCLUSIVE if getattr(arguments, name) not in (None, False)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} were given; give one of them at a time")
    if arguments.config_dir and not Path(arguments.config_dir).is_dir():
        raise UsageError(f"--config-dir is {arguments.config_dir}: there is no such folder")
    check_words(arguments.overrides, sweep=bool(arguments.multirun))
    rest = sys.argv[1:]
    for override in arguments.overrides:
        rest.remove(override)
    if rest[-1:] in (["--info"], ["-i"]):
        rest.append(arguments.info)  # or the first of the overrides would be taken for what it shows
    named_here = "sequence=folders" in arguments.overrides or any(
        word.startswith(("sequence.add={", 'sequence.add="{', "sequence.add='{")) for word in arguments.overrides
    )
    arguments.overrides = [
        # Tasks of folders get their names on the command line, so there is no key yet that could be overridden.
        f"++{override}" if named_here and override.startswith(("sequence.tasks.", "sequence.tasks=")) else override
        for override in arguments.overrides
    ]
    sys.argv[1:] = [*rest, *arguments.overrides]
    return arguments


def checked(
    config: DictConfig, folder: Path, words: Sequence[str] = (), main: str = "train"
) -> tuple[DictConfig, tuple[TaskSettings, ...]]:
    """Returns the configuration that a run uses, checked and with all interpolations resolved, and its tasks.

    Args:
        config: Composed.
        folder: The run directory; what is finished there is left out of the checks.
        words: The command line: it goes before what a packed file says.
        main: Name of the main configuration.

    Raises:
        OmegaConfBaseException: If a key is unknown or a value has the wrong type.
        UsageError: If something in it cannot be run.
    """
    config = OmegaConf.create(with_new_targets(OmegaConf.to_container(config)))
    header = packed_header(packed_source(folder, config)) if config.get("packed") else None
    if header is not None:
        config = with_file(config, header, words, packed_source(folder, config), main=main)
    config = expand_tasks(config)
    if config.get("resume") == "auto":
        config = config.copy()
        config.resume = read_run(folder) is not None
    going_on = bool(config.get("packed")) or bool(config.get("resume"))
    if config.get("packed"):
        config = with_packed_tasks(config, folder)
    config = add_tasks(config, finished_tasks(packed_source(folder, config)) if going_on else [])
    tasks = check_config(config)
    from packnet_pl.configuration.instantiate import bind_targets
    from packnet_pl.configuration.pretrained_inputs import fill_inputs

    _quiet_lightning()
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    check_unicode("", resolved)  # variables of the environment may bring anything
    # The network first: images have its size where they have none of their own.
    bind_targets({"arch": resolved["arch"], **{key: value for key, value in resolved.items() if key != "sequence"}})
    bind_targets(resolved["sequence"]["tasks"], "sequence.tasks")
    fill_inputs(resolved, header)
    created: DictConfig = OmegaConf.create(resolved)
    return created, tasks


def compose(arguments: Namespace, overrides: Sequence[str]) -> DictConfig:
    """Returns the whole configuration, Hydra's own part too.

    Args:
        arguments: The command line: where the configurations are, and which is the main one.
        overrides: Without those that make a sweep.

    Raises:
        UsageError: If it cannot be composed.
    """
    try:
        composed = _compose(arguments, overrides)
        HydraConfig.instance().set_config(composed)  # ${hydra:...} takes values from there, before Hydra starts a job
        composed.hydra.run.dir, composed.hydra.sweep.dir  # noqa: B018 (their interpolations may fail)
    except (HydraException, OmegaConfBaseException) as error:
        said = _with_hint(one_line(error), arguments, overrides)
        if "arch." in said and any(key_of(word) == "packed" for word in overrides):
            said += "; packed= brings its own network: leave arch out"
        raise UsageError(said) from error
    if not any(key_of(word) == "arch.name" for word in overrides):
        check_network(composed.hydra.runtime.choices.get("arch"), (composed.get("arch") or {}).get("name"))
    return composed


class Prepared(NamedTuple):
    """A run that can begin.

    Attributes:
        config: Checked.
        folder: The run directory.
        parts: What was built.
    """

    config: DictConfig
    folder: Path
    parts: "Parts"


def prepare(arguments: Namespace, *, to_train: bool, built: Callable[[Prepared], None] | None = None) -> Prepared:
    """Composes, checks and builds everything before Hydra makes the run directory.

    Args:
        arguments: The command line.
        to_train: Whether the run directory is to become this run's.
        built: Called with what is returned, before the directory is this run's for good: it may refuse.

    Raises:
        UsageError: If something in it cannot be run, or the run directory holds a run already.
    """
    name = arguments.config_name or "train"
    composed = compose(arguments, arguments.overrides)
    folder = Path(composed.hydra.run.dir)
    with read_write(composed.hydra):
        composed.hydra.runtime.output_dir = str(folder.absolute())
    HydraConfig.instance().set_config(composed)
    try:
        config, tasks = checked(_without_hydra(composed), folder, arguments.overrides, name)
    except OmegaConfBaseException as error:
        raise UsageError(_with_hint(one_line(error), arguments, arguments.overrides)) from error
    from packnet_pl.configuration.changed_data import check_data
    from packnet_pl.configuration.components import build_parts

    def tell() -> None:
        if config.packed and not config.resume and rank_of(os.environ).is_main:
            source = Path(config.packed)
            tell_recipe(config, packed_header(source) or {}, arguments.overrides, source, main=name)

    if not to_train:
        prepared = Prepared(config, folder, build_parts(config, tasks, folder))
        tell()
        return prepared
    saved = read_run(folder)
    begin_anew: Callable[[], None] | None = None
    if config.resume:
        begin_anew = _check_resumed(folder, saved, config)
    elif saved is not None or (folder / "results.json").exists():
        go_on = f", or go on: packnet-resume {shlex.quote(str(folder))}" if saved is not None else ""
        raise UsageError(f"{folder} holds a run already; choose another hydra.run.dir{go_on}")
    check_unicode("hydra.run.dir", str(folder.absolute()))
    check_unicode("the current folder", str(Path.cwd()))
    plain: Any = OmegaConf.to_container(config)
    config_dir = str(Path(arguments.config_dir).absolute()) if arguments.config_dir else None
    with claimed(folder, SavedRun(list(arguments.overrides), config_dir, name, str(Path.cwd()), plain)):
        prepared = Prepared(config, folder, build_parts(config, tasks, folder))
        if config.resume or config.packed:
            packed = prepared.parts.packed
            check_data(folder, config, prepared.parts.data, packed.history if packed is not None else [])
        if built is not None:
            built(prepared)
        # Before the new configuration is written: a process that is killed in between leaves no mix.
        if begin_anew is not None:
            begin_anew()
        tell()
        return prepared


def _check_resumed(folder: Path, saved: SavedRun | None, config: DictConfig) -> Callable[[], None]:
    """Returns what makes those phases begin anew whose settings changed."""
    if saved is None:
        raise UsageError(f"resume=true, but there is no run in {folder}: it has no run.yaml")
    now: Any = OmegaConf.to_container(config)
    together = saved.config["method"].get("together", False)
    begun = begun_tasks(folder, saved.config["sequence"]["order"], together=together)
    tasks, phases = open_tasks(now, begun), refuse_mixing(saved.config, now, begun)

    def begin_anew() -> None:
        for path in set_aside(folder, tasks, phases):
            task, phase = path.parent.parent.name, path.parent.name
            _log.info("%s, %s begins anew with other settings; what was trained is kept as %s", task, phase, path)

    return begin_anew


def starts_a_run(arguments: Namespace, rank: Rank) -> bool:
    """Returns False for what only shows something, for sweeps, and for the processes that Lightning starts."""
    others = ("hydra_help", "version", "cfg", "info", "shell_completion", "multirun")
    return not any(getattr(arguments, name, None) for name in others) and rank.started_by != "lightning"


def _compose(arguments: Namespace, overrides: Sequence[str]) -> DictConfig:
    words = list(overrides)
    if arguments.config_dir:
        words.append(f"hydra.searchpath=[file://{Path(arguments.config_dir).absolute()}]")
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return hydra.compose(arguments.config_name or "train", words, return_hydra_config=True)


def _without_hydra(config: DictConfig) -> DictConfig:
    plain = config.copy()
    OmegaConf.set_struct(plain, False)
    del plain["hydra"]
    return plain


def _with_hint(message: str, arguments: Namespace, words: Sequence[str]) -> str:
    """Shortens Hydra's message, puts the option first, and adds the options that look like an unknown one."""
    found = re.search(r"Could not override '([^']+)'", message) or re.search(r"full_key: (\S+)", message)
    short = re.split(r" full_key: | Config search path: | See https?://", message)[0]
    if found is None:
        return short
    key = found.group(1)
    if "not in" in message and key.startswith("hydra."):
        word = next(word for word in words if key_of(word) == key)
        return f"{key}: Hydra's own part does not have it yet; to add it, type {shlex.quote(f'+{word}')}"
    if "not in" in message:
        choices = [word for word in words if key_of(word) in GROUPS]
        keys = _keys(_without_hydra(_compose(arguments, choices)))
        if key not in keys:
            return f"there is no option {key}; {nearest(key, keys)}"
    return short if key in short else f"{key}: {short}"


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for name in map(str, config):
        key = f"{prefix}{name}"
        keys.append(key)
        child = None if OmegaConf.is_missing(config, name) else config._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            keys += _keys(child, f"{key}.")
    return keys


def _quiet_lightning() -> None:
    import pytorch_lightning  # noqa: F401 (it sets its loggers' levels when it is imported)

    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{message}")
