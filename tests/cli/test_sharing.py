"""The first task's training, found by the runs that it is right for, and made by one of them."""

import copy
import logging
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from packnet_pl.launch.shared_first_task import SharedTraining, digest, with_shared_training
from packnet_pl.run import TaskPlan

CONFIG = {
    "seed": 0,
    "arch": {"_target_": "vgg_small"},
    "prune": {"ratio": 0.5, "last": True},
    "method": {"name": "packnet", "fit": {"rule": {"scope": "layer"}, "select": "last"}},
    "optim": {"later_lr": 1.0, "batch_size": 64},
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
        ("method.fit.rule.scope", "global"),
        ("checkpoint.every_n_steps", 5),
        ("optim.later_lr", 0.1),
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
        ("optim.batch_size", 32),
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
    first.adopt(tmp_path / "1" / "last.ckpt", tmp_path / "1" / "metrics.csv", never)
    assert not (tmp_path / "1").exists()
    (tmp_path / "trained.ckpt").write_bytes(b"weights")
    (tmp_path / "metrics.csv").write_bytes(b"step")
    first.publish(tmp_path / "trained.ckpt", tmp_path / "metrics.csv")
    second.adopt(tmp_path / "2" / "last.ckpt", tmp_path / "2" / "metrics.csv", never)
    assert (tmp_path / "2" / "last.ckpt").read_bytes() == b"weights"
    assert (tmp_path / "2" / "metrics.csv").read_bytes() == b"step"


def test_a_run_without_a_logger_leaves_the_checkpoint_alone(tmp_path):
    SharedTraining(tmp_path, "x").publish(Path(__file__), tmp_path / "metrics.csv")
    SharedTraining(tmp_path, "x").adopt(tmp_path / "2" / "last.ckpt", tmp_path / "2" / "metrics.csv", never)
    assert [path.name for path in (tmp_path / "2").iterdir()] == ["last.ckpt"]


def train_and_die(folder):
    shared = SharedTraining(folder, "x")  # it has the lock as long as it lives
    shared.adopt(folder / "last.ckpt", folder / "metrics.csv", never)
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

    SharedTraining(tmp_path, "x").adopt(tmp_path / "last.ckpt", tmp_path / "metrics.csv", wait)
    assert len(waited) >= 2
    assert "waiting for another job" in caplog.text
    assert not (tmp_path / "last.ckpt").exists()


@dataclass(frozen=True)
class Plan:
    """As much of a run's plan as sharing looks at."""

    folder: Path
    tasks: list[TaskPlan]
    trained: Any = None


class Stop:
    """A request to stop: whoever waits is told at once."""

    raise_if_asked = staticmethod(never)


def shared_plan(folder, epochs, shared):
    config = OmegaConf.create({**changed("checkpoint.shared", str(shared)), "packed": None})
    plan = Plan(folder, [TaskPlan("a", None, None, epochs, {}), TaskPlan("b", None, None, {"train": 3}, {})])
    return plan, config, with_shared_training(plan, config, Stop())


def test_a_run_that_prunes_its_first_task_shares_its_training(tmp_path):
    _, config, found = shared_plan(tmp_path / "run", {"train": 3, "retrain": 1}, tmp_path / "shared")
    assert found.trained is not None
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [f"{digest(OmegaConf.to_container(config))}.lock"]


@pytest.mark.parametrize("epochs", [{"train": 3}, {"train": 0, "retrain": 1}], ids=["nothing pruned", "not trained"])
def test_a_run_that_does_not_neither_shares_nor_waits(tmp_path, epochs):
    """Nothing of it is ever left for others, who would wait until it ends."""
    shared = tmp_path / "shared"
    plan, config, found = shared_plan(tmp_path / "run", epochs, shared)
    assert found is plan
    assert not shared.exists()
    holder = SharedTraining(shared, digest(OmegaConf.to_container(config)))
    # It holds the lock, as a run that trains does.
    holder.adopt(tmp_path / "last.ckpt", tmp_path / "metrics.csv", never)
    assert shared_plan(tmp_path / "other", epochs, shared)[2].trained is None
    assert not (tmp_path / "other").exists()
