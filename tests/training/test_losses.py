"""Smoothed labels, class weights and mixed batches: what is computed, when, and with which random numbers."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torchvision.transforms import v2

from packnet_pl import PackNetCallback
from packnet_pl.methods import LearningWithoutForgetting
from packnet_pl.training import ClassificationLoss, Recipe, Reseed, batch_mixing
from tests.support.classifier_looks import live
from tests.support.fits import (
    MOMENTUM,
    SmallNet,
    classifier,
    fit_class,
    fit_method,
    images,
    loader,
    quiet,
    same,
    stop_after_an_epoch,
    tensors,
)

WEIGHTS = (0.5, 1.0, 2.0)
STILL = partial(SGD, lr=0.0)


def both(**recipe):
    found = Recipe(**{"optimizer": MOMENTUM, **recipe})
    return {"train": found, "retrain": found}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs(smoothing, weights, dtype):
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.arange(8) % 3
    theirs = nn.CrossEntropyLoss(
        weight=None if weights is None else torch.tensor(weights, dtype=dtype), label_smoothing=smoothing
    )
    ours = ClassificationLoss(smoothing, weights)
    for targets in (labels, torch.rand(8, 3).softmax(dim=1).to(dtype)):
        assert torch.equal(ours(logits, targets), theirs(logits, targets))


def test_training_has_the_recipes_loss_and_validation_and_test_the_cross_entropy():
    model = classifier(recipes=both(optimizer=STILL, loss=ClassificationLoss(0.3, WEIGHTS)), backbone=SmallNet(0.0))
    model.add_task("a", num_classes=3)
    model.backbone.bn.eval()  # otherwise it computes otherwise in training
    trainer = quiet(PackNetCallback(task="a", phase="train", prune_ratio=None), max_epochs=1)
    trainer.fit(model, loader(), loader())
    model.eval()
    batches = [(live(model, "a", x), y) for x, y in loader()]
    plain = torch.stack([cross_entropy(logits, labels) for logits, labels in batches]).mean()
    trained = torch.stack([ClassificationLoss(0.3, WEIGHTS)(logits, labels) for logits, labels in batches]).mean()
    assert abs(plain - trained) > 0.01
    assert float(trainer.callback_metrics["val_loss"]) == pytest.approx(plain.item(), rel=1e-5)
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(trained.item(), rel=1e-5)
    (result,) = quiet().test(model, loader(), verbose=False)
    assert result["test_loss"] == pytest.approx(plain.item(), rel=1e-5)


def test_a_loss_of_torchs_own_serves_as_well():
    found = []
    for loss in (ClassificationLoss(0.1), nn.CrossEntropyLoss(label_smoothing=0.1), cross_entropy):
        torch.manual_seed(0)
        found.append(tensors(classifier("a", recipes=both(loss=loss))))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_mixing_is_torchvisions_one_of_both_for_each_batch():
    labels = torch.arange(8) % 3
    assert batch_mixing(3) is None
    for name, theirs in {"mixup": v2.MixUp, "cutmix": v2.CutMix}.items():
        torch.manual_seed(0)
        expected = theirs(alpha=0.7, num_classes=3)(images(), labels)
        torch.manual_seed(0)
        found = batch_mixing(3, **{name: 0.7})(images(), labels)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        assert torch.allclose(found[1].sum(dim=1), torch.ones(8))
    mixing, pixels = batch_mixing(3, mixup=1.0, cutmix=1.0), set(images().flatten().tolist())
    # What cutmix gives was there before, pixel by pixel.
    cut = [set(mixing(images(), labels)[0].flatten().tolist()) <= pixels for _ in range(20)]
    assert {True, False} == set(cut)


def test_images_are_mixed_in_training_alone_and_the_larger_share_counts():
    seen = []

    def mixing(batch, labels):
        seen.append(len(batch))
        targets = torch.full((len(batch), 3), 0.3)
        targets[:, 2] = 0.4
        return torch.zeros_like(batch), targets

    model = classifier(recipes=both(optimizer=STILL, mixing=mixing))
    model.add_task("a", num_classes=3)
    with torch.no_grad():
        model.heads["a"].weight.zero_()
        model.heads["a"].bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    trainer = quiet(PackNetCallback(task="a", phase="train", prune_ratio=None), max_epochs=2)
    trainer.fit(model, loader(), loader())
    quiet().test(model, loader(), verbose=False)
    assert seen == [8] * 8
    assert float(trainer.callback_metrics["train_accuracy"]) == 1.0
    twos = (loader().dataset.tensors[1] == 2).float().mean()
    assert float(trainer.callback_metrics["val_accuracy"]) == pytest.approx(twos.item())


def test_mixed_batches_follow_from_the_seed_of_the_run():
    found = []
    for number in range(2):
        torch.manual_seed(0)
        model = classifier(recipes=both(mixing=batch_mixing(3, mixup=0.4, cutmix=1.0)), backbone=SmallNet(0.0))
        model.add_task("a", num_classes=3)
        torch.manual_seed(number)
        fit_class(model, "a", callbacks=[Reseed(seed=0, task="a", phase="train")])
        found.append(tensors(model))
    assert same(*found)


def test_learning_without_forgetting_distils_the_images_that_the_new_task_learns_from(tmp_path, monkeypatch):
    """Also after a resume: the same batches, so the same bits."""

    def new():
        torch.manual_seed(0)
        model = LearningWithoutForgetting(SmallNet())
        model.recipes = both(loss=ClassificationLoss(0.1), mixing=batch_mixing(3, mixup=1.0))
        fit_method(model, "a", 0)
        return model

    whole, seen = new(), []
    before = LearningWithoutForgetting.logits_before
    monkeypatch.setattr(
        LearningWithoutForgetting, "logits_before", lambda self, batch: seen.append(batch) or before(self, batch)
    )
    fit_method(whole, "b", 1)
    assert len(seen) == 8
    assert not any(torch.equal(batch, given) for batch in seen[:4] for given, _ in loader(1))
    stop_after_an_epoch(new(), "b", 1, tmp_path / "b.ckpt")
    resumed = new()
    fit_method(resumed, "b", 1, resume=tmp_path / "b.ckpt")
    assert same(tensors(resumed), tensors(whole))
