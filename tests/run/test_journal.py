import json
from dataclasses import replace

import pytest

from packnet_pl.packed import save_packed
from packnet_pl.run.metrics import Scores
from packnet_pl.run.results import TaskResult
from packnet_pl.run.task_record import DamagedRunError, Entry, read_entries
from packnet_pl.run_directory import journal_path, packed_path
from tests.support.run_fits import new_model

TASK = TaskResult("latein ä", 2, ["x", "y"], 0.5, 0.25, 1.5, 7, {"dense": 0.5, "pruned": None, "retrained": 1.0})
SCORES = {"a": Scores((1, 2), 3, (4, 5)), "latein ä": Scores((0, 1), None, (3, 4))}
ENTRY = Entry(TASK, SCORES, [True, None], {"a": 0.25, "latein ä": None})


def test_it_is_read_as_it_was_written(tmp_path):
    ENTRY.write(tmp_path / "new" / "finished.json")
    assert Entry.read(tmp_path / "new" / "finished.json") == ENTRY
    assert Entry.parse(json.loads(json.dumps(ENTRY.dump()))) == ENTRY


def test_two_classes_of_one_name_that_an_earlier_version_let_pass_are_told_apart():
    old = json.loads(json.dumps(ENTRY.dump()))
    old["task"]["class_names"] = ["crane", "crane"]
    assert Entry.parse(old).task.class_names == ["crane", "crane (2)"]


def test_it_replaces_the_file_as_a_whole(tmp_path):
    path = tmp_path / "finished.json"
    path.write_text("x" * 10_000)
    ENTRY.write(path)
    assert Entry.read(path) == ENTRY
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"task": {}, "scores": {}, "outputs_unchanged": []}'])
def test_something_else_is_named(tmp_path, text):
    path = tmp_path / "finished.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"finished\.json cannot be read"):
        Entry.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"finished\.json cannot be read"):
        Entry.read(tmp_path / "finished.json")


@pytest.fixture
def damaged(tmp_path):
    """A run directory whose record of its one task is cut off."""
    journal_path(tmp_path, TASK.name).parent.mkdir(parents=True)
    journal_path(tmp_path, TASK.name).write_text('{"task":')
    return tmp_path


def test_the_packed_file_tells_what_a_damaged_record_does_not(damaged, caplog):
    known = replace(ENTRY, task=replace(TASK, seconds=None))
    save_packed(new_model("a"), packed_path(damaged), history=[known.dump()])
    assert read_entries(damaged, [TASK.name]) == [known]
    assert f"{journal_path(damaged, TASK.name)} cannot be read" in caplog.text


@pytest.mark.parametrize("history", [None, [], [{"task": {}}]])
def test_a_record_that_nothing_tells_is_an_error_that_says_what_to_do(damaged, history):
    if history is not None:
        save_packed(new_model("a"), packed_path(damaged), history=history)
    with pytest.raises(
        DamagedRunError, match=r"(?s)finished\.json cannot be read: .* put one of them back from a copy"
    ):
        read_entries(damaged, [TASK.name])
