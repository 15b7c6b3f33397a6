"""What lies where in a run directory."""

from pathlib import Path

from packnet_pl.choices import Phase

__all__ = [
    "LOGS",
    "checkpoint_path",
    "data_record_path",
    "journal_path",
    "metrics_path",
    "packed_path",
    "probe_path",
    "results_path",
    "task_folder",
]

LOGS = "logs"
"""What a logger of a task's folder calls itself; its version is the phase."""


def results_path(folder: Path) -> Path:
    """Returns the place of everything measured."""
    return folder / "results.json"


def packed_path(folder: Path) -> Path:
    """Returns the place of the network with all finished tasks."""
    return folder / "packed.safetensors"


def task_folder(folder: Path, task: str) -> Path:
    """Returns the place of the checkpoints, logs, probe and journal of ``task``."""
    return folder / "tasks" / task


def checkpoint_path(folder: Path, task: str, phase: Phase) -> Path:
    """Returns the place of the one checkpoint of a phase."""
    return task_folder(folder, task) / phase / "last.ckpt"


def metrics_path(folder: Path, task: str, phase: Phase) -> Path:
    """Returns the place of the metrics of a phase, where ``logger=csv`` writes them."""
    return task_folder(folder, task) / LOGS / phase / "metrics.csv"


def probe_path(folder: Path, task: str) -> Path:
    """Returns the place of the images and logits that show whether an answer has changed."""
    return task_folder(folder, task) / "probe.safetensors"


def journal_path(folder: Path, task: str) -> Path:
    """Returns the place of what is known of ``task`` since it was finished."""
    return task_folder(folder, task) / "finished.json"


def data_record_path(folder: Path, task: str) -> Path:
    """Returns the place of what data ``task`` was begun with."""
    return task_folder(folder, task) / "data.json.gz"
