"""Writes the artifacts of a run after each task: packed file, report, and last ``results.json``."""

from collections.abc import Sequence
from dataclasses import replace

from pytorch_lightning.utilities import rank_zero_only

from packnet_pl.container import PackedFile, open_packed
from packnet_pl.packed import NetworkPerTask, TaskFigures, save_packed
from packnet_pl.report import draw_ownership
from packnet_pl.run.metrics import Scores, write_accuracy_csv, write_class_csv
from packnet_pl.run.plan import RunPlan
from packnet_pl.run.results import Results
from packnet_pl.run.task_record import Entry
from packnet_pl.run_directory import packed_path, results_path
from packnet_pl.training import MultiHeadClassifier

__all__ = ["gather_results", "is_main", "write_outcome"]


def is_main() -> bool:
    """Returns whether this is the process that writes: the only one, or the first of several.

    Lightning knows it before the processes are connected, and not only from then on.
    """
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def write_outcome(plan: RunPlan, model: MultiHeadClassifier, entries: Sequence[Entry]) -> None:
    """Writes all artifacts; each file is replaced as a whole, and ``results.json`` comes last.

    Args:
        plan: Of the run.
        model: With the finished tasks.
        entries: One per finished task.
    """
    # The packed file of two equal runs is equal, and the time they took is not.
    history = [replace(entry, task=replace(entry.task, seconds=None)).dump() for entry in entries]
    rows = _rows(entries)
    finished = {e.task.name: next(row[e.task.name].top1 for row in rows if e.task.name in row) for e in entries}
    figures = {e.task.name: TaskFigures(e.task.prune_ratio, finished[e.task.name]) for e in entries}
    packed = save_packed(model, packed_path(plan.folder), figures=figures, history=history, recipe=plan.recipe)
    if model.packnet is not None:
        draw_ownership(model.packnet.summary(), plan.folder / "report" / "ownership.png")
    write_accuracy_csv(plan.folder / "report" / "accuracy.csv", rows)
    class_names = {entry.task.name: entry.task.class_names for entry in entries}
    write_class_csv(plan.folder / "report" / "per_class.csv", entries[-1].scores, class_names)
    _results(plan, model, entries, packed).write(results_path(plan.folder))


def gather_results(plan: RunPlan, model: MultiHeadClassifier, entries: Sequence[Entry]) -> Results:
    """Returns the content of ``results.json``; the packed file must be there.

    Args:
        plan: Of the run.
        model: With the finished tasks.
        entries: One per finished task.
    """
    return _results(plan, model, entries, open_packed(packed_path(plan.folder)))


def _results(plan: RunPlan, model: MultiHeadClassifier, entries: Sequence[Entry], packed: PackedFile) -> Results:
    parameters = list(model.backbone.parameters())
    backbone_bytes = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    head_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.heads.parameters())
    storage = {
        "dense_bytes": len(entries) * backbone_bytes + head_bytes,
        "networks": len(model.networks) if isinstance(model, NetworkPerTask) else 1,
        "packed_bytes": packed.size,
        "owner_bits_per_weight": packed.owner_bits_per_weight or 0.0,
    }
    free = None
    if model.packnet is not None:
        free = model.packnet.summary().total.free_fraction
    return Results(
        plan.method,
        plan.arch,
        plan.seed,
        settings=plan.settings,
        tasks=[entry.task for entry in entries],
        scores=_rows(entries),
        val_now=entries[-1].val_now,
        outputs_unchanged=entries[-1].outputs_unchanged,
        data_changed=[_is_retested(entry, entries[-1]) for entry in entries],
        free=free,
        storage=storage,
        complete=len(entries) == len(plan.tasks),
    )


def _is_retested(then: Entry, now: Entry) -> bool:
    """Returns whether the task was tested, at the end, on another split than when it was finished."""
    splits = [entry.data.get(then.task.name) for entry in (then, now)]
    return None not in splits and splits[0]["test"] != splits[1]["test"]  # type: ignore[index]


def _rows(entries: Sequence[Entry]) -> list[dict[str, Scores]]:
    """Returns the scores after each fit: of tasks that were learned together, only the last has any."""
    return [entry.scores for entry in entries if entry.scores]
