"""``results.json`` as one typed record: what it was is read, and what is damaged is named."""

import io
import json

import msgspec
import pytest
from rich.console import Console

from packnet_pl.report import results_table
from packnet_pl.results import is_complete, read_results, write_results
from packnet_pl.run_directory import read_run, results_path
from tests.support import MADE_AT_5B152F2 as MADE
from tests.support.results import write_run


@pytest.mark.parametrize("run", ["finished", "interrupted"])
def test_files_of_5b152f2_are_read_and_written_again_as_they_were(run, tmp_path):
    write_results(tmp_path, read_results(MADE / run))
    then, now = (results_path(folder).read_bytes() for folder in (MADE / run, tmp_path))
    assert now.replace(b' "data_changed": [],\n', b"", 1) == then


def test_a_run_is_complete_where_all_its_tasks_are_finished(tmp_path):
    run = read_run(MADE / "finished")
    assert is_complete(MADE / "finished", run)
    assert not is_complete(MADE / "interrupted", read_run(MADE / "interrupted"))
    more = msgspec.structs.replace(run, config={"sequence": {"order": ["digits", "latin", "greek"]}})
    assert not is_complete(MADE / "finished", more)
    assert not is_complete(tmp_path, run)
    (tmp_path / "results.json").write_text("{")
    assert not is_complete(tmp_path, run)


def test_a_figure_that_is_no_number_is_not_written(tmp_path):
    results = msgspec.structs.replace(read_results(MADE / "finished"), free=float("nan"))
    with pytest.raises(ValueError, match="Out of range float"):
        write_results(tmp_path, results)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"format": 2}, "`$.format`"),
        ({"seed": "0"}, "`$.seed`"),
        ({"tasks": [{"name": "a"}]}, "missing required field `num_classes` - at `$.tasks[0]`"),
        ({"free": True}, "`$.free`"),
        ({"accuracy": []}, "the last row of accuracy has 0 entries for 2 tasks"),
        ({"accuracy": [[], [0.5, 0.5]]}, "the rows of accuracy have [0, 2] entries"),
        ({"accuracy": [[0.5], [0.5, 1e300]]}, "accuracy has a value that is not in [0, 1]"),
        ({"val_now": [0.5]}, "val_now has 1 entries for 2 tasks"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_file(tmp_path, more, where):
    write_run(tmp_path, **more)
    with pytest.raises(ValueError, match="is not a results file, or is damaged") as raised:
        read_results(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/results.json ")
    assert where in str(raised.value)


@pytest.mark.parametrize("part", ['"more": %s', '"settings": {"a": %s', '"tasks": %s'], ids=["unknown", "any", "known"])
def test_a_deep_file_is_damaged(tmp_path, part):
    (tmp_path / "results.json").write_text('{"format": 1, ' + part % ("[" * 1_000_000))
    with pytest.raises(ValueError, match="is not a results file, or is damaged"):
        read_results(tmp_path)


def test_keys_of_later_versions_are_passed_over(tmp_path):
    write_run(tmp_path / "more", new=[{"a": 1}])
    write_run(tmp_path / "none")
    assert read_results(tmp_path / "more") == read_results(tmp_path / "none")
    assert "new" in json.loads((tmp_path / "more" / "results.json").read_text())


@pytest.mark.parametrize("stacked", [False, True])
def test_the_table_of_results_has_whole_names_and_figures(tmp_path, stacked):
    write_run(tmp_path, names=("a [red]b[/c]", "d"))
    with io.StringIO() as file:
        Console(file=file, width=40 if stacked else 100).print(results_table(read_results(tmp_path), stacked=stacked))
        text = file.getvalue()
    assert "a [red]b[/c]" in text
    assert "20.00" in text
    assert "\u2026" not in text
