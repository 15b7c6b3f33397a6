"""Evaluates every task so far: its accuracy now, and whether its probe's logits are still the same bits."""

from collections.abc import Sequence
from dataclasses import dataclass

from packnet_pl.confusion import Confusion
from packnet_pl.core.bits import same_bits
from packnet_pl.results import TaskResult
from packnet_pl.run.artifacts import is_main
from packnet_pl.run.metrics import Scores, measure_together
from packnet_pl.run.plan import RunPlan, TaskPlan
from packnet_pl.run.predictions import Predictions, confusion_of
from packnet_pl.run.probe import load_probe
from packnet_pl.run.probe_logits import probe_logits
from packnet_pl.run.sharded import place_
from packnet_pl.run.task_record import TaskRecord
from packnet_pl.run_directory import probe_path
from packnet_pl.training import MultiHeadClassifier

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What was measured after a fit.

    Attributes:
        records: Of the tasks that were just finished.
        confusions: Task -> what is taken for what on its test split now; without tasks whose data are not here. Empty
            but in the process that writes.
    """

    records: list[TaskRecord]
    confusions: dict[str, Confusion]


def evaluate(
    plan: RunPlan,
    tasks: Sequence[TaskPlan],
    model: MultiHeadClassifier,
    results: Sequence[TaskResult],
    before: Sequence[TaskRecord],
) -> Evaluation:
    """Tests all tasks; all processes have to call it.

    Args:
        plan: Of the run.
        tasks: All that are finished.
        model: With these tasks.
        results: Of those that were fitted last, together; only the last one's record holds what is measured here.
        before: The records of the earlier ones; figures of a task without data are taken from there.
    """
    # A fit leaves the module on the CPU, where the probes were computed.
    unchanged = [_is_unchanged(plan, task, model) for task in tasks]
    scores: dict[str, Scores] = {}
    val_now: dict[str, float | None] = {}
    confusions: dict[str, Confusion] = {}
    place_(model, plan.device)
    for task in tasks:
        if task.data is None:
            scores[task.name], val_now[task.name] = before[-1].scores[task.name], before[-1].val_now.get(task.name)
            continue
        num_classes = len(task.data.class_names)
        datamodule = plan.datamodule(task.name, task.data)
        predictions = Predictions(len(task.data.test))  # type: ignore[arg-type]
        with model.predicting(task.name) as predict:
            scores[task.name] = measure_together(predict, datamodule, "test", num_classes, plan.device, predictions)
            val_now[task.name] = measure_together(predict, datamodule, "val", num_classes, plan.device).top1
        if is_main():
            names = model.heads.infos[task.name].class_names or task.data.class_names
            confusions[task.name] = confusion_of(predictions, task.data, names, tasks[-1].name)
    place_(model, "cpu")
    data = dict(before[-1].data) if before else {}
    data |= {task.name: dict(task.data.inventory.splits) for task in tasks if task.data is not None}
    together = [TaskRecord(result, {}, [], {}) for result in results[:-1]]
    return Evaluation([*together, TaskRecord(results[-1], scores, unchanged, val_now, data)], confusions)


def _is_unchanged(plan: RunPlan, task: TaskPlan, model: MultiHeadClassifier) -> bool | None:
    """Returns whether the logits of the task's probe are those of before it was finished.

    None without a probe, and where the network is sharded, in other processes than the first.
    """
    probe = probe_path(plan.folder, task.name)
    if not probe.exists():
        return None
    images, then = load_probe(probe)
    logits = probe_logits(model, task.name, images)
    return None if logits is None else same_bits(logits, then)
