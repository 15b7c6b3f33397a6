import json

import msgspec
import pytest

from packnet_pl.packed import save_packed
from packnet_pl.results import TaskResult
from packnet_pl.run.metrics import Scores
from packnet_pl.run.task_record import (
    DamagedRunError,
    TaskRecord,
    parse_history,
    read_task_record,
    read_task_records,
    write_task_record,
)
from packnet_pl.run_directory import journal_path, packed_path
from tests.support.run_fits import new_model

TASK = TaskResult("latein ä", 2, ["x", "y"], 0.5, 0.25, 1.5, 7, {"dense": 0.5, "pruned": None, "retrained": 1.0})
SCORES = {"a": Scores((1, 2), 3, (4, 5)), "latein ä": Scores((0, 1), None, (3, 4))}
RECORD = TaskRecord(TASK, SCORES, [True, None], {"a": 0.25, "latein ä": None})
UNTIMED = msgspec.structs.replace(RECORD, task=msgspec.structs.replace(TASK, seconds=None))


def dumped():
    """What the packed file's header has of it."""
    return json.loads(json.dumps(RECORD.dump()))


def test_it_is_read_as_it_was_written(tmp_path):
    write_task_record(tmp_path / "new", RECORD)
    assert read_task_record(tmp_path / "new", TASK.name) == RECORD
    assert parse_history([dumped()]) == [UNTIMED]


def test_its_file_is_the_one_of_earlier_versions(tmp_path):
    write_task_record(tmp_path, RECORD)
    found = json.loads(journal_path(tmp_path, TASK.name).read_text(encoding="utf-8"))
    assert list(found) == ["task", "scores", "outputs_unchanged", "val_now", "data"]
    assert found["scores"]["a"] == {"right": [1, 2], "among_five": 3, "pictures": [4, 5]}


def test_a_figure_that_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_task_record(tmp_path, msgspec.structs.replace(RECORD, val_now={"a": float("nan")}))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_two_classes_of_one_name_that_an_earlier_version_let_pass_are_told_apart():
    old = dumped()
    old["task"]["class_names"] = ["crane", "crane"]
    assert parse_history([old])[0].task.class_names == ["crane", "crane (2)"]


def test_it_replaces_the_file_as_a_whole(tmp_path):
    path = journal_path(tmp_path, TASK.name)
    path.parent.mkdir(parents=True)
    path.write_text("x" * 10_000)
    write_task_record(tmp_path, RECORD)
    assert read_task_record(tmp_path, TASK.name) == RECORD
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        *["", "{", "[]", "null", "{}", '{"task": {}, "scores": {}, "outputs_unchanged": []}'],
        *['{"task": ' + "[" * 100_000, '{"data": {"a": {"test": ' + '{"a": ' * 100_000],
    ],
    ids=lambda text: text[:20],
)
def test_something_else_is_named(tmp_path, text):
    path = journal_path(tmp_path, "a")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^.*finished\.json cannot be read: .*$"):
        read_task_record(tmp_path, "a")


def test_what_it_does_not_know_is_not_passed_over(tmp_path):
    """The run would go on without it, and the next file would lack it."""
    with pytest.raises(ValueError, match=r"unknown field `more` - at `\$\[0\].task`"):
        parse_history([dumped() | {"task": dumped()["task"] | {"more": 1}}])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"finished\.json cannot be read"):
        read_task_record(tmp_path, "a")


@pytest.fixture
def damaged(tmp_path):
    """A run directory whose record of its one task is cut off."""
    journal_path(tmp_path, TASK.name).parent.mkdir(parents=True)
    journal_path(tmp_path, TASK.name).write_text('{"task":')
    return tmp_path


def test_the_packed_file_tells_what_a_damaged_record_does_not(damaged, caplog):
    save_packed(new_model("a"), packed_path(damaged), history=[RECORD.dump()])
    assert read_task_records(damaged, [TASK.name]) == [UNTIMED]
    assert f"{journal_path(damaged, TASK.name)} cannot be read" in caplog.text


@pytest.mark.parametrize("history", [None, [], [{"task": {}}]])
def test_a_record_that_nothing_tells_is_an_error_that_says_what_to_do(damaged, history):
    if history is not None:
        save_packed(new_model("a"), packed_path(damaged), history=history)
    with pytest.raises(
        DamagedRunError, match=r"(?s)finished\.json cannot be read: .* put one of them back from a copy"
    ):
        read_task_records(damaged, [TASK.name])
