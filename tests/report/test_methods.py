"""Methods side by side, from the results files of many runs."""

import csv
import io
import itertools

import pytest
from matplotlib.text import Text
from rich.console import Console

from packnet_pl.report import (
    LIGHT,
    compare_methods,
    draw_methods,
    find_runs,
    method_points,
    method_table,
    methods_markdown,
    sequences,
    write_figure,
    write_methods_csv,
    write_methods_markdown,
)
from tests.support.results import STORAGE, write_other, write_run

PAPER = {"scope": "layer", "granularity": "weight", "norm": "shared", "bias": "shared"}


def compare(*folders, split="test"):
    (runs,) = sequences(find_runs(folders, split)[0])
    return compare_methods(runs)


def cells(comparison, row):
    """The cells of a row of the Markdown, without the method."""
    lines = [line.split(" | ") for line in methods_markdown(comparison).splitlines()]
    return next([*line[1:-1], line[-1].removesuffix(" |")] for line in lines if line[0] == f"| {row}")


@pytest.fixture
def study(tmp_path):
    """Three methods over two seeds, and joint training with one."""
    kept = STORAGE | {"packed_bytes": 800_000, "networks": 3, "owner_bits_per_weight": 0.0}
    write_other(tmp_path / "0", "individual", (0.1, 0.2, 0.3), 0, storage=kept)
    write_other(tmp_path / "1", "individual", (0.2, 0.2, 0.2), 1, storage=kept | {"packed_bytes": 1_000_000})
    write_run(tmp_path / "2", (0.5,) * 3, (0.11, 0.22, 0.33), 0, settings=PAPER)
    write_run(tmp_path / "3", (0.5,) * 3, (0.23, 0.24, 0.25), 1, settings=PAPER)
    one = STORAGE | {"packed_bytes": 300_000, "owner_bits_per_weight": 0.0}
    write_other(tmp_path / "4", "finetune", (0.5, 0.4, 0.3), 0, forgetting=[0.3, 0.1, 0.0], storage=one)
    write_other(tmp_path / "5", "finetune", (0.6, 0.5, 0.1), 1, forgetting=[0.4, 0.2, 0.0], storage=one)
    row = [[0.9, 0.85, 0.8]]
    write_other(tmp_path / "6", "joint", (0.0,) * 3, 0, accuracy=row, forgetting=[None] * 3, storage=one)
    return tmp_path


# By hand. Mean errors: individual 0.2 and 0.2; packnet 0.22 and 0.24, so gaps of 2 and 4 points, 3 ± sqrt(2);
# finetune 0.4 and 0.4, gaps 20 and 20, forgetting of the first two tasks 20 and 30 points, 25 ± 7.07; joint 0.15. Each
# run took three times 1.5 seconds.
MARKDOWN = """\
Error at the end on vgg_small, in %: test split. Mean ± sample standard deviation over the seeds; \
gap and forgetting in points.

| method | latin | greek | digits | mean | gap | forgetting | networks | MB | bits | min | seeds |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| individual | 15.00 ± 7.07 | 20.00 ± 0.00 | 25.00 ± 7.07 | 20.00 ± 0.00 | 0 | 0 | 3 | 0.90 | - | 0.1 | 2 |
| finetune | 55.00 ± 7.07 | 45.00 ± 7.07 | 20.00 ± 14.14 | 40.00 ± 0.00 | 20.00 ± 0.00 | 25.00 ± 7.07 | 1 | 0.30 | - | 0.1 | 2 |
| joint | 10.00 | 15.00 | 20.00 | 15.00 | -5.00 | - | 1 | 0.30 | - | 0.1 | 1 |
| packnet 0.5 | 17.00 ± 8.49 | 23.00 ± 1.41 | 29.00 ± 5.66 | 23.00 ± 1.41 | 3.00 ± 1.41 | 0 | 1 | 0.34 | 1.50 | 0.1 | 2 |
"""  # noqa: E501


def test_the_markdown_is_the_table_that_was_worked_out_by_hand(study):
    write_methods_markdown(compare(study), study / "out" / "methods.md")
    assert (study / "out" / "methods.md").read_text(encoding="utf-8") == MARKDOWN


