"""The table of the prune ratios that a run tried."""

import json

import pytest

from packnet_pl.report import run_page
from packnet_pl.results import read_results
from tests.support.results import write_run

TRIALS = [(0.5, 0.25, 1.0), (0.75, 2.0, 0.5), (0.625, -1.0, 0.25)]


@pytest.fixture
def run(tmp_path):
    """The first task's ratio was searched; that of the second one was given."""
    run = write_run(tmp_path / "run", (0.625, 0.5), settings={"ratio": "auto", "tolerance": 0.5})
    folder = run / "tasks" / "latin"
    folder.mkdir(parents=True)
    trials = [dict(zip(("ratio", "drop", "standard_error"), trial, strict=True)) for trial in TRIALS]
    (folder / "ratio_trials.json").write_text(json.dumps({"images": 40, "trials": trials}))
    return run


def tables(run):
    """Returns the tables of trials on the page of ``run``, and what it says is missing."""
    sections = run_page(run, read_results(run), None, [], "test").sections
    found = [block for part in sections for block in part.blocks if "were tried" in getattr(block, "caption", "")]
    return found, [block.text for part in sections if part.anchor == "missing" for block in part.blocks]


def test_each_trial_has_what_it_costs_and_whether_it_was_chosen(run):
    (table,), _ = tables(run)
    assert table.caption.endswith("a ratio is rejected if that less the standard error is above 0.5")
    assert list(table.rows) == [
        ["latin", "0.5", "49.75", "0.25 ± 1.00", "-0.75", "within"],
        ["latin", "0.75", "48.00", "2.00 ± 0.50", "1.50", "rejected"],
        ["latin", "0.625", "51.00", "-1.00 ± 0.25", "-1.25", "within, chosen"],
    ]


def test_without_the_tolerance_nothing_is_said_of_it(run):
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "settings": {}}))
    (table,), _ = tables(run)
    assert [row[-1] for row in table.rows] == ["", "", "chosen"]


def test_what_is_damaged_is_left_out_and_named(run):
    (run / "tasks/latin/ratio_trials.json").write_text("{")
    found, missing = tables(run)
    assert found == []
    assert any(text.startswith("The prune ratios that were tried for latin are left out: ") for text in missing)
