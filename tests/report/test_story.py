"""What a report reads of a run, and its figures: whole, of few and many, and without what is missing."""

import io
import shutil
from functools import partial

import msgspec
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from packnet_pl import load_packed
from packnet_pl.confusion import ConfusedPair, Confusion, Example, read_confusion, write_confusion
from packnet_pl.filter_history import MOMENTS, FilterHistory, FilterSnapshot, WatchedFilter
from packnet_pl.report import (
    draw_accuracy,
    draw_capacity,
    draw_confusion,
    draw_curves,
    draw_filter,
    draw_ownership,
    draw_pairs,
    draw_storage,
    most_divided,
    read_story,
)
from packnet_pl.report.confusion_figure import MOST_CLASSES, shown_classes
from packnet_pl.report.curves import Curve, read_curve
from packnet_pl.report.style import DARK, LIGHT
from packnet_pl.shares import Share, total_of

METRICS = """epoch,packnet/free,step,train_accuracy,train_loss,val_accuracy,val_loss
0,,8,,,0.25,3.5
0,0.0,8,0.125,3.75,,
1,,17,,,0.5,2.5
1,0.0,17,0.75,,,
"""


def test_a_curve_has_what_was_logged_of_each_epoch(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    assert read_curve(tmp_path / "metrics.csv", "a", "train") == Curve(
        "a",
        "train",
        (0, 1),
        {
            "train_accuracy": (0.125, 0.75),
            "val_accuracy": (0.25, 0.5),
            "train_loss": (3.75, None),
            "val_loss": (3.5, 2.5),
        },
    )
    (tmp_path / "metrics.csv").write_text(METRICS.replace("3.75", "high"))
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: .*high"):
        read_curve(tmp_path / "metrics.csv", "a", "train")
    (tmp_path / "metrics.csv").write_text(METRICS.replace("\n0,", "\ninf,"))
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: .*infinity"):
        read_curve(tmp_path / "metrics.csv", "a", "train")
    (tmp_path / "metrics.csv").write_text(METRICS.replace("3.75", "inf").replace("3.5", "nan").replace("2.5", "1e300"))
    diverged = read_curve(tmp_path / "metrics.csv", "a", "train")
    assert diverged.values["train_loss"] == diverged.values["val_loss"] == (None, None)


def test_of_an_empty_folder_it_is_said_what_is_missing(tmp_path):
    story = read_story(tmp_path, ("a", "b"))
    assert (story.layers, story.curves, story.confusions) == ({}, (), {})
    assert [line.split(":")[0] for line in story.missing] == [
        "Who owns which weights is not known",
        "There are no learning curves",
        "No confusion matrix was recorded of a, b",
    ]


@pytest.mark.slow
def test_the_last_snapshot_is_what_was_packed(tiny_run):
    history = read_story(tiny_run[0], ("latin", "greek", "cyrillic", "digits")).filters
    last, network = history.snapshots[-1], load_packed(tiny_run[0] / "packed.safetensors")
    assert (last.task, last.moment, last.tasks) == ("digits", "retrained", tuple(network.tasks))
    backbone = network.standalone("digits").backbone  # it sees every task's weights
    for watched, values, owners in zip(history.filters, last.values, last.owners, strict=True):
        kernel = backbone.get_parameter(watched.layer)[watched.index]
        assert torch.equal(kernel, torch.tensor(values))
        assert torch.equal(network.packnet.owners[watched.layer][watched.index].long(), torch.tensor(owners))


@pytest.mark.slow
def test_a_task_is_recorded_as_finished_after_all_that_its_page_needs(tiny_run):
    for task in (tiny_run[0] / "tasks").iterdir():
        finished = (task / "finished.json").stat().st_mtime_ns
        assert (task / "filters.json").stat().st_mtime_ns < finished
        if task.name == "digits":  # the last one; those of the others are written again with each task
            assert (task / "confusion.json").stat().st_mtime_ns < finished


@pytest.mark.slow
def test_what_is_damaged_is_left_out_and_named(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run[0], tmp_path / "run")
    whole = read_story(folder, ("latin", "greek"))
    assert whole.missing == ()
    assert [(curve.task, curve.phase) for curve in whole.curves][:2] == [("latin", "train"), ("latin", "retrain")]
    assert [s.moment for s in whole.filters.snapshots if s.task == "latin"] == list(MOMENTS)
    assert set(whole.confusions) == {"latin", "greek"}
    assert sum(whole.parts.values()) == (folder / "packed.safetensors").stat().st_size
    (folder / "tasks/latin/confusion.json").write_text("{")
    (folder / "tasks/latin/filters.json").unlink()
    (folder / "tasks/greek/logs/train/metrics.csv").write_text("epoch,val_loss\nx,y\n")
    damaged = read_story(folder, ("latin", "greek"))
    assert set(damaged.confusions) == {"greek"}
    assert {s.task for s in damaged.filters.snapshots} == {"greek"}
    assert len(damaged.missing) == 3
    assert "metrics.csv is damaged" in damaged.missing[0]
    assert damaged.missing[1].startswith("No filters were recorded of latin")
    assert "confusion.json is no confusion matrix, or is damaged" in damaged.missing[2]
    path = folder / "tasks/greek/confusion.json"
    found = read_confusion(path)
    reference = msgspec.structs.replace(found.pairs[0].reference, png=found.pairs[0].reference.png[:90])
    pairs = (msgspec.structs.replace(found.pairs[0], reference=reference), *found.pairs[1:])
    write_confusion(path, msgspec.structs.replace(found, pairs=pairs))
    assert "its copy of image" in read_story(folder, ("latin", "greek")).missing[-1]


def test_grids_that_are_not_whole_are_no_history():
    whole = history(tasks=2, side=3).snapshots[-1]
    filters = history(tasks=2, side=3).filters
    for values, owners in (
        (((whole.values[0][0], whole.values[0][1][:2], whole.values[0][2]),), whole.owners),
        (whole.values, (((-1, 0, 0), *whole.owners[0][1:]),)),
        (whole.values, (((3, 0, 0), *whole.owners[0][1:]),)),
    ):
        with pytest.raises(ValueError, match=r"not the grids of|an owner is none of"):
            FilterHistory(filters, (msgspec.structs.replace(whole, values=values, owners=owners),))


def history(tasks, side):
    """Each task keeps one more row of cells."""
    names, snapshots = tuple(f"task {n}" for n in range(tasks)), []
    for number, task in enumerate(names):
        for moment in MOMENTS:
            rest = number + 1 if moment == "dense" else 0
            owners = tuple(
                (min(row, number) + 1 if row <= number and row < side - 1 else rest,) * side for row in range(side)
            )
            values = tuple(tuple(0.1 * (column + 1) * (owner > 0) for column, owner in enumerate(r)) for r in owners)
            snapshots.append(FilterSnapshot(task, moment, (values,), (owners,), names[: number + 1]))
    return FilterHistory((WatchedFilter("a.weight", (0, 0), (side, side)),), tuple(snapshots))


def confusion(classes):
    cells = sorted((n, m % classes) for n in range(classes) for m in (n, n + 1))
    actual, predicted = zip(*cells, strict=True)
    with io.BytesIO() as file:
        Image.new("L", (24, 24), 99).save(file, format="PNG")
        example = Example(0, file.getvalue())
    pairs = (ConfusedPair(0, 1, 3, (example, example), example), ConfusedPair(1, 0, 1, (example,)))
    names = tuple(f"$class$ {n}" for n in range(classes))
    return Confusion("a", names, actual, predicted, tuple(1 + a % 5 for a, _ in cells), pairs)


def ownership(layers, tasks):
    owned = {f"task {n}": 4 for n in range(tasks)}
    shares = {f"layer.{n}.weight": Share(4 * tasks + 2, owned, 2) for n in range(layers)}
    return shares, total_of(shares, list(owned))


def curves(tasks):
    found = []
    for number in range(tasks):
        for phase, count in (("train", 3), ("retrain", 1)):
            values = dict.fromkeys(("train_accuracy", "val_accuracy", "train_loss", "val_loss"), (0.5,) * count)
            found.append(Curve(f"task {number}", phase, tuple(range(count)), values))
    return found


FIGURES = {
    "one filter of two tasks": partial(draw_filter, history(2, 5), 0),
    "one filter of twelve tasks": partial(draw_filter, history(12, 3), 0),
    "two layers, two tasks": partial(draw_ownership, *ownership(2, 2)),
    "160 layers, twelve tasks": partial(draw_ownership, *ownership(160, 12)),
    "capacity of one task": partial(draw_capacity, ownership(1, 1)[1]),
    "capacity of twenty tasks": partial(draw_capacity, ownership(1, 20)[1]),
    "curves of two tasks": partial(draw_curves, curves(2)),
    "curves of twelve tasks": partial(draw_curves, curves(12)),
    "confusion of two classes": partial(draw_confusion, confusion(2), "$a$"),
    "confusion of a thousand classes": partial(draw_confusion, confusion(1000), "a"),
    "pairs": partial(draw_pairs, confusion(3), "a"),
    "accuracy of one task": partial(draw_accuracy, ["a"], [[0.5]]),
    "accuracy of twelve tasks": partial(draw_accuracy, list("abcdefghijkl"), [[0.5] * n for n in range(1, 13)]),
    "accuracy of tasks learned together": partial(draw_accuracy, ["a", "b"], [[0.5, 0.6]]),
    "storage": partial(draw_storage, 4_000_000, 1_000_000, {"weights": 900_000, "owners": 100_000}, 3),
    "storage of a method without owners": partial(draw_storage, 4_000_000, 4_000_000, {}, 3),
}


@pytest.mark.parametrize("theme", [LIGHT, pytest.param(DARK, marks=pytest.mark.exhaustive)], ids=["light", "dark"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive) if "160" in name else name for name in FIGURES]
)
def test_nothing_is_cut(name, theme):
    with theme._applied():
        figure = FIGURES[name](theme)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    drawn = figure.get_tightbbox(canvas.get_renderer())  # inches
    width, height = figure.get_size_inches()
    assert drawn.x0 >= -0.01, drawn
    assert drawn.y0 >= -0.01, drawn
    assert drawn.x1 <= width + 0.01, drawn
    assert drawn.y1 <= height + 0.01, drawn


def test_of_many_classes_the_most_confused_are_drawn():
    found = confusion(1000)
    classes = shown_classes(found)
    assert len(classes) <= MOST_CLASSES
    assert classes == sorted(classes)
    first = found.confused()[0]
    assert {first[0], first[1]} <= set(classes)
    assert shown_classes(confusion(30)) == list(range(30))


def test_classes_whose_names_are_the_same_in_short_are_told_apart():
    names = (*(f"a long name of a class, number {n}, of many" for n in (7, 8)), "cat")
    figure = draw_confusion(Confusion("cars", names, (0, 1, 2), (1, 1, 2), (3, 4, 5)), "cars", LIGHT)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(set(labels)) == 3
    assert labels[2] == "cat"


def test_the_filter_that_most_tasks_share_is_chosen():
    grids = (((1, 1), (1, 0)), ((1, 2), (3, 0)), ((3, 2), (1, 1)))
    values = tuple(tuple((0.0, 0.0) for _ in range(2)) for _ in grids)
    watched = tuple(WatchedFilter("a.weight", (n, 0), (2, 2)) for n in range(3))
    snapshot = FilterSnapshot("c", "retrained", values, grids, ("a", "b", "c"))
    assert most_divided(FilterHistory(watched, (snapshot,))) == 1