def test_the_screen_shows_the_same_cells(study):
    text = io.StringIO()
    Console(width=200, file=text).print(method_table(compare(study)))
    shown = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    for line in MARKDOWN.splitlines()[4:]:
        assert line.strip("| ").replace(" | ", " ") in shown
    assert "error at the end on vgg_small, in %: test split" in shown
    narrow = io.StringIO()
    Console(width=100, file=narrow).print(method_table(compare(study), stacked=True))
    assert "…" not in narrow.getvalue()
    lines = [" ".join(line.split()) for line in narrow.getvalue().splitlines()]
    place = lines.index("packnet 0.5 17.00 23.00 29.00 23.00 3.00 0 1 0.34 2")
    assert lines[place + 1] == "± 8.49 ± 1.41 ± 5.66 ± 1.41 ± 1.41"


def test_the_csv_has_one_line_per_run_and_task(study):
    write_methods_csv(compare(study), study / "out" / "methods.csv")
    with (study / "out" / "methods.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 7 * 3
    one = next(line for line in found if (line["row"], line["seed"], line["task"]) == ("packnet 0.5", "1", "greek"))
    assert {name: float(one.pop(name)) for name in ("error", "mean_error", "gap")} == {
        "error": pytest.approx(0.24),
        "mean_error": pytest.approx(0.24),
        "gap": pytest.approx(0.04),
    }
    assert one == {
        "arch": "vgg_small",
        "sequence": "latin, greek, digits",
        "split": "test",
        "row": "packnet 0.5",
        "method": "packnet",
        "settings": "bias=shared; granularity=weight; norm=shared; prunable=paper; scope=layer",
        "prune_ratio": "0.5",
        "seed": "1",
        "task": "greek",
        "forgetting": "0.0",
        "mean_forgetting": "0.0",
        "networks": "1",
        "megabytes": "0.34",
        "bits_per_weight": "1.5",
        "seconds": "4.5",
        "folder": str(study / "3"),
    }
    assert {line["mean_forgetting"] for line in found if line["method"] == "joint"} == {""}


def test_the_gap_is_over_the_pairs_of_equal_seeds(tmp_path):
    for seed, error in enumerate((0.1, 0.3)):
        write_other(tmp_path / f"i{seed}", "individual", (error, error), seed)
    # The pairs of seeds 0 and 1 differ by 1 and 3 points; without pairs the spread would be that of 0.11 and 0.33.
    for seed, error in enumerate((0.11, 0.33, 0.9)):
        write_other(tmp_path / f"f{seed}", "finetune", (error, error), seed)
    write_other(tmp_path / "j7", "joint", (0.25, 0.25), 7)
    write_other(tmp_path / "j8", "joint", (0.35, 0.35), 8)
    comparison = compare(tmp_path)
    assert cells(comparison, "finetune")[3] == "2.00 ± 1.41"
    assert cells(comparison, "joint")[3] == "10.00"
    assert comparison.notes == (
        "finetune: the gap is over seeds 0, 1 alone, as there are no individual networks of the others",
        "joint: the gap is a difference of means, as there are individual networks of other seeds only",
    )
    assert methods_markdown(comparison).endswith(f"\n\n- {comparison.notes[0]}\n- {comparison.notes[1]}\n")


def test_of_several_individual_networks_the_gap_is_to_the_plain_ones(tmp_path):
    write_other(tmp_path / "i", "individual", (0.1, 0.1), settings={"later_lr": 2.0})
    helped = {"later_lr": 2.0, "callbacks": "ema", "distillation": 0.5}
    write_other(tmp_path / "h", "individual", (0.05, 0.05), settings=helped)
    write_other(tmp_path / "f", "finetune", (0.2, 0.2))
    comparison = compare(tmp_path)
    assert cells(comparison, "finetune")[3] == "10.00"
    assert cells(comparison, "individual, callbacks ema, distillation 0.5")[3] == "-5.00"
    assert comparison.notes == ("gap: to individual networks with nothing beyond the paper, of 2 settings of them",)


@pytest.mark.parametrize(("settings", "said"), [([], "none is"), ([1, 2], "2 settings of them are")])
def test_without_one_kind_of_individual_networks_there_is_no_gap(tmp_path, settings, said):
    for value in settings:
        write_other(tmp_path / f"i{value}", "individual", (0.1, 0.1), settings={"epochs": value})
    write_other(tmp_path / "f", "finetune", (0.2, 0.2))
    comparison = compare(tmp_path)
    assert cells(comparison, "finetune")[3] == "-"
    assert comparison.notes == (
        f"no gap: it is to individual networks of these tasks (method=individual), and {said} among the runs",
    )


@pytest.mark.parametrize(
    ("forgetting", "shown"),
    [
        ([0.0, 0.0, 0.5], "0"),
        ([0.1, -0.1, 0.0], "0.00"),
        ([1e-9, 0.0, 0.0], "0.00"),
        ([-1e-9, 0.0, 0.0], "0.00"),
        ([-0.02, -0.04, 0.0], "-3.00"),
        ([None, 0.04, 0.0], "4.00"),
        ([None, None, 0.0], "-"),
    ],
)
def test_only_what_forgets_exactly_nothing_has_a_bare_zero(tmp_path, forgetting, shown):
    write_other(tmp_path / "f", "finetune", (0.2, 0.2, 0.2), forgetting=forgetting)
    assert cells(compare(tmp_path), "finetune")[5] == shown


def test_a_single_task_has_nothing_after_it_to_forget_for(tmp_path):
    write_other(tmp_path / "f", "finetune", (0.2,))
    assert cells(compare(tmp_path), "finetune") == ["20.00", "20.00", "-", "-", "1", "0.34", "1.50", "0.0", "1"]


def test_the_validation_table_has_its_errors_and_nothing_of_the_test_split(tmp_path):
    write_other(tmp_path / "i", "individual", (0.9, 0.9, 0.9), val_now=[0.9, 0.7, None])
    write_other(tmp_path / "f", "finetune", (0.8, 0.8, 0.8), val_now=[0.8, 0.6, None], forgetting=[0.5, 0.5, 0.0])
    comparison = compare(tmp_path, split="val")
    assert comparison.title == "error at the end on vgg_small, in %: validation split, for choosing settings"
    assert cells(comparison, "finetune") == ["20.00", "40.00", "30.00", "10.00", "-", "1", "0.34", "1.50", "0.1", "1"]
    assert comparison.notes == ("no validation split, left out: digits",)


def test_names_that_are_markup_stay_what_they_are(tmp_path):
    write_other(tmp_path / "0", "finetune", (0.8, 0.8), names=["a|b", "[red]c*"])
    comparison = compare(tmp_path)
    assert "| method | a\\|b | [red]c\\* | mean |" in methods_markdown(comparison)
    text = io.StringIO()
    Console(width=200, file=text).print(method_table(comparison))
    assert "method a|b [red]c* mean" in " ".join(text.getvalue().split())


def test_a_figure_of_any_rows_can_be_drawn(study, tmp_path):
    for comparison in (compare(study), compare(study / "4"), compare(study / "6")):
        assert drawn_words(comparison, tmp_path) >= {row.label for row in comparison.rows} | {"mean", "kept on disk"}
    write_other(tmp_path / "other", "mine", (0.0, 0.0, 0.0))
    assert "mine" in drawn_words(compare(study / "0", tmp_path / "other"), tmp_path)


def test_no_texts_of_a_figure_cross_each_other(study, tmp_path):
    figure = draw_methods(method_points(compare(study)), "errors", LIGHT)
    write_figure(lambda theme: figure, tmp_path / "methods")  # which lays it out
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_of_many_tasks_their_mean_is_drawn(tmp_path):
    names = [f"task {number}" for number in range(30)]
    write_other(tmp_path / "many", "finetune", (0.2,) * 30, names=names)
    assert {"mean of 30 tasks", "finetune"} <= (words := drawn_words(compare(tmp_path), tmp_path))
    assert words.isdisjoint(names)


def drawn_words(comparison, folder):
    """Returns the texts of the figure, which is written."""
    figures = []
    write_figure(
        lambda theme: figures.append(draw_methods(method_points(comparison), "errors", theme)) or figures[0],
        folder / "drawn",
    )
    return {text.get_text() for text in figures[0].findobj(Text)}
