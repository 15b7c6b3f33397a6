"""The results of a run, and their form on disk: ``results.json``."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packnet_pl.files import replacing
from packnet_pl.run.metrics import Scores

__all__ = ["Results", "TaskResult", "read_results"]

FORMAT = 1


@dataclass
class TaskResult:
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


@dataclass
class Results:
    """The content of ``results.json``.

    Attributes:
        method: Name of the method.
        arch: Name of the backbone.
        seed: Of the run.
        settings: Of the method, as far as it has any: name -> text, number or bool.
        tasks: Finished tasks, in order.
        scores: After each fit: task -> scores on its test split, for all tasks so far.
        val_now: Task -> accuracy on its validation split at the end, in [0, 1]; None where it has none here.
        outputs_unchanged: Per task: whether its probe's logits now are, bit for bit, those before it was finished; None
            for a task that was finished elsewhere and has no probe here.
        data_changed: Per task: whether its test split is another one than when it was finished; forgetting is None.
        free: Share of all prunable weights that nobody owns, or None if the method owns none.
        storage: "dense_bytes" (a separate network per task), "packed_bytes" (the packed file), "networks" (that are
            kept), and "owner_bits_per_weight".
        complete: Whether every task is finished.
    """

    method: str
    arch: str
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: list[TaskResult] = field(default_factory=list)
    scores: list[dict[str, Scores]] = field(default_factory=list)
    val_now: dict[str, float | None] = field(default_factory=dict)
    outputs_unchanged: list[bool | None] = field(default_factory=list)
    data_changed: list[bool] = field(default_factory=list)
    free: float | None = None
    storage: dict[str, float] = field(default_factory=dict)
    complete: bool = False

    def dump(self) -> dict[str, Any]:
        """Returns the content of ``results.json``."""
        accuracy = [[scores.top1 for scores in row.values()] for row in self.scores]
        forgetting: list[float | None] = [None] * len(self.tasks)
        if len(accuracy) == len(self.tasks):  # tasks that were learned together forget nothing one by one
            forgetting = [row[-1] - now for row, now in zip(accuracy, accuracy[-1] if accuracy else [], strict=True)]
        for index, changed in enumerate(self.data_changed):
            forgetting[index] = None if changed else forgetting[index]
        return {
            "format": FORMAT,
            "method": self.method,
            "arch": self.arch,
            "seed": self.seed,
            "complete": self.complete,
            "versions": _versions(),
            "tasks": [asdict(task) for task in self.tasks],
            "accuracy": accuracy,
            "outputs_unchanged": self.outputs_unchanged,
            "data_changed": self.data_changed,
            "forgetting": forgetting,
            "free": self.free,
            "storage": self.storage,
            "settings": dict(self.settings),
            "val_now": [self.val_now.get(task.name) for task in self.tasks],
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Replaces ``path`` as a whole.

        Raises:
            ValueError: If a figure is NaN or infinite.
        """
        text = json.dumps(self.dump(), indent=1, allow_nan=False, ensure_ascii=False)
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the content of a ``results.json``.

    Raises:
        ValueError: If it is not one, or of another format.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a results file, or is damaged: {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ValueError(f"{path} is not a results file of format {FORMAT}")
    return results


def _versions() -> dict[str, str]:
    found = {}
    for name in ("packnet-pl", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy"):
        try:
            found[name.replace("-", "_")] = version(name)
        except PackageNotFoundError:
            continue
    return found
