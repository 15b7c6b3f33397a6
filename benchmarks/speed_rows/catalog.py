"""The table's rows: what each is, and what is to be reached."""

from dataclasses import dataclass

__all__ = ["ROWS", "Row", "choose"]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: As ``--rows`` takes it; rows of one group are measured together, in a process of their own.
        group: As :mod:`speed_rows.group` takes it.
        what: What is measured, over what.
        reach: The value to reach; None where the row is there to compare.
        unit: Behind the value; nothing for ratios.
        higher_is_better: Whether more is better.
    """

    name: str
    group: str
    what: str
    reach: float | None
    unit: str = ""
    higher_is_better: bool = False

    def reached(self, value: float) -> bool:
        """Returns whether ``value`` is as good as what is to be reached, which the row has."""
        assert self.reach is not None, self.name
        return value >= self.reach if self.higher_is_better else value <= self.reach


def _growth(name: str, norm: str, norms: str) -> list[Row]:
    group = f"growth:{norm}"
    of = f"task 50 over task 2, {norms}"
    return [
        Row(f"{name}-begin", group, f"begin_task, {of}", 1.2),
        Row(f"{name}-state", group, f"state_dict, {of}", 1.2),
        Row(f"{name}-step", group, f"step, {of}", 1.02),
        Row(f"{name}-evaluation", group, f"evaluation, {of}", 1.02),
        Row(
            f"{name}-checkpoint",
            group,
            f"state of 50 tasks over a byte a weight and own norms, {norms}",
            1.02,
        ),
        Row(
            f"{name}-packed",
            group,
            f"file of 50 tasks over values, owners' entropy, norms, heads, {norms}",
            1.02,
        ),
    ]


def _steps() -> list[Row]:
    over = "step of task 2 over plain fine-tuning"
    return [
        Row("step-vgg16", "steps:step-vgg16", f"{over}: VGG-16, batch 4, momentum", 1.03),
        Row("step-resnet50", "steps:step-resnet50", f"{over}: ResNet-50, batch 8, momentum", 0.97),
        Row("step-densenet121", "steps:step-densenet121", f"{over}: DenseNet-121, batch 8, momentum", 0.95),
        Row("step-vgg16-adamw", "steps:step-vgg16-adamw", f"{over}: VGG-16, batch 4, AdamW with decay", 1.03),
    ]


def _life() -> list[Row]:
    return [
        Row("prune-layer", "life", "prune(0.5) of task 1, all weights owned, in passes", 1.0),
        Row("prune-layer-half", "life", "prune(0.5) of task 2, half of the weights owned, in passes", 1.0),
        Row("prune-global", "life", 'prune(0.5, scope="global") of task 1, in passes', 2.0),
        Row("prune-global-half", "life", "the same of task 2, in passes", 2.0),
        Row("begin-second", "life", "begin_task of task 2, in passes", 1.5),
        Row("begin-third", "life", "begin_task of task 3, in passes", 1.5),
        Row("finish-first", "life", "finish_task of task 1, in passes", 1.5),
        Row("finish-second", "life", "finish_task of task 2, in passes", 1.5),
        Row("prune-threads", "threads", "prune(0.5) with two threads over one, by the clock", 0.6),
    ]


def _memory() -> list[Row]:
    peak = "peak of the process through two tasks"
    return [
        Row("memory-plain", "memory", "peak of plain fine-tuning, two steps", None, "B/weight"),
        Row("memory-layer", "memory", f"{peak}, per layer", 24, "B/weight"),
        Row("memory-global", "memory", f"{peak}, global", 24, "B/weight"),
        Row("memory-prune-layer", "memory", "peak of prune beyond what training holds, per layer", 2, "B/weight"),
        Row("memory-prune-global", "memory", "the same, global", 2, "B/weight"),
        Row("memory-held", "held", "held beyond plain fine-tuning: half frozen, momentum", 1, "B/weight"),
        Row("memory-held-decay", "held", "the same, AdamW with decay", 3, "B/weight"),
    ]


ROWS: tuple[Row, ...] = (
    *_life(),
    *_steps(),
    *_growth("growth", "shared", "norms shared"),
    *_growth("growth-norms", "per_task", "norms per task"),
    Row("callback", "callback", "a step in PackNetCallback beyond plain Lightning, 20 small layers", 100, "us"),
    *_memory(),
    Row("whole-run", "whole_run", "fits and evaluations of a run over plain Lightning, ResNet-18", 1.05),
    Row("end-of-task", "end_of_task", "packed file and results over the file alone, VGG-16", 1.1),
    Row("ddp", "ddp", "step in two processes (gloo) over plain Lightning DDP, ResNet-18", 1.02),
    Row("images", "images", "images read from the cache over a bare ImageFolder", 3.0, "", True),
    *(
        Row(f"gpu-{name}", "gpu", f"on a GPU: {what}", reach)
        for name, what, reach in (
            ("step-vgg16", "step over plain Lightning, VGG-16, batch 256", 1.03),
            ("step-resnet50", "step over plain Lightning, ResNet-50, batch 512", 1.03),
        )
    ),
)
"""All rows, in the order of the table."""


def choose(names: list[str]) -> list[Row]:
    """Returns the rows that are named, by whole names or by how they begin; all if none is.

    Raises:
        ValueError: If a name is of no row.
    """
    for name in names:
        if not any(row.name.startswith(name) for row in ROWS):
            raise ValueError(f"--rows {name}: no row begins so; there are {' '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if not names or any(row.name.startswith(name) for name in names)]
