"""Tasks and heads of a TaskClassifier."""

import pytest
import torch
from torch import nn

from packnet_pl import TaskClassifier, fit_task
from tests.support.fits import (
    RECIPES,
    SmallNet,
    classifier,
    images,
    loader,
    quiet,
    same,
    tensors,
    wanted,
)


def test_add_task_selects_it_and_select_task_changes_that():
    model = TaskClassifier(SmallNet())
    assert (model.tasks, model.selected_task) == ([], None)
    model.add_task("a", num_classes=3, class_names=("x", "y", "z"), input_shape=(1, 6, 6), mean=(0.5,), std=(2.0,))
    model.add_task("b", num_classes=2)
    assert (model.tasks, model.selected_task) == (["a", "b"], "b")
    model.select_task("a")
    assert model.selected_task == "a"
    assert model(images()).shape == (8, 3)
    assert model(images(), task="b").shape == (8, 2)
    assert model.heads.infos["a"].class_names == ("x", "y", "z")


def test_only_the_selected_head_needs_gradients():
    model = TaskClassifier(SmallNet())
    model.add_task("a", num_classes=3)
    model.add_task("b", num_classes=2)
    heads = {name: needed for name, needed in wanted(model).items() if name.startswith("heads.")}
    assert heads == {
        "heads.head_0.weight": False,
        "heads.head_0.bias": False,
        "heads.head_1.weight": True,
        "heads.head_1.bias": True,
    }


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"name": "a", "num_classes": 3}, "'a'"),
        ({"name": "b", "num_classes": 1}, "a task has 1 class; allowed is 2 or more"),
        ({"name": "b", "num_classes": 0}, "a task has 0 classes"),
        ({"name": "b", "num_classes": 3, "class_names": ("x", "y")}, "2 class names given for 3 classes"),
        ({"name": "b/c", "num_classes": 3}, "task name is 'b/c'"),
        ({"name": "", "num_classes": 3}, "task name is ''"),
        ({"name": "..", "num_classes": 3}, r"task name is '\.\.'"),
    ],
    ids=["duplicate", "one class", "no class", "too few class names", "slash", "empty", "parent folder"],
)
def test_add_task_refuses_bad_input_and_changes_nothing(given, match):
    model = TaskClassifier(SmallNet())
    model.add_task("a", num_classes=3)
    before = tensors(model)
    with pytest.raises(ValueError, match=match):
        model.add_task(**given)
    assert (model.tasks, model.selected_task) == (["a"], "a")
    assert same(tensors(model), before)


def test_an_unknown_task_is_refused_by_its_name():
    model = TaskClassifier(SmallNet())
    model.add_task("a", num_classes=3)
    with pytest.raises(ValueError, match=r"task 'b' has no head; there are \['a'\]"):
        model.select_task("b")
    with pytest.raises(ValueError, match="task 'b' has no head"):
        model(images(), task="b")
    assert model.selected_task == "a"


def test_a_backbone_without_num_features_needs_the_number():
    backbone = nn.Flatten()
    with pytest.raises(ValueError, match=r"Flatten has no num_features .*num_features="):
        TaskClassifier(backbone)
    model = TaskClassifier(backbone, num_features=36)
    model.add_task("a", num_classes=2)
    assert model(images()).shape == (8, 2)


def test_a_classifier_without_tasks_answers_nothing():
    with pytest.raises(ValueError, match="there is no task yet: add_task"):
        TaskClassifier(SmallNet())(images())


@pytest.mark.parametrize("names", [("caltech 256", "v1.5 (2018)"), ("weight", "training"), ("infos", "num_features")])
def test_any_printable_name_names_a_task(tmp_path, names):
    model = classifier(*names)
    probe = images()
    expected = [model(probe, task=name) for name in names]
    trainer = quiet()
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = TaskClassifier.load_from_checkpoint(tmp_path / "last.ckpt", backbone=SmallNet())
    assert loaded.packnet.tasks == list(names)
    for name, logits in zip(names, expected, strict=True):
        assert torch.equal(loaded(probe, task=name), logits)


def test_heads_by_the_name_of_the_task_are_private_modules():
    model = TaskClassifier(SmallNet(), recipes=RECIPES)
    for number, task in enumerate(("cubs", "cars")):
        model.add_task(task, num_classes=3)
        fit_task(
            model,
            loader(number),
            task=task,
            prune_ratio=0.5,
            private=f"heads.{task}",
            make_trainer=lambda _, callback: quiet(callback),
        )
        if task == "cubs":
            head = tensors(model.heads["cubs"])
    assert model.packnet.private == {"cubs": ["heads.cubs"], "cars": ["heads.cars"]}
    assert same(tensors(model.heads["cubs"]), head)
