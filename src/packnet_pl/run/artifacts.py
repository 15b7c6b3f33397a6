"""Writes the artifacts of a run after each task: packed file, report, and last ``results.json``."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import prod

from msgspec.structs import replace
from pytorch_lightning.utilities import rank_zero_only

from packnet_pl.container import PackedFile, narrow_shapes, open_packed
from packnet_pl.core.slots import plain_name
from packnet_pl.packed import FeatureStatistics, NetworkPerTask, TaskFigures, save_packed
from packnet_pl.report import draw_ownership
from packnet_pl.report.style import write_figure
from packnet_pl.results import Results, Storage, TaskResult, write_results
from packnet_pl.run.metrics import Scores, write_accuracy_csv, write_class_csv
from packnet_pl.run.plan import RunPlan
from packnet_pl.run.task_record import TaskRecord
from packnet_pl.run_directory import packed_path
from packnet_pl.shares import shares_of, total_of
from packnet_pl.training import MultiHeadClassifier

__all__ = ["gather_results", "is_main", "write_outcome"]


def is_main() -> bool:
    """Returns whether this is the process that writes: the only one, or the first of several.

    Lightning knows it before the processes are connected, and not only from then on.
    """
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def write_outcome(
    plan: RunPlan,
    model: MultiHeadClassifier,
    records: Sequence[TaskRecord],
    written: Callable[[], None],
    statistics: Mapping[str, FeatureStatistics] | None = None,
) -> None:
    """Writes all artifacts; each file is replaced as a whole, and ``results.json`` comes last.

    Processes that have a part of the network each gather it together; the main one writes.

    Args:
        plan: Of the run.
        model: With the finished tasks.
        records: One per finished task.
        written: Called when all but ``results.json`` is written, which says that the run is complete.
        statistics: Finished task -> statistics of its features, of those that have any.
    """
    rows = _rows(records)
    finished = {r.task.name: next(row[r.task.name].top1 for row in rows if r.task.name in row) for r in records}
    figures = {r.task.name: TaskFigures(r.task.prune_ratio, finished[r.task.name]) for r in records}
    history = [record.dump() for record in records]
    path = packed_path(plan.folder)
    packed = save_packed(model, path, figures=figures, history=history, recipe=plan.recipe, statistics=statistics)
    if not is_main():
        return
    if model.packnet is not None:
        layers = shares_of(packed.counts, packed.tasks)
        draw = partial(draw_ownership, layers, total_of(layers, packed.tasks))
        write_figure(draw, plan.folder / "report" / "ownership")
    write_accuracy_csv(plan.folder / "report" / "accuracy.csv", rows)
    class_names = {record.task.name: record.task.class_names for record in records}
    write_class_csv(plan.folder / "report" / "per_class.csv", records[-1].scores, class_names)
    written()
    write_results(plan.folder, _results(plan, model, records, packed))


def gather_results(plan: RunPlan, model: MultiHeadClassifier, records: Sequence[TaskRecord]) -> Results:
    """Returns the content of ``results.json``; the packed file must be there.

    Args:
        plan: Of the run.
        model: With the finished tasks.
        records: One per finished task.
    """
    return _results(plan, model, records, open_packed(packed_path(plan.folder)))


def _results(plan: RunPlan, model: MultiHeadClassifier, records: Sequence[TaskRecord], packed: PackedFile) -> Results:
    head_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.heads.parameters())
    storage = Storage(
        dense_bytes=sum(_backbone_bytes(model, record.task.name) for record in records) + head_bytes,
        networks=len(model.networks) if isinstance(model, NetworkPerTask) else 1,
        packed_bytes=packed.size,
        owner_bits_per_weight=packed.owner_bits_per_weight or 0.0,
    )
    accuracy = [[scores.top1 for scores in row.values()] for row in _rows(records)]
    data_changed = [_is_retested(record, records[-1]) for record in records]
    return Results(
        format=1,
        method=plan.method,
        arch=plan.arch,
        seed=plan.seed,
        complete=len(records) == len(plan.tasks),
        versions=_versions(),
        tasks=[_as_owned_now(record.task, packed) for record in records],
        accuracy=accuracy,
        outputs_unchanged=records[-1].outputs_unchanged,
        data_changed=data_changed,
        forgetting=_forgetting(accuracy, data_changed),
        free=_free(packed) if model.packnet is not None else None,
        storage=storage,
        settings=dict(plan.settings),
        val_now=[records[-1].val_now.get(record.task.name) for record in records],
    )


def _backbone_bytes(model: MultiHeadClassifier, task: str) -> int:
    """Returns how large the backbone is with which a task is computed: it may have grown since."""
    narrow = model.packnet.state.shapes.get(task, {}) if model.packnet is not None else {}
    sizes = [(prod(narrow.get(plain_name(n), p.shape)), p.element_size()) for n, p in model.backbone.named_parameters()]
    return sum(entries * size for entries, size in sizes)


def _as_owned_now(result: TaskResult, packed: PackedFile) -> TaskResult:
    """Returns the figures of a task with its share of the weights that there are now: the network may have grown."""
    if not narrow_shapes(packed.header):
        return result
    return replace(result, owned=total_of(shares_of(packed.counts, packed.tasks), packed.tasks).fraction(result.name))


def _free(packed: PackedFile) -> float:
    """Returns the fraction, in [0, 1], of all prunable weights that is free."""
    return total_of(shares_of(packed.counts, packed.tasks), packed.tasks).free_fraction


def _forgetting(accuracy: Sequence[Sequence[float]], data_changed: Sequence[bool]) -> list[float | None]:
    """Returns, per task, its accuracy when it was finished minus that of now; None where it has no meaning."""
    if len(accuracy) != len(data_changed):  # tasks that were learned together forget nothing one by one
        return [None] * len(data_changed)
    pairs = zip(accuracy, accuracy[-1], data_changed, strict=True)
    return [None if changed else row[-1] - now for row, now, changed in pairs]


def _is_retested(then: TaskRecord, now: TaskRecord) -> bool:
    """Returns whether the task was tested, at the end, on another split than when it was finished."""
    splits = [record.data.get(then.task.name) for record in (then, now)]
    return None not in splits and splits[0]["test"] != splits[1]["test"]  # type: ignore[index]


def _rows(records: Sequence[TaskRecord]) -> list[dict[str, Scores]]:
    """Returns the scores after each fit: of tasks that were learned together, only the last has any."""
    return [record.scores for record in records if record.scores]


def _versions() -> dict[str, str]:
    found = {}
    for name in ("packnet-pl", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy"):
        try:
            found[name.replace("-", "_")] = version(name)
        except PackageNotFoundError:
            continue
    return found
