"""The first task's training, found by the runs that it is right for, and made by one of them."""

import copy
import logging
import multiprocessing
import time

import pytest

from packnet_pl.cli.sharing import SharedTraining, digest

CONFIG = {
    "seed": 0,
    "arch": {"_target_": "vgg_small"},
    "prune": {"ratio": 0.5, "last": True},
    "method": {"name": "packnet", "fit": {"scope": "layer", "granularity": "weight", "select": "last"}},
    "checkpoint": {"every_n_steps": None, "shared": "a"},
    "sweep": {"share": True},
    "sequence": {
        "order": ["a", "b"],
        "tasks": {
            "a": {"data": {"path": "x"}, "head": "new", "train": {"epochs": 3}, "retrain": {"epochs": 1}},
            "b": {"data": {"path": "y"}, "head": "new", "train": {"epochs": 3}, "retrain": {"epochs": 1}},
        },
    },
}


def changed(key, value):
    config = copy.deepcopy(CONFIG)
    node = config
    *path, last = key.split(".")
    for part in path:
        node = node[part]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prune", {"ratio": [0.9, 0.1], "last": False}),
        ("method.fit.scope", "global"),
        ("method.fit.granularity", "filter"),
        ("checkpoint.every_n_steps", 5),
        ("sequence.order", ["a"]),
        ("sequence.tasks.a.retrain.epochs", 7),
        ("sequence.tasks.b.data.path", "z"),
    ],
)
def test_what_comes_after_the_first_training_has_no_say(key, value):
    assert digest(changed(key, value)) == digest(CONFIG)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("arch", {"_target_": "resnet20"}),
        ("method.fit.select", "best"),
        ("sequence.order", ["b", "a"]),
        ("sequence.tasks.a.data.path", "z"),
        ("sequence.tasks.a.head", "pretrained"),
        ("sequence.tasks.a.train.epochs", 4),
    ],
)
def test_what_the_first_training_depends_on_makes_another_one(key, value):
    assert digest(changed(key, value)) != digest(CONFIG)


def never():
    raise AssertionError("nobody trains it: there is nothing to wait for")


def test_the_first_run_makes_it_and_the_next_finds_it(tmp_path):
    first, second = (SharedTraining(tmp_path / "shared", "x") for _ in range(2))
    first.adopt(tmp_path / "1" / "last.ckpt", never)
    assert not (tmp_path / "1").exists()
    (tmp_path / "trained.ckpt").write_bytes(b"weights")
    first.publish(tmp_path / "trained.ckpt")
    second.adopt(tmp_path / "2" / "last.ckpt", never)
    assert (tmp_path / "2" / "last.ckpt").read_bytes() == b"weights"


def train_and_die(folder):
    shared = SharedTraining(folder, "x")  # it has the lock as long as it lives
    shared.adopt(folder / "last.ckpt", never)
    (folder / "training").touch()
    time.sleep(60)


def test_a_run_waits_for_the_one_that_trains_and_takes_over_if_that_is_killed(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    other = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(tmp_path,))
    other.start()
    while not (tmp_path / "training").exists():
        assert other.is_alive()
        time.sleep(0.01)
    waited = []

    def wait():
        waited.append(1)
        if len(waited) == 2:
            other.kill()

    SharedTraining(tmp_path, "x").adopt(tmp_path / "last.ckpt", wait)
    assert len(waited) >= 2
    assert "waiting for another job" in caplog.text
    assert not (tmp_path / "last.ckpt").exists()
