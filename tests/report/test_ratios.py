"""Error against prune ratio, from the results files of many runs."""

import csv
import io
from functools import partial

import pytest
from rich.console import Console

from packnet_pl.report import (
    LIGHT,
    draw_ratios,
    find_runs,
    ratio_points,
    ratio_rows,
    ratio_table,
    ratio_tables,
    write_figure,
    write_ratios_csv,
)
from tests.support.results import write_run

PAPER = {"scope": "layer", "granularity": "weight", "norm": "shared", "bias": "shared"}


@pytest.fixture
def sweep(tmp_path):
    """Two ratios and two seeds each; one job more is not finished, one has not begun."""
    write_run(tmp_path / "0", (0.75, 0.75), (0.2, 0.4), seed=0, free=0.5)
    write_run(tmp_path / "1", (0.75, 0.75), (0.3, 0.6), seed=1, free=0.5)
    write_run(tmp_path / "2", (0.5, 0.5), (0.1, 0.2), seed=0)
    write_run(tmp_path / "10", (0.5, 0.5), (0.1, 0.4), seed=1)
    write_run(tmp_path / "11", (0.9, 0.9), complete=False)
    (tmp_path / "12" / ".hydra").mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    return tmp_path


def test_finished_runs_are_read_in_the_order_of_their_numbers_and_others_are_named(sweep):
    runs, unfinished = find_runs([sweep])
    assert [run.folder.name for run in runs] == ["0", "1", "2", "10"]
    assert unfinished == [sweep / "11", sweep / "12"]
    one, none = find_runs([sweep / "2"])
    assert (one[0].errors, none) == ({"latin": pytest.approx(0.1), "greek": pytest.approx(0.2)}, [])


def test_rows_are_mean_and_spread_over_the_seeds_of_each_ratio(sweep):
    rows = ratio_rows(find_runs([sweep])[0])
    assert [(row.ratio, len(row.runs), row.free) for row in rows] == [(0.5, 2, 0.25), (0.75, 2, 0.5)]
    text = io.StringIO()
    Console(width=100, file=text).print(ratio_table(rows))
    # By hand: the mean errors of the seeds at 0.75 are 0.30 and 0.45.
    expected = "0.75 25.00 ± 7.07 50.00 ± 14.14 37.50 ± 10.61 50.00 2"
    assert expected.split() in [line.split() for line in text.getvalue().splitlines()]


def test_the_csv_has_each_figure_as_it_was_measured(sweep):
    write_ratios_csv(ratio_rows(find_runs([sweep])[0]), sweep / "report" / "ratios.csv")
    with (sweep / "report" / "ratios.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 8
    assert [float(row["error"]) for row in found if row["prune_ratio"] == "0.75" and row["task"] == "greek"] == [
        pytest.approx(0.4),
        pytest.approx(0.6),
    ]


def test_ratios_that_differ_from_task_to_task_are_told_in_words_and_come_last(tmp_path):
    write_run(tmp_path / "0", (0.5, 0.75))
    write_run(tmp_path / "1", (0.5, None))
    write_run(tmp_path / "2", (None, None), method="finetune", free=None)
    rows = ratio_rows(find_runs([tmp_path])[0])
    assert [(row.name, row.ratio) for row in rows] == [
        ("finetune on vgg_small", "[-, -]"),
        ("packnet on vgg_small", 0.5),
        ("packnet on vgg_small", "[0.5, 0.75]"),
    ]


def test_runs_of_other_settings_are_no_seeds_of_each_other(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"layer-{seed}", seed=seed, settings=PAPER)
        write_run(tmp_path / f"global-{seed}", seed=seed, settings=PAPER | {"scope": "global"})
    write_run(tmp_path / "global-0.75", (0.75, 0.75), settings=PAPER | {"scope": "global"})
    runs = find_runs([tmp_path])[0]
    assert [(row.name, row.ratio, len(row.runs)) for row in ratio_rows(runs)] == [
        ("packnet on vgg_small", 0.5, 2),
        ("packnet on vgg_small, scope global", 0.5, 2),
        ("packnet on vgg_small, scope global", 0.75, 1),
    ]
    # One ratio alone is told by the table of methods.
    assert [[row.name for row in rows] for rows in ratio_tables(runs)] == [["packnet on vgg_small, scope global"] * 2]


def test_a_last_task_that_was_pruned_and_one_that_was_not_are_two_rows(tmp_path):
    write_run(tmp_path / "0", (0.5, 0.5))
    write_run(tmp_path / "1", (0.5, None))
    rows = ratio_rows(find_runs([tmp_path])[0])
    assert [(row.ratio, len(row.runs)) for row in rows] == [("[0.5, -]", 1), ("[0.5, 0.5]", 1)]


def test_a_narrow_screen_has_the_spread_below_the_mean(sweep):
    text = io.StringIO()
    Console(width=60, file=text).print(ratio_table(ratio_rows(find_runs([sweep])[0]), stacked=True))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[lines.index("0.75 25.00 50.00 37.50 50.00 2") + 1] == "± 7.07 ± 14.14 ± 10.61"


@pytest.mark.parametrize("free", [0.5, None])
def test_a_figure_of_any_rows_can_be_drawn(tmp_path, free):
    write_run(tmp_path / "0", (0.5, 0.75), free=free)
    write_run(tmp_path / "1", (0.5, 0.5), free=free)
    points = ratio_points(ratio_rows(find_runs([tmp_path])[0]))
    paths = write_figure(partial(draw_ratios, points, "errors"), tmp_path / "figure")
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_axes_span_what_was_measured_and_no_more(sweep):
    figure = draw_ratios(ratio_points(ratio_rows(find_runs([sweep])[0])), "errors", LIGHT)
    errors, free = figure.axes[:-1], figure.axes[-1]
    # By hand: of Greek, 30.0 ± 14.1 and 50.0 ± 14.1; the widest of all.
    spans = [axes.get_ylim()[1] - axes.get_ylim()[0] for axes in errors]
    assert spans == pytest.approx([1.15 * (20 + 2 * 14.142)] * 3, abs=1e-2)
    for axes in errors:
        assert axes.get_ylim()[0] <= min(axes.dataLim.y0, axes.dataLim.y1) <= axes.dataLim.y1 <= axes.get_ylim()[1]
    assert free.get_ylim() == (0, 100)


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(ValueError, match="is neither a run directory nor a folder of them"):
        find_runs([tmp_path])
    with pytest.raises(ValueError, match="there is no folder"):
        find_runs([tmp_path / "nowhere"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"complete": true}'])
def test_a_damaged_results_file_is_named(tmp_path, text):
    write_run(tmp_path / "0")
    (tmp_path / "0" / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"0/results\.json is not a results file, or is damaged"):
        find_runs([tmp_path])
