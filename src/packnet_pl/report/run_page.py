"""The page of one run: its results, how they came about, and what would make them again."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from packnet_pl.counting import counted
from packnet_pl.names import shown
from packnet_pl.ratio_choice import RatioTrials
from packnet_pl.report.accuracy_figure import draw_accuracy
from packnet_pl.report.kinds import sequences
from packnet_pl.report.methods import compare_methods
from packnet_pl.report.methods_figure import draw_methods, method_points
from packnet_pl.report.methods_text import method_cells, method_headings
from packnet_pl.report.page import Block, Fact, Figure, Page, Section, Table, Text
from packnet_pl.report.runs import Run
from packnet_pl.report.settings_section import settings_section
from packnet_pl.report.storage_figure import draw_storage
from packnet_pl.report.story import read_story
from packnet_pl.report.story_sections import story_sections
from packnet_pl.report.table import RESULT_HEADINGS, percent, result_rows
from packnet_pl.report.trials_table import trials_table
from packnet_pl.results import Results
from packnet_pl.run_directory import SavedRun

__all__ = ["comparison_blocks", "footer", "run_page"]

MANY_TASKS = 20
"""With more tasks than these the accuracies after each task are a figure, and no table."""


def run_page(folder: Path, results: Results | None, saved: SavedRun | None, runs: Sequence[Run], split: str) -> Page:
    """Returns the page of the run in ``folder``; what it did not record is left out, and said.

    Args:
        folder: The run directory.
        results: What is finished so far; None if nothing is.
        saved: How it was started; None if that is not recorded.
        runs: This run and those of individual networks to set beside it, where they are finished.
        split: "test" or "val": on which this run is set beside them.
    """
    name = shown(folder.resolve().name)
    story = read_story(folder, tuple(task.name for task in results.tasks)) if results is not None else None
    sections = []
    if results is not None:
        trials = story.trials if story is not None else {}
        sections += [_results_section(results, trials), _accuracy_section(results)]
    if len(runs) > 1:
        sections.append(_individual_section(runs, "" if split == "test" else f"-{split}"))
    if story is not None and results is not None:
        sections += story_sections(story)
        sections.append(_storage_section(results, story.parts))
        if story.missing:
            sections.append(Section("missing", "What is not here", [Text(sentence) for sentence in story.missing]))
    sections.append(settings_section(results, saved))
    return Page(
        title=f"PackNet report: {name}",
        subtitle=_subtitle(results, saved),
        notices=_notices(folder, results, saved),
        facts=_facts(results) if results is not None else [],
        sections=sections,
        footer=footer(results.versions if results is not None else {}),
    )


def footer(versions: Mapping[str, str]) -> str:
    """Returns the last line of a page."""
    known = versions.get("packnet_pl")
    return "Made by packnet-report" + (f" from what packnet_pl {known} recorded." if known else ".")


def _subtitle(results: Results | None, saved: SavedRun | None) -> str:
    if results is None:
        order = list(saved.config["sequence"]["order"]) if saved is not None else []
        return f"Tasks: {', '.join(order)}" if order else "No task is finished."
    names = ", ".join(task.name for task in results.tasks)
    return f"{results.method} on {results.arch}, seed {results.seed}; {counted(len(results.tasks), 'task')}: {names}"


def _notices(folder: Path, results: Results | None, saved: SavedRun | None) -> list[str]:
    order = list(saved.config["sequence"]["order"]) if saved is not None else []
    go_on = f"go on with packnet-resume {shown(folder)}"
    if results is None:
        return [f"This run is not finished, and none of its tasks is: {go_on}."]
    if results.complete:
        return []
    of = f" of {counted(len(order), 'task')}" if order else ""
    return [f"This run is not finished: the page has {len(results.tasks)}{of}; {go_on}."]


def _facts(results: Results) -> list[Fact]:
    errors = [1 - accuracy for accuracy in results.accuracy[-1]]
    facts = [Fact(f"mean test error now, {counted(len(errors), 'task')}", f"{100 * fmean(errors):.2f} %")]
    forgotten = [value for value in results.forgetting[:-1] if value is not None]
    if forgotten:
        exact = not any(forgotten)
        facts.append(
            Fact(
                "forgetting, exactly, of every task" if exact else "mean forgetting, points",
                "0" if exact else f"{100 * fmean(forgotten):.2f}",
            )
        )
    probed = [value for value in results.outputs_unchanged if value is not None]
    if probed:
        facts.append(Fact("tasks whose logits are unchanged, bit for bit", f"{sum(probed)} of {len(probed)}"))
    if results.free is not None:
        facts.append(Fact("of the weights are free for tasks to come", f"{100 * results.free:.4g} %"))
    storage = results.storage
    if storage.packed_bytes:
        times = storage.dense_bytes / storage.packed_bytes
        facts.append(
            Fact(f"on disk; a network per task takes {times:.1f} times that", f"{storage.packed_bytes / 1e6:.3g} MB")
        )
    return facts


def _results_section(results: Results, trials: Mapping[str, RatioTrials]) -> Section:
    tasks = results.tasks
    blocks: list[Block] = [
        Table("Errors on the test splits, forgetting and weights, in %", RESULT_HEADINGS, result_rows(results)),
    ]
    if any(value is not None for task in tasks for value in task.val_accuracy.values()):
        blocks.append(
            Table(
                "What pruning costs and retraining brings back: error on the validation splits, in %",
                ["task", "prune ratio", "trained dense", "just pruned", "retrained", "now", "minutes"],
                [
                    [
                        task.name,
                        "-" if task.prune_ratio is None else f"{task.prune_ratio:g}",
                        *(_error(task.val_accuracy.get(moment)) for moment in ("dense", "pruned", "retrained")),
                        _error(results.val_now[index]),
                        "-" if task.seconds is None else f"{task.seconds / 60:.1f}",
                    ]
                    for index, task in enumerate(tasks)
                ],
            )
        )
    if trials:
        blocks.append(trials_table(tasks, trials, results.settings.get("tolerance")))
    changed = [task.name for task, is_other in zip(tasks, results.data_changed, strict=False) if is_other]
    if changed:
        blocks.append(Text(f"Tested on other images than when they were finished: {', '.join(changed)}."))
    return Section("results", "Results", blocks)


def _error(accuracy: float | None) -> str:
    return percent(None if accuracy is None else 1 - accuracy)


def _accuracy_section(results: Results) -> Section:
    names = [task.name for task in results.tasks]
    # Tasks that were learned together have one row.
    one_by_one = len(results.accuracy) == len(names)
    rows = [
        [names[index] if one_by_one else "all", *map(percent, row), *[""] * (len(names) - len(row))]
        for index, row in enumerate(results.accuracy)
    ]
    table = Table("Accuracy on each task's test split after each task, in %", ["after", *names], rows)
    now = ", ".join(f"{name} {percent(value)} %" for name, value in zip(names, results.accuracy[-1], strict=True))
    figure = Figure(
        "accuracy",
        partial(draw_accuracy, names, results.accuracy),
        "Accuracy on each task's test split after each task: down a column, what does not change is not forgotten.",
        f"Heat map of accuracies, a row per task that was finished. At the end: {now}.",
    )
    return Section("accuracy", "Accuracy after each task", [figure, table] if len(names) <= MANY_TASKS else [figure])


def _individual_section(runs: Sequence[Run], ending: str) -> Section:
    mine, *others = runs
    same = next(group for group in sequences(runs) if mine in group)
    if len(same) == 1:
        return Section(
            "individual",
            "Beside individual networks",
            [Text(f"The individual networks have another backbone or other tasks than this run: {others[0].folder}.")],
        )
    return Section("individual", "Beside individual networks", comparison_blocks(same, f"methods{ending}"))


def comparison_blocks(runs: Sequence[Run], name: str) -> list[Block]:
    """Returns the figure and the table of methods side by side, and what a reader of them has to know.

    Args:
        runs: Of one sequence and backbone.
        name: Of the figure's files, without an ending.
    """
    comparison = compare_methods(runs)
    points = method_points(comparison)
    best = min(points, key=lambda point: point.mean.mean)
    told = f"{comparison.heading}, {counted(len(points), 'row')}; lowest mean {best.mean.mean:.1f} %: {best.label}"
    return [
        Figure(
            name,
            partial(draw_methods, points, comparison.heading),
            "Points are means, bars sample standard deviations over the seeds; the dotted line is the mean of "
            "individual networks, if there are any.",
            told,
        ),
        Table(
            f"{comparison.title[0].upper()}{comparison.title[1:]}. Mean ± sample standard deviation over the seeds; "
            "gap and forgetting in points",
            method_headings(comparison),
            [[row.label, *method_cells(row, comparison.tasks)] for row in comparison.rows],
        ),
        *(Text(f"{note[0].upper()}{note[1:]}.") for note in comparison.notes),
    ]


def _storage_section(results: Results, parts: Mapping[str, int]) -> Section:
    storage = results.storage
    dense, packed, count = storage.dense_bytes, storage.packed_bytes, len(results.tasks)
    rows = [
        ["one file with all tasks", f"{packed:,}", f"{packed / 1e6:.2f}"],
        ["a network per task", f"{dense:,}", f"{dense / 1e6:.2f}"],
    ]
    blocks: list[Block] = [
        Figure(
            "storage",
            partial(draw_storage, dense, packed, parts, count),
            "The packed file beside a network per task.",
            f"Two bars: a network per task takes {dense / 1e6:.2f} MB, one file with all tasks {packed / 1e6:.2f} MB.",
        ),
        Table("What is kept on disk", ["what", "bytes", "MB"], rows),
    ]
    if storage.owner_bits_per_weight:
        blocks.append(
            Text(f"Who owns a weight takes {storage.owner_bits_per_weight:.2f} bits per weight in the packed file.")
        )
    return Section("storage", "Storage", blocks)
