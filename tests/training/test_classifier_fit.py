"""A TaskClassifier in a fit: what it needs, optimizes and logs; a loss that is not finite."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

from packnet_pl import PackNetCallback, TaskClassifier, fit_task
from packnet_pl.methods import FineTuning
from packnet_pl.training import Recipe, warmup_cosine
from tests.support.classifier_looks import live
from tests.support.fits import (
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
)


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
