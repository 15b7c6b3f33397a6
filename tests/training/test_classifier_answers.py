"""A finished task gives the logits that it gave when it was finished."""

import pytest
import torch

from packnet_pl import TaskClassifier
from tests.support.classifier_looks import fitted_with_logits, live, modes, saved
from tests.support.fits import (
    SmallNet,
    Spoiler,
    bits,
    classifier,
    fit_class,
    images,
    same,
    used_by,
    wanted,
)


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
