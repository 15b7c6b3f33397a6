"""The paths in a run directory, the record of what the run is (``run.yaml``), and the lock."""

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import yaml

from packnet_pl.choices import Phase
from packnet_pl.errors import UsageError
from packnet_pl.files import replacing
from packnet_pl.old_settings import upgrade_settings

__all__ = [
    "LOGS",
    "SavedRun",
    "checkpoint_path",
    "claimed",
    "command_line",
    "confusion_path",
    "data_record_path",
    "filters_path",
    "journal_path",
    "lock",
    "loggers_path",
    "metrics_path",
    "packed_path",
    "probe_path",
    "ratio_trials_path",
    "read_run",
    "results_path",
    "run_path",
    "task_folder",
    "write_run",
]

LOGS = "logs"
"""What a logger of a task's folder calls itself; its version is the phase."""


def results_path(folder: Path) -> Path:
    """Returns the path of all results."""
    return folder / "results.json"


def run_path(folder: Path) -> Path:
    """Returns the path of the record of how the run was started."""
    return folder / "run.yaml"


def loggers_path(folder: Path) -> Path:
    """Returns the path of the record of what loggers call this run."""
    return folder / "loggers.json"


def packed_path(folder: Path) -> Path:
    """Returns the path of the packed file with all finished tasks."""
    return folder / "packed.safetensors"


def task_folder(folder: Path, task: str) -> Path:
    """Returns the path of the checkpoints, logs, probe and journal of ``task``."""
    return folder / "tasks" / task


def checkpoint_path(folder: Path, task: str, phase: Phase) -> Path:
    """Returns the path of the one checkpoint of a phase."""
    return task_folder(folder, task) / phase / "last.ckpt"


def metrics_path(folder: Path, task: str, phase: Phase) -> Path:
    """Returns the path of the metrics of a phase, which every logger but ``logger=none`` keeps."""
    return task_folder(folder, task) / LOGS / phase / "metrics.csv"


def probe_path(folder: Path, task: str) -> Path:
    """Returns the path of the images and logits that show whether predictions have changed."""
    return task_folder(folder, task) / "probe.safetensors"


def ratio_trials_path(folder: Path, task: str) -> Path:
    """Returns the path of the trials with which the prune ratio of ``task`` was chosen."""
    return task_folder(folder, task) / "ratio_trials.json"


def journal_path(folder: Path, task: str) -> Path:
    """Returns the path of the record of ``task``, written since it was finished."""
    return task_folder(folder, task) / "finished.json"


def filters_path(folder: Path, task: str) -> Path:
    """Returns the path of what a few filters looked like while ``task`` was trained."""
    return task_folder(folder, task) / "filters.json"


def confusion_path(folder: Path, task: str) -> Path:
    """Returns the path of what was taken for what on the test split of ``task``, when it was tested last."""
    return task_folder(folder, task) / "confusion.json"


def data_record_path(folder: Path, task: str) -> Path:
    """Returns the path of the record of the data that ``task`` began with."""
    return task_folder(folder, task) / "data.json.gz"


# Open as long as the process lives: the kernel lets go of the lock however it ends. The library "filelock" does no more
# here: where a file system has no locks, it leaves a file instead, which would outlive a killed process.
_locks: dict[Path, IO[Any]] = {}


class SavedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a run was started.

    Attributes:
        overrides: Of its command line.
        config_dir: Folder of configurations of the user's own, or None.
        config_name: Name of the main configuration.
        cwd: Where it was started: paths in ``overrides`` may be relative to it.
        config: The whole configuration, checked, as plain objects.
    """

    overrides: list[str]
    config_dir: str | None
    config_name: str
    cwd: str
    config: dict[str, Any]


def command_line(run: SavedRun) -> str:
    """Returns the command that started ``run``, quoted for a shell; without the run directory, where Hydra chose it."""
    options = ["--config-dir", run.config_dir] if run.config_dir else []
    options += ["--config-name", run.config_name] if run.config_name != "train" else []
    return shlex.join(["packnet-train", *options, *run.overrides])


def read_run(folder: Path) -> SavedRun | None:
    """Returns how the run in ``folder`` was started, or None if there is none.

    Raises:
        UsageError: If its file is damaged.
    """
    path = run_path(folder)
    if not path.is_file():
        return None
    try:
        run = msgspec.convert(upgrade_settings(yaml.safe_load(path.read_text(encoding="utf-8"))), SavedRun)
        msgspec.convert(
            run.config["sequence"]["order"], list[str]
        )  # all that is asked for before Hydra checks the rest
        return _with_rule(run)
    except Exception as error:  # YAML has many ways to be wrong
        raise UsageError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error


def _with_rule(run: SavedRun) -> SavedRun:
    """Returns ``run`` with what it divides among tasks: before there was a choice, that was the paper's."""
    method = run.config.get("method")
    if "prunable" in run.config or not isinstance(method, dict):
        return run
    packs = method.get("pack", True)
    rule, added = ("paper", ["prunable=paper"]) if packs else ("weights", [])  # the latter: it has no meaning there
    return msgspec.structs.replace(run, overrides=[*run.overrides, *added], config={**run.config, "prunable": rule})


def write_run(folder: Path, run: SavedRun) -> None:
    """Writes ``run.yaml``, replacing the file as a whole."""
    text = yaml.safe_dump(msgspec.structs.asdict(run), allow_unicode=True, sort_keys=False)
    with replacing(run_path(folder)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def lock(folder: Path) -> None:
    """Locks ``folder`` for this process until it ends, also if it is killed.

    Raises:
        UsageError: If another process has it.
    """
    folder = folder.resolve()
    if folder in _locks:
        return
    file = (folder / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UsageError(f"{folder} is in use: another process is running there; wait for it, or stop it") from error
    except OSError as error:  # ENOLCK, ENOTSUP: some network file systems
        file.close()
        raise UsageError(
            f"{folder} cannot be locked ({error.strerror}), so two processes could write there at once: choose a "
            "hydra.run.dir on a file system with locks"
        ) from error
    _locks[folder] = file


def _leave_to_parent() -> None:
    """Closes the locks in a forked process: a loader's worker may outlive a killed run."""
    for file in _locks.values():
        file.close()
    _locks.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def _unwritable_refused(folder: Path) -> Iterator[None]:
    """Turns the errors of a folder that cannot be written into a UsageError of one line."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): make it writable, or choose another hydra.run.dir"
        ) from error


@contextmanager
def claimed(folder: Path, run: SavedRun) -> Iterator[None]:
    """Claims ``folder`` for this run, and undoes that if what is done inside fails because of the user.

    Raises:
        UsageError: If another process is running there, or nothing can be written there.
    """
    with _unwritable_refused(folder):
        known = run_path(folder).exists()
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock(folder)
    try:
        if not known:
            with _unwritable_refused(folder):
                write_run(folder, run)
        yield
        if known:
            write_run(folder, run)
    except UsageError:
        if not known:
            run_path(folder).unlink(missing_ok=True)
            (folder / ".lock").unlink(missing_ok=True)
            for path in missing:
                path.rmdir()
        raise
