"""The baseline of which only the first task trains the network."""

import pytest
import torch
from torch import nn

from packnet_pl.methods import ClassifierOnly
from tests.support.fits import (
    RECIPES,
    SmallNet,
    Spoiler,
    answer,
    bits,
    fit_method,
    same,
    stop_after_an_epoch,
    tensors,
    wanted,
)


def new_model(*tasks):
    torch.manual_seed(0)
    model = ClassifierOnly(SmallNet())
    model.recipes = RECIPES
    for number, task in enumerate(tasks):
        fit_method(model, task, number)
    return model


def modes(module):
    return {name: layer.training for name, layer in module.named_modules()}


def test_the_first_task_trains_everything():
    model = new_model()
    before = tensors(model.backbone)
    fit_method(model, "a")
    assert all(not torch.equal(value, before[name]) for name, value in tensors(model.backbone).items())


def test_later_tasks_change_no_bit_of_the_backbone_nor_of_earlier_heads():
    model = new_model("a")
    before, answers = tensors(model.backbone), {}
    for number, task in enumerate("bcd", start=1):
        answers |= {other: bits(answer(model, other)) for other in model.tasks}
        torch.manual_seed(number)
        model.add_task(task, num_classes=3)
        head = tensors(model.heads[task])
        fit_method(model, task, number)
        assert same(tensors(model.backbone), before)
        assert all(not torch.equal(value, head[name]) for name, value in tensors(model.heads[task]).items())
        assert all(torch.equal(bits(answer(model, other)), value) for other, value in answers.items())


def test_a_later_task_trains_the_head_alone_on_features_without_dropout():
    model, seen = new_model("a"), []

    def look(trainer, module):
        (group,) = trainer.optimizers[0].param_groups
        seen.append(([id(p) for p in group["params"]], modes(module.backbone), wanted(module.backbone)))

    fit_method(model, "b", 1, callbacks=[Spoiler(look)])
    for parameters, training, gradients in seen:
        assert parameters == [id(parameter) for parameter in model.heads["b"].parameters()]
        assert not any(training.values())
        assert not any(gradients.values())
    assert len(seen) == 2


def stopped(model):
    with pytest.raises(ZeroDivisionError):
        fit_method(model, "b", 1, callbacks=[Spoiler(lambda *_: 1 / 0)])


@pytest.mark.parametrize("fit", [lambda model: fit_method(model, "b", 1), stopped], ids=["to its end", "broken off"])
def test_modes_and_gradients_are_given_back_as_they_were(fit):
    model = new_model("a")
    model.backbone.fc.bias.requires_grad_(False)
    model.backbone.bn.eval()
    before = modes(model.backbone), wanted(model.backbone)
    assert len(set(before[0].values())) == len(set(before[1].values())) == 2
    fit(model)
    assert (modes(model.backbone), wanted(model.backbone)) == before


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_is_asked_for_good_when_the_backbone_has_been_let_go(precision):
    """Gradients or none: torch may choose other kernels, and other kernels round otherwise."""
    model, settled = new_model("a"), []

    def ask(module):
        settled.append((wanted(module.backbone), answer(module, "b")))

    fit_method(model, "b", 1, settled=ask, precision=precision)
    ((gradients, answered),) = settled
    assert all(gradients.values())
    assert torch.equal(bits(answer(model, "b")), bits(answered))


def test_a_resumed_fit_ends_as_one_that_was_not_broken_off_and_holds_a_new_module_still(tmp_path):
    expected = tensors(new_model("a", "b"))
    stop_after_an_epoch(new_model("a"), "b", 1, tmp_path / "last.ckpt")
    for resumed in (new_model("a"), ClassifierOnly(SmallNet())):
        resumed.recipes = RECIPES
        fit_method(resumed, "b", 1, resume=tmp_path / "last.ckpt")
        assert same(tensors(resumed), expected)
        assert all(wanted(resumed.backbone).values())


def test_a_backbone_of_norms_alone_stands_still_too():
    class Norms(nn.Sequential):
        num_features = 36

        def __init__(self):
            super().__init__(nn.BatchNorm2d(1, momentum=None), nn.GroupNorm(1, 1), nn.Flatten())

    model = ClassifierOnly(Norms())
    model.recipes = RECIPES
    fit_method(model, "a")
    before = tensors(model.backbone)
    fit_method(model, "b", 1)
    assert same(tensors(model.backbone), before)
