"""Sections of a run's page from what its directory records beside the results: owners, a filter, curves, confusions."""

from collections.abc import Mapping
from functools import partial

from packnet_pl.confusion import Confusion
from packnet_pl.counting import counted
from packnet_pl.report.capacity_figure import draw_capacity
from packnet_pl.report.confusion_figure import draw_confusion
from packnet_pl.report.curves_figure import draw_curves
from packnet_pl.report.filter_figure import draw_filter, most_divided
from packnet_pl.report.ownership_figure import draw_ownership
from packnet_pl.report.page import Block, Figure, Heading, Section, Table, Text
from packnet_pl.report.pairs_figure import draw_pairs
from packnet_pl.report.story import RunStory

__all__ = ["story_sections"]

MOST_DRAWN = 8
"""Confusion matrices of more tasks than these are not drawn, so that the page stays small; all have a table."""
MOST_PAIRS = 8


def story_sections(story: RunStory) -> list[Section]:
    """Returns the sections of what is there."""
    sections = []
    if story.layers and story.total.owned:
        sections.append(_owners(story))
    if story.filters.snapshots:
        sections.append(_filter(story))
    if story.curves:
        sections.append(_curves(story))
    if story.confusions:
        sections.append(_confusions(story.confusions))
    return sections


def _owners(story: RunStory) -> Section:
    total = story.total
    shares = ", ".join(f"{task} {100 * total.fraction(task):.3g} %" for task in total.owned)
    told = f"{shares}, free {100 * total.free_fraction:.3g} %"
    return Section(
        "owners",
        "Who owns which weights",
        [
            Figure(
                "ownership",
                partial(draw_ownership, story.layers, total),
                f"Each weight belongs to one task, or is free; all layers together: {told}.",
                f"A bar per layer, divided among tasks. All {total.weights:,} weights: {told}.",
            ),
            Figure(
                "capacity",
                partial(draw_capacity, total),
                "What is left after each task. A task keeps what it owns; the next one begins with all that is free.",
                f"A bar per task, divided into what the tasks so far own and what is free. At the end: {told}.",
            ),
        ],
    )


def _filter(story: RunStory) -> Section:
    history = story.filters
    number = most_divided(history)
    watched = history.filters[number]
    tasks = list(dict.fromkeys(snapshot.task for snapshot in history.snapshots))
    size = f"{watched.size[0]} x {watched.size[1]}"
    return Section(
        "filter",
        "The evolution of a filter",
        [
            Figure(
                "filter",
                partial(draw_filter, history, number),
                "A task trains all that earlier tasks left free; pruning frees the smallest of what it trained; what "
                "remains is retrained, and frozen from then on. The stronger a colour, the larger the weight.",
                f"The {size} filter {list(watched.index)} of {watched.layer}, coloured by owner: trained, pruned"
                f" and retrained with each of {counted(len(tasks), 'task')}: {', '.join(tasks)}.",
            )
        ],
    )


def _curves(story: RunStory) -> Section:
    ends = [curve.values.get("val_accuracy", ()) for curve in story.curves]
    last = [value for values in ends for value in values if value is not None]
    told = f" The last validation accuracy is {100 * last[-1]:.1f} %." if last else ""
    return Section(
        "curves",
        "Learning curves",
        [
            Figure(
                "curves",
                partial(draw_curves, story.curves),
                "Accuracy and loss over the epochs of all tasks; the marks say where a task was pruned.",
                f"Lines of accuracy and loss on training and validation splits, task after task.{told}",
            )
        ],
    )


def _confusions(confusions: Mapping[str, Confusion]) -> Section:
    blocks: list[Block] = []
    worst = sorted(confusions, key=lambda task: confusions[task].accuracy)[:MOST_DRAWN]
    if len(worst) < len(confusions):
        blocks.append(Text(f"Drawn are the {counted(len(worst), 'task')} with the largest errors."))
    for number, (task, confusion) in enumerate(confusions.items(), start=1):
        blocks.append(Heading(task))
        wrong = confusion.confused()
        total = sum(confusion.images)
        told = f"{sum(images for *_, images in wrong):,} of {total:,} test images are taken for another class"
        if task in worst:
            blocks.append(
                Figure(
                    f"confusion-{number}",
                    partial(draw_confusion, confusion, task),
                    f"{task}: {told}.",
                    f"Confusion matrix of {counted(len(confusion.class_names), 'class')} of {task}: {told}.",
                )
            )
        if task in worst and confusion.pairs:
            blocks.append(
                Figure(
                    f"pairs-{number}",
                    partial(draw_pairs, confusion, task),
                    f"{task}: images of the most confused pairs of classes.",
                    f"Images of {task} that are taken for another class, each beside one of that class; the pairs are "
                    "those at the top of the table below.",
                )
            )
        if wrong:
            blocks.append(_pairs_table(task, confusion))
    return Section("confusions", "What is taken for what", blocks)


def _pairs_table(task: str, confusion: Confusion) -> Table:
    names = confusion.class_names
    of_class: dict[int, int] = {}
    for actual, _, images in confusion.entries():
        of_class[actual] = of_class.get(actual, 0) + images
    return Table(
        f"{task}: the most confused pairs",
        ["class", "taken for", "images", "of its images, %"],
        [
            [names[actual], names[predicted], f"{images:,}", f"{100 * images / of_class[actual]:.1f}"]
            for actual, predicted, images in confusion.confused()[:MOST_PAIRS]
        ],
    )
