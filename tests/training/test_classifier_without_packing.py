"""pack=False: plain multi-head training."""

import pytest
import torch

from packnet_pl import PackNetCallback, TaskClassifier
from packnet_pl.methods import FineTuning
from packnet_pl.models import vgg_small
from packnet_pl.training import Recipe
from tests.support.classifier_looks import live, saved
from tests.support.fits import (
    MOMENTUM,
    SmallNet,
    bits,
    images,
    loader,
    quiet,
    same,
    tensors,
)


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
