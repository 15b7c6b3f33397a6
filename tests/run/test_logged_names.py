"""The names of what is logged."""

import pytest

from packnet_pl.run.logged_names import fit_metrics, task_labels


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cats", "cars"], ["cats", "cars"]),
        (["vögel", "vogel", "a b", "a+b"], ["vogel", "vogel-2", "a_b", "a_b-2"]),
        (["猫", "犬"], ["task", "task-2"]),
        (["capacity", "result"], ["capacity-2", "result-2"]),
        (["x" * 300], ["x" * 60]),
        (["a-2", "a", "ä"], ["a-2", "a", "a-3"]),
    ],
)
def test_tasks_have_distinct_labels_that_every_logger_takes(names, labels):
    assert list(task_labels(names).values()) == labels


def test_a_task_that_is_added_leaves_the_labels_of_the_others():
    assert list(task_labels(["ä", "b", "a"]).items())[:2] == list(task_labels(["ä", "b"]).items())


def test_rows_get_task_and_phase():
    row = {
        "train_loss": 1.0,
        "val_accuracy": 0.5,
        "packnet/free": 0.25,
        "packnet/owned": 0.75,
        "epoch": 3,
        "lr-SGD": 0.1,
    }
    assert fit_metrics(row, "cubs", "retrain") == {
        "cubs/retrain/loss": 1.0,
        "cubs/retrain/val_accuracy": 0.5,
        "capacity/free": 0.25,
        "cubs/owned": 0.75,
        "cubs/retrain/epoch": 3,
        "cubs/retrain/lr-SGD": 0.1,
    }


def test_a_name_that_is_there_without_its_split_stays_apart():
    assert fit_metrics({"train_loss": 1.0, "loss": 2.0}, "cubs", "train") == {
        "cubs/train/train_loss": 1.0,
        "cubs/train/loss": 2.0,
    }
