"""Image classification, task after task."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import SGD

from packnet_pl import PackNetCallback, TaskClassifier, fit_task
from packnet_pl.methods import FineTuning
from packnet_pl.models import vgg_small
from packnet_pl.training import Recipe, warmup_cosine
from tests.support.fits import (
    MOMENTUM,
    RECIPES,
    SmallNet,
    Spoiler,
    bits,
    classifier,
    fit_class,
    images,
    loader,
    quiet,
    same,
    snapshot,
    tensors,
    used_by,
    wanted,
)


def modes(model):
    return {name: layer.training for name, layer in model.named_modules()}


def live(model, task, x):
    """Logits of the network as it is, in eval mode, without anything that is tested here."""
    before = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    with torch.no_grad():
        logits = model.heads[task](model.backbone(x))
    for layer, mode in before:
        layer.training = mode
    return logits


def fitted_with_logits(*tasks, **kept):
    """A classifier in which ``tasks`` were fitted, and what each answered right before it was finished."""
    model, settled = TaskClassifier(SmallNet(), recipes=RECIPES, **kept), {}
    for number, task in enumerate(tasks):
        model.add_task(task, num_classes=3)
        fit_task(
            model,
            loader(number),
            task=task,
            prune_ratio=0.5,
            make_trainer=lambda _, callback: quiet(callback),
            settled=lambda m, task=task: settled.__setitem__(task, live(m, task, images())),
        )
    return model, settled


# Tasks.


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


# Fits.


def test_a_fit_without_the_callback_is_refused():
    model = classifier("a")
    model.add_task("b", num_classes=3)
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"no PackNetCallback.*PackNetCallback\(task='b'"):
        quiet().fit(model, loader())
    assert snapshot(model) == before


@pytest.mark.parametrize("method", [TaskClassifier, FineTuning])
def test_a_fit_without_a_task_is_refused(method):
    with pytest.raises(ValueError, match="there is no task to fit: add_task"):
        quiet().fit(method(SmallNet()), loader())


def test_a_fit_of_another_task_than_the_selected_one_is_refused():
    model = TaskClassifier(SmallNet())
    model.add_task("a", num_classes=3)
    model.add_task("b", num_classes=3)
    with pytest.raises(ValueError, match=r"the module's selected task is 'b'; select_task\('a'\) first"):
        quiet(PackNetCallback(task="a", phase="train")).fit(model, loader())


def test_only_the_shared_part_and_the_selected_head_are_optimized():
    model = classifier("a")
    model.add_task("b", num_classes=3)
    trainer = quiet(PackNetCallback(task="b", phase="train", prune_ratio=0.5))
    trainer.fit(model, loader())
    (group,) = trainer.optimizers[0].param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(parameter)] for parameter in group["params"]] == [
        "backbone.conv.weight",
        "backbone.fc.weight",
        "heads.head_1.weight",
        "heads.head_1.bias",
    ]


def test_each_phase_has_its_own_recipe_and_schedule_length():
    seen = []

    def recipe(rate):
        def schedule(optimizer, *, total_steps):
            seen.append((optimizer.param_groups[0]["lr"], total_steps))
            return warmup_cosine(optimizer, total_steps=total_steps)

        return Recipe(partial(SGD, lr=rate), schedule)

    model = TaskClassifier(SmallNet(), recipes={"train": recipe(0.5), "retrain": recipe(0.25)})
    model.add_task("a", num_classes=3)
    epochs = {"train": 3, "retrain": 1}
    fit_task(
        model,
        loader(),
        task="a",
        prune_ratio=0.5,
        make_trainer=lambda phase, callback: quiet(callback, max_epochs=epochs[phase]),
    )
    assert seen == [(0.5, 12), (0.25, 4)]


def test_accuracy_and_loss_are_logged_for_each_split():
    model = classifier()
    model.add_task("a", num_classes=3)
    trainer = quiet(PackNetCallback(task="a", phase="train", prune_ratio=0.5))
    trainer.fit(model, loader(), loader(1))
    names = {f"{split}_{what}" for split in ("train", "val") for what in ("loss", "accuracy")}
    assert names <= set(trainer.callback_metrics)
    (result,) = quiet().test(model, loader(2), verbose=False)
    logits, labels = live(model, "a", loader(2).dataset.tensors[0]), loader(2).dataset.tensors[1]
    assert result["test_accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert result["test_loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


# Answers.


def test_a_finished_task_is_answered_as_before_it_was_finished():
    model, settled = fitted_with_logits("a", "b", "c")
    for task in "abc":
        assert torch.equal(bits(model(images(), task=task)), bits(settled[task]))


def test_a_finished_task_is_answered_so_in_train_mode_too_while_a_later_task_is_open():
    model, settled = fitted_with_logits("a", "b")
    model.add_task("c", num_classes=3)
    answers = []

    def ask(_, module):
        assert module.training
        assert module.packnet.open_task == "c"
        before = modes(module), used_by(module.packnet, 3)
        answers.append([module(images(), task=task) for task in "ab"])
        assert modes(module) == before[0]
        assert same(used_by(module.packnet, 3), before[1])

    fit_class(model, "c", callbacks=[Spoiler(ask, batch=3)])
    assert len(answers) == 2
    for a, b in answers:
        assert torch.equal(bits(a), bits(settled["a"]))
        assert torch.equal(bits(b), bits(settled["b"]))


@pytest.mark.parametrize("kept", [{"norm": "per_task"}, {"bias": "per_task"}], ids=["norm", "bias"])
def test_each_task_may_have_norms_or_biases_of_its_own(tmp_path, kept):
    model, settled = fitted_with_logits("a", "b", **kept)
    (changed,) = {"norm": ["bn.weight"], "bias": ["fc.bias"]}[next(iter(kept))]
    with model.packnet.subnetwork("a"):
        first = bits(model.backbone.get_parameter(changed))
    assert not torch.equal(bits(model.backbone.get_parameter(changed)), first)
    model.train()
    for task in "ab":
        assert torch.equal(bits(model(images(), task=task)), bits(settled[task]))
    # A checkpoint brings them along.
    path = saved(model, tmp_path)
    loaded = TaskClassifier.load_from_checkpoint(path, backbone=SmallNet(), weights_only=True, **kept)
    for task in "ab":
        assert torch.equal(bits(loaded(images(), task=task)), bits(settled[task]))


def test_the_live_network_alone_would_answer_otherwise():
    model, settled = fitted_with_logits("a", "b")
    assert not torch.equal(live(model, "a", images()), settled["a"])


def test_an_unfinished_task_is_answered_by_the_network_as_it_is():
    model = classifier("a")
    model.add_task("b", num_classes=3)
    model.eval()
    assert torch.equal(model(images()), live(model, "b", images()))
    model.train()
    # Dropout is on, so that two answers differ.
    assert not torch.equal(model(images()), model(images()))


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_given_back(training):
    model = classifier("a", "b")
    model.train(training)
    model.backbone.bn.train(not training)
    before = modes(model)
    model(images(), task="a")
    assert modes(model) == before

    def fail():
        with model.predicting("a"):
            assert not any(modes(model.backbone).values())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert modes(model) == before


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("task", ["a", "b"])
def test_a_head_answers_with_the_gradients_that_it_was_trained_with(task, fails):
    # By requires_grad torch chooses kernels, and other kernels round otherwise.
    model = classifier("a")
    model.add_task("b", num_classes=3)
    model.add_task("c", num_classes=3)
    before = wanted(model)
    assert not any(parameter.requires_grad for parameter in model.heads[task].parameters())
    try:
        with model.predicting(task) as logits:
            assert all(parameter.requires_grad for parameter in model.heads[task].parameters())
            logits(images())
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert wanted(model) == before


def test_answering_an_unfinished_task_is_in_eval_mode():
    model = classifier("a")
    model.add_task("b", num_classes=3)
    model.train()
    with model.predicting("b") as logits, torch.no_grad():
        found = logits(images())
    assert torch.equal(found, live(model, "b", images()))


# What goes wrong.


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_loss_that_is_not_finite_stops_the_task_and_leaves_the_finished_ones_alone(phase):
    model = classifier("a")
    finished, head, settled = used_by(model.packnet, 1), tensors(model.heads["a"]), model(images(), task="a")
    model.add_task("b", num_classes=3)
    if phase == "retrain":
        quiet(PackNetCallback(task="b", phase="train", prune_ratio=0.5)).fit(model, loader())
    free = model.packnet.summary().total.free

    def poison(trainer, module):
        with torch.no_grad():
            module.heads["b"].weight.fill_(float("nan"))

    ratio = 0.5 if phase == "train" else None
    callback = PackNetCallback(task="b", phase=phase, prune_ratio=ratio)
    with pytest.raises(FloatingPointError, match="the loss of task 'b' became nan in epoch 0, step 2"):
        quiet(callback, Spoiler(poison, batch=2)).fit(model, loader())
    assert (model.packnet.open_task, model.packnet.phase) == ("b", phase)
    assert model.packnet.summary().total.free == (free if phase == "retrain" else 0)
    assert same(used_by(model.packnet, 1), finished)
    assert same(tensors(model.heads["a"]), head)
    assert torch.equal(bits(model(images(), task="a")), bits(settled))
    model.packnet.verify()


def test_shared_weights_that_diverged_are_not_pruned_and_can_be_given_back():
    model = classifier("a")
    finished, settled = used_by(model.packnet, 1), model(images(), task="a")

    def poison(trainer, module):
        with torch.no_grad():
            module.backbone.conv.weight[module.packnet.owners["conv.weight"] == 2] = float("nan")

    with pytest.raises(FloatingPointError, match="the loss of task 'b' became nan"):
        fit_class(model, "b", callbacks=[Spoiler(poison)])
    assert not torch.isfinite(model.backbone.conv.weight).all()
    assert (model.packnet.open_task, model.packnet.summary().total.free) == ("b", 0)
    assert same(used_by(model.packnet, 1), finished)
    assert torch.equal(bits(model(images(), task="a")), bits(settled))
    model.packnet.abort_task()
    fit_class(model, "b")
    assert model.packnet.tasks == ["a", "b"]
    assert torch.equal(bits(model(images(), task="a")), bits(settled))


# Checkpoints.

TINY = {"image_size": 6, "stages": ((4,), (6,)), "hidden": 8}


def saved(model, folder):
    quiet_trainer = quiet()
    quiet_trainer.strategy.connect(model)
    quiet_trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.mark.parametrize("num_tasks", [1, 2, 3])
def test_load_from_checkpoint_rebuilds_all_heads(tmp_path, num_tasks):
    model = classifier(*"abc"[:num_tasks], backbone=vgg_small(**TINY))
    probe = images()
    path = saved(model, tmp_path)
    torch.manual_seed(99)
    loaded = TaskClassifier.load_from_checkpoint(path, backbone=vgg_small(**TINY), recipes=RECIPES)
    assert (loaded.tasks, loaded.selected_task) == (model.tasks, model.selected_task)
    assert loaded.heads.infos == model.heads.infos
    assert loaded.packnet.tasks == model.packnet.tasks
    assert same(tensors(loaded), tensors(model))
    for task in model.tasks:
        assert torch.equal(bits(loaded(probe, task=task)), bits(model(probe, task=task)))
    fit_class(loaded, "later", seed=9)
    for task in model.tasks:
        assert torch.equal(bits(loaded(probe, task=task)), bits(model(probe, task=task)))


def test_a_checkpoint_loads_with_weights_only(tmp_path):
    model = classifier("a")
    fit_class(
        model,
        "b",
        classes=2,
        callbacks=[ModelCheckpoint(tmp_path, filename="last")],
        enable_checkpointing=True,
    )
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {name: info["num_classes"] for name, info in checkpoint["tasks"].items()} == {"a": 3, "b": 2}
    assert checkpoint["packnet"]["open_task"] == "b"


def test_a_checkpoint_with_another_number_of_classes_is_refused(tmp_path):
    path = saved(classifier("a"), tmp_path)
    model = TaskClassifier(SmallNet())
    model.add_task("a", num_classes=5)
    with pytest.raises(ValueError, match="task 'a' has 3 classes in the checkpoint and 5 here"):
        quiet().test(model, loader(), ckpt_path=path)


def test_a_checkpoint_of_another_module_is_refused(tmp_path):
    class Other(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = SmallNet()

    path = saved(Other(), tmp_path)
    with pytest.raises(ValueError, match="it was not written by a TaskClassifier"):
        TaskClassifier.load_from_checkpoint(path, backbone=SmallNet())


def test_a_checkpoint_of_plain_training_is_refused_by_one_that_packs(tmp_path):
    model = FineTuning(SmallNet())
    model.add_task("a", num_classes=3)
    path = saved(model, tmp_path)
    with pytest.raises(ValueError, match="does not say which task owns which weight, so no TaskClassifier wrote it"):
        TaskClassifier.load_from_checkpoint(path, backbone=SmallNet())


def test_a_checkpoint_that_says_who_owns_weights_is_refused_by_a_method_without_owners(tmp_path):
    path = saved(classifier("a"), tmp_path)
    with pytest.raises(ValueError, match="says which task owns which weight, so no FineTuning wrote it"):
        FineTuning.load_from_checkpoint(path, backbone=SmallNet())


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("added", [("b",), ("a", "b")], ids=["only the new task", "all tasks"])
def test_a_resumed_fit_in_a_fresh_model_ends_bit_identical(tmp_path, phase, added):
    def fit(model, ckpt_path=None):
        callback = PackNetCallback(task="b", phase=phase, prune_ratio=0.5 if phase == "train" else None)
        checkpoints = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        trainer = quiet(callback, checkpoints, max_epochs=3, enable_checkpointing=True)
        trainer.fit(model, loader(1), ckpt_path=ckpt_path)
        return model

    model = classifier("a", backbone=SmallNet(dropout=0))
    model.add_task("b", num_classes=3)
    if phase == "retrain":
        quiet(PackNetCallback(task="b", phase="train", prune_ratio=0.5)).fit(model, loader(1))
    fit(model)
    torch.manual_seed(99)
    fresh = TaskClassifier(SmallNet(dropout=0), recipes=RECIPES)
    for task in added:
        fresh.add_task(task, num_classes=3)
    fit(fresh, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert fresh.packnet.phase == model.packnet.phase
    for task in "ab":
        assert same(tensors(fresh.heads[task]), tensors(model.heads[task])), f"head of {task}"
    assert same(tensors(fresh.backbone), tensors(model.backbone))
    assert torch.equal(bits(fresh(images(), task="a")), bits(model(images(), task="a")))


# Plain multi-head training.


def test_without_packing_every_weight_is_trained_and_earlier_answers_change():
    model = FineTuning(SmallNet(), recipes={"train": Recipe(MOMENTUM)})
    assert model.packnet is None
    model.add_task("a", num_classes=3)
    quiet().fit(model, loader())
    before, weights = live(model, "a", images()), tensors(model.backbone)
    model.add_task("b", num_classes=3)
    quiet().fit(model, loader(1))
    assert all(not torch.equal(bits(value), weights[name]) for name, value in model.backbone.state_dict().items())
    assert not torch.equal(model.eval()(images(), task="a"), before)


def test_without_packing_the_callback_is_refused():
    model = FineTuning(SmallNet())
    model.add_task("a", num_classes=3)
    with pytest.raises(ValueError, match=r"FineTuning has no PackNet \(its attribute packnet is None\)"):
        quiet(PackNetCallback(task="a", phase="train")).fit(model, loader())


def test_without_packing_checkpoints_load_too(tmp_path):
    model = FineTuning(SmallNet())
    model.add_task("a", num_classes=3)
    loaded = FineTuning.load_from_checkpoint(saved(model, tmp_path), backbone=SmallNet())
    assert loaded.packnet is None
    assert same(tensors(loaded), tensors(model))


def test_a_head_can_begin_as_the_classifier_that_the_weights_came_with():
    backbone = vgg_small()
    backbone.pretrained_head = {"weight": torch.randn(5, 128), "bias": torch.randn(5)}
    model = TaskClassifier(backbone)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="the pretrained classifier has 5 classes, and the task has 4"):
        model.add_task("a", num_classes=4, head="pretrained")
    assert model.tasks == []
    model.add_task("a", num_classes=5, head="pretrained")
    assert torch.equal(model.heads["a"].weight, backbone.pretrained_head["weight"])
    model.add_task("b", num_classes=5)
    assert not torch.equal(model.heads["b"].weight, backbone.pretrained_head["weight"])
    assert not any("pretrained_head" in name for name in model.state_dict())
