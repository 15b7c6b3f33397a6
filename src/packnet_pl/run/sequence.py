"""The task loop of a run: fits a task, evaluates all tasks so far, writes what a later process can resume from."""

import logging
from collections.abc import Sequence

from rich.console import Console

from packnet_pl.confusion import write_confusion
from packnet_pl.distributed import wait_for_all
from packnet_pl.results import Results
from packnet_pl.run.artifacts import gather_results, is_main, write_outcome
from packnet_pl.run.data_record import keep_data_record
from packnet_pl.run.evaluation import evaluate
from packnet_pl.run.feature_statistics import fitted_statistics
from packnet_pl.run.loggers import RunLoggers
from packnet_pl.run.plan import RunPlan, TaskPlan
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.resume_point import Start, find_start
from packnet_pl.run.sharded import takes_part
from packnet_pl.run.signals import StopRequest
from packnet_pl.run.stage_fit import fit_stage
from packnet_pl.run.task_record import TaskRecord, read_task_records, write_task_record
from packnet_pl.run_directory import confusion_path
from packnet_pl.training import MultiHeadClassifier

__all__ = ["run_sequence"]

_log = logging.getLogger(__name__)


def run_sequence(plan: RunPlan, model: MultiHeadClassifier, console: Console, stop: StopRequest) -> Results:
    """Trains all tasks in turn; after each it writes ``results.json``, the packed file and the figure.

    It goes on from what lies in the run directory already.

    Args:
        plan: What to do.
        model: Without tasks yet.
        console: For progress.
        stop: Asked where the run can leave without losing anything.

    Returns:
        The results, complete.

    Raises:
        CapacityError: If the earlier tasks left no weight free for a task.
        FloatingPointError: If a loss is not finite; the finished tasks are on disk.
        StoppedError: If it was asked to stop.
    """
    start = find_start(plan, model)
    names = [task.name for task in plan.tasks]
    records = read_task_records(plan.folder, names[: start.finished])
    if start.resume is not None:
        _log.info("%s goes on from %s", names[start.finished], start.resume[1])
    with RunLoggers(plan) as loggers:
        loggers.replay(records, start.resume[0] if start.resume else None)
        if model.tasks and is_main():  # not sharded yet
            _record_data(plan, plan.tasks[: start.finished])
            # A killed run may have left it one task behind.
            write_outcome(plan, model, records, loggers.files, start.statistics)
        _fit_all(plan, model, console, stop, loggers, records, start)
    return gather_results(plan, model, records)


def _fit_all(
    plan: RunPlan,
    model: MultiHeadClassifier,
    console: Console,
    stop: StopRequest,
    loggers: RunLoggers,
    records: list[TaskRecord],
    start: Start,
) -> None:
    """Fits what is not finished, and adds to ``records``."""
    finished, resume, statistics = start.finished, start.resume, dict(start.statistics)
    done = {task.name for task in plan.tasks[:finished]}
    todo = [stage for stage in plan.stages if stage.last.name not in done]
    with RunProgress(console, plan, [record.task.seconds for record in records]) as progress:
        for stage in todo:
            stop.raise_if_asked()
            progress.begin(stage)
            if is_main():
                _record_data(plan, stage.tasks)
            results = fit_stage(plan, stage, model, progress, resume, stop, loggers)
            was_resumed, finished, resume = resume is not None, finished + len(results), None
            found = evaluate(plan, plan.tasks[:finished], model, results, records)
            records += found.records
            if takes_part(model):
                statistics |= fitted_statistics(plan, stage.tasks, model)
            if is_main():
                loggers.finished(records)
                # Before the records: what is finished is not tested again when a killed run resumes.
                for task, confusion in found.confusions.items():
                    write_confusion(confusion_path(plan.folder, task), confusion)
                for record in found.records:
                    write_task_record(plan.folder, record)
            if takes_part(model):
                write_outcome(plan, model, records, loggers.files, statistics)
            progress.end(results, resumed=was_resumed)
            wait_for_all()


def _record_data(plan: RunPlan, tasks: Sequence[TaskPlan]) -> None:
    for task in tasks:
        if task.data is not None:
            keep_data_record(plan.folder, task.name, task.data)
