"""The results of a run, ``results.json``: the record, its one writer and its one reader."""

from pathlib import Path
from typing import Literal

import msgspec

from packnet_pl.counting import counted
from packnet_pl.records import read_json, write_json
from packnet_pl.run_directory import SavedRun, results_path

__all__ = ["Results", "Storage", "TaskResult", "is_complete", "read_results", "write_results"]


class TaskResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The results of one finished task.

    Attributes:
        name: Of the task.
        num_classes: Of the task.
        class_names: One per class.
        prune_ratio: In [0, 1), or None if nothing was released.
        owned: Share of all prunable weights that the task owns, or None if the method owns none.
        seconds: Wall time from its begin, or from the last resume, to its end; None if it was finished elsewhere.
        test_size: Images in the test split.
        val_accuracy: "dense", "pruned" (right after pruning) and "retrained", in [0, 1]; None where it has no meaning.
    """

    name: str
    num_classes: int
    class_names: list[str]
    prune_ratio: float | None
    owned: float | None
    seconds: float | None
    test_size: int
    val_accuracy: dict[str, float | None]


class Storage(msgspec.Struct, frozen=True):
    """What the tasks take on the disk.

    Attributes:
        dense_bytes: As a separate network per task.
        networks: How many networks are kept.
        packed_bytes: As the packed file.
        owner_bits_per_weight: Of the packed file; 0 if nothing is owned.
    """

    dense_bytes: int
    networks: int
    packed_bytes: int
    owner_bits_per_weight: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``results.json``, in its order. Keys that are not listed here are passed over.

    Attributes:
        format: Of the file.
        method: Name of the method.
        arch: Name of the backbone.
        seed: Of the run.
        complete: Whether every task is finished.
        versions: Library -> version.
        tasks: Finished tasks, in order.
        accuracy: Row i: after fit i; column j: top-1 accuracy of task j on its test split then, in [0, 1].
        outputs_unchanged: Per task: whether its probe's logits now are, bit for bit, those before it was finished; None
            for a task that was finished elsewhere and has no probe here.
        data_changed: Per task: whether its test split is another one than when it was finished; forgetting is None.
            Empty in files of earlier versions.
        forgetting: Per task: accuracy when it was finished minus accuracy now; None where it has no meaning.
        free: Share of all prunable weights that nobody owns, or None if the method owns none.
        storage: What the tasks take on the disk.
        settings: Of the method, as far as it has any: name -> text, number or bool.
        val_now: Per task: accuracy on its validation split at the end, in [0, 1]; None where it has none here.
    """

    format: Literal[1]
    method: str
    arch: str
    seed: int
    complete: bool
    versions: dict[str, str]
    tasks: list[TaskResult]
    accuracy: list[list[float]]
    outputs_unchanged: list[bool | None]
    data_changed: list[bool] = []
    forgetting: list[float | None]
    free: float | None
    storage: Storage
    settings: dict[str, object]
    val_now: list[float | None]

    def __post_init__(self) -> None:
        """Checks that there is one figure per task, and that accuracies are fractions.

        Raises:
            ValueError: If there is not.
        """
        sizes = {
            "the last row of accuracy": len(self.accuracy[-1]) if self.accuracy else 0,
            "outputs_unchanged": len(self.outputs_unchanged),
            "forgetting": len(self.forgetting),
            "val_now": len(self.val_now),
        }
        for name, size in sizes.items():
            if size != len(self.tasks):
                raise ValueError(f"{name} has {size} entries for {counted(len(self.tasks), 'task')}")
        lengths = [len(row) for row in self.accuracy]
        one_by_one = len(lengths) == len(self.tasks)
        if any(length < (number if one_by_one else 1) for number, length in enumerate(lengths, start=1)):
            raise ValueError(f"the rows of accuracy have {lengths} entries; each has one per task that was finished")
        if any(not 0 <= value <= 1 for row in self.accuracy for value in row):
            raise ValueError("accuracy has a value that is not in [0, 1]")


def write_results(folder: Path, results: Results) -> None:
    """Replaces the file in the run directory ``folder`` as a whole.

    Raises:
        ValueError: If a figure is NaN or infinite.
    """
    write_json(results_path(folder), results)


def read_results(folder: Path) -> Results:
    """Returns the results of the run in ``folder``.

    Raises:
        ValueError: If the file is damaged, or of another format.
        OSError: If it cannot be read.
    """
    path = results_path(folder)
    try:
        return read_json(path, Results)
    except ValueError as error:
        raise ValueError(f"{path} is not a results file, or is damaged: {error}") from error


def is_complete(folder: Path, run: SavedRun) -> bool:
    """Returns whether ``results.json`` says that all tasks of ``run`` are finished."""
    try:
        results = read_results(folder)
        return results.complete and [task.name for task in results.tasks] == list(run.config["sequence"]["order"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
