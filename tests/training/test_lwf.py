"""Learning without Forgetting."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from packnet_pl.methods import FineTuning, LearningWithoutForgetting
from packnet_pl.methods.lwf import distillation_loss
from packnet_pl.training import Recipe
from tests.support.fits import (
    MOMENTUM,
    RECIPES,
    SmallNet,
    Spoiler,
    answer,
    bits,
    fit_method,
    images,
    loader,
    quiet,
    same,
    stop_after_an_epoch,
    tensors,
    wanted,
)

NORMS = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")


def new_model(*tasks, dropout=0.25, seed=0, **arguments):
    torch.manual_seed(seed)
    model = LearningWithoutForgetting(SmallNet(dropout), **arguments)
    model.recipes = RECIPES
    for number, task in enumerate(tasks):
        fit_method(model, task, number)
    return model


def with_new_task(model, task="c"):
    torch.manual_seed(9)
    model.add_task(task, num_classes=3)
    return model


def by_hand(logits, before, temperature):
    """-sum(p log q) with powers of 1 / T as in the paper, mean over the batch; plain numbers."""

    def softened(row):
        whole = [math.exp(value) for value in row]
        probabilities = [value / math.fsum(whole) for value in whole]
        powers = [p ** (1 / temperature) for p in probabilities]
        return [p / math.fsum(powers) for p in powers]

    pairs = zip(before.tolist(), logits.tolist(), strict=True)
    rows = [
        -math.fsum(p * math.log(q) for p, q in zip(softened(then), softened(now), strict=True)) for then, now in pairs
    ]
    return math.fsum(rows) / len(rows)


# The distillation term.


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5])
def test_the_distillation_is_that_of_the_paper(temperature):
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 2), (4, 3), (7, 10)):
        logits, before = (2 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        expected = by_hand(logits, before, temperature)
        assert distillation_loss(logits, before, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_known_numbers():
    # Two classes whose softened odds are 3 : 1 before and 1 : 1 now.
    before, logits = torch.tensor([[2 * math.log(3), 0.0]]), torch.tensor([[1.0, 1.0]])
    assert distillation_loss(logits, before, 2.0).item() == pytest.approx(math.log(2))
    # The same odds: it is their entropy, and there is nothing to learn.
    logits = before.clone().requires_grad_()
    loss = distillation_loss(logits, before, 2.0)
    assert loss.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    loss.backward()
    assert logits.grad.abs().max() < 1e-7


@pytest.mark.parametrize("weight", [0.25, 1.0, 3])
def test_the_loss_is_the_new_tasks_and_the_weighted_sum_over_all_old_heads(weight):
    model = with_new_task(new_model("a", "b", dropout=0, weight=weight, temperature=2.0))
    then = {task: answer(model, task) for task in "ab"}
    model.begin_fit()
    with torch.no_grad():
        model.backbone.conv.weight.mul_(-1.5)  # so that it does not answer as before
    labels = torch.arange(8) % 3
    model.train()
    loss, logits = model.loss_and_logits(images(), labels)
    features = model.backbone(images())
    assert torch.allclose(logits, model.heads["c"](features), atol=1e-6)
    terms = {task: by_hand(model.heads[task](features), then[task], 2.0) for task in "ab"}
    assert terms["a"] != terms["b"]
    expected = cross_entropy(logits, labels).item() + weight * (terms["a"] + terms["b"])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.heads.parameters())


def test_outside_of_training_the_loss_is_the_cross_entropy_alone():
    model = with_new_task(new_model("a"))
    labels = torch.arange(8) % 3
    model.begin_fit()
    model.eval()
    loss, logits = model.loss_and_logits(images(), labels)
    assert torch.equal(loss, cross_entropy(logits, labels))


# What a fit does to the network.


def test_with_weight_zero_it_is_fine_tuning_to_the_bit():
    torch.manual_seed(0)
    plain = FineTuning(SmallNet(), recipes=RECIPES)
    found = new_model(weight=0)
    for number, task in enumerate("abc"):
        for model in (plain, found):
            fit_method(model, task, number, gradient_clip_val=0.5)
        assert same(tensors(found), tensors(plain))
    other = new_model("a", "b", "c", weight=1e-3)
    assert not same(tensors(other), tensors(plain))


def test_old_heads_learn_and_rest_afterwards():
    model = new_model("a", "b")
    before = {task: tensors(model.heads[task]) for task in "ab"}
    fit_method(model, "c", 2)
    for task, values in before.items():
        assert all(not torch.equal(value, values[name]) for name, value in tensors(model.heads[task]).items())
    assert [task for task in model.tasks if model.heads[task].weight.requires_grad] == ["c"]


def test_the_teacher_stays_as_the_network_was_and_drops_nothing_out():
    model = new_model("a", "b", dropout=0.5)
    answers, seen = {task: answer(model, task) for task in "ab"}, []
    names = list(model.state_dict())

    def ask(trainer, module):
        seen.append((module.logits_before(images()), module.logits_before(images())))
        assert len(list(module.state_dict())) == len(names) + 2  # the new head's
        before = [p for part in module._before[0] for p in part.parameters()]
        trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
        assert trained == {id(p) for p in module.parameters()}
        assert not any(p.requires_grad or id(p) in trained for p in before)

    fit_method(model, "c", 2, callbacks=[Spoiler(ask, batch=0), Spoiler(ask, batch=3)])
    assert len(seen) == 4
    for pair in seen:
        for found in pair:
            assert found.keys() == answers.keys()
            assert all(torch.equal(bits(found[task]), bits(answers[task])) for task in answers)
    assert model._before == []


def test_distillation_keeps_more_of_the_old_answers_to_the_new_images_than_fine_tuning():
    moved = {}
    images = torch.cat([images for images, _ in loader(1)])
    for weight in (0.0, 5.0):
        model = new_model("a", dropout=0, weight=weight, norms="frozen")
        model.recipes = {"train": Recipe(lambda parameters: torch.optim.SGD(parameters, lr=0.02))}
        answers = []
        for _ in range(2):
            with model.predicting("a") as logits, torch.no_grad():
                answers.append(logits(images).softmax(dim=1))
            if "b" not in model.tasks:
                fit_method(model, "b", 1, max_epochs=5)
        moved[weight] = (answers[1] - answers[0]).abs().mean().item()
    assert moved[5.0] < 0.7 * moved[0.0]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_frozen_norms_stand_still_from_the_second_task_on(weight):
    model = new_model(norms="frozen", weight=weight)
    given = tensors(model.backbone)
    fit_method(model, "a")
    before = tensors(model.backbone)
    assert all(not torch.equal(before[name], value) for name, value in given.items())
    for number, task in enumerate("bc", start=1):
        fit_method(model, task, number)
        now = tensors(model.backbone)
        assert {name for name in now if torch.equal(now[name], before[name])} == set(NORMS)
        assert model.backbone.bn.training
        assert all(wanted(model.backbone).values())


def test_trained_norms_are_trained():
    model = new_model("a")
    before = tensors(model.backbone)
    fit_method(model, "b", 1)
    assert all(not torch.equal(tensors(model.backbone)[name], before[name]) for name in NORMS)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_new_task_answers_afterwards_as_when_it_was_settled(precision):
    model, settled = new_model("a", norms="frozen"), []
    fit_method(model, "b", 1, settled=lambda module: settled.append(answer(module, "b")), precision=precision)
    assert torch.equal(bits(answer(model, "b")), bits(settled[0]))


# What can go wrong.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight is -1.0; allowed is a finite number, 0 or more"),
        ({"weight": float("nan")}, "weight is nan; allowed"),
        ({"weight": float("inf")}, "weight is inf; allowed"),
        ({"weight": "much"}, "weight is 'much'; allowed"),
        ({"weight": None}, "weight is None; allowed"),
        ({"temperature": 0}, "temperature is 0; allowed is a finite number above 0"),
        ({"temperature": "warm"}, "temperature is 'warm'; allowed"),
        ({"norms": "wrong"}, "norms is 'wrong'; allowed are 'trained' and 'frozen'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LearningWithoutForgetting(SmallNet(), **arguments)


def test_a_fit_that_fails_leaves_no_trace():
    model = new_model("a", norms="frozen")
    with pytest.raises(ZeroDivisionError):
        fit_method(model, "b", 1, callbacks=[Spoiler(lambda *_: 1 / 0)])
    assert model._before == []
    assert model.backbone.bn.training
    assert all(wanted(model.backbone).values())
    assert not model.heads["a"].weight.requires_grad


@pytest.mark.parametrize("norms", ["trained", "frozen"])
def test_a_resumed_fit_keeps_the_same_answers_and_ends_as_one_that_was_not_broken_off(tmp_path, norms):
    expected = new_model("a", "b", "c", norms=norms)
    before = new_model("a", "b", norms=norms)
    known = tensors(before.backbone)
    stop_after_an_epoch(before, "c", 2, tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["before"]
    assert same({name: bits(value) for name, value in saved["backbone"].items()}, known)
    # One that has the finished tasks, and one that has nothing but the checkpoint.
    for resumed in (new_model("a", "b", norms=norms), new_model(norms=norms, seed=7)):
        fit_method(resumed, "c", 2, resume=tmp_path / "last.ckpt")
        assert same(tensors(resumed), tensors(expected))
        assert wanted(resumed) == wanted(expected)
        assert resumed.backbone.bn.training


def test_the_first_task_has_no_teacher_and_neither_has_its_checkpoint(tmp_path):
    stop_after_an_epoch(new_model(), "a", 0, tmp_path / "last.ckpt")
    assert "before" not in torch.load(tmp_path / "last.ckpt", weights_only=True)


def test_a_checkpoint_of_another_method_is_not_gone_on_with(tmp_path):
    stop_after_an_epoch(new_model("a", weight=0), "b", 1, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="does not hold the network as it was before task 'b'"):
        fit_method(new_model("a"), "b", 1, resume=tmp_path / "last.ckpt")


def test_loading_a_checkpoint_without_a_fit_begins_none(tmp_path):
    stop_after_an_epoch(new_model("a", norms="frozen"), "b", 1, tmp_path / "last.ckpt")
    found = LearningWithoutForgetting.load_from_checkpoint(
        tmp_path / "last.ckpt", backbone=SmallNet(), norms="frozen", weights_only=True
    )
    assert found.tasks == ["a", "b"]
    assert found._before == []
    assert found.backbone.bn.training
    assert all(wanted(found.backbone).values())
    quiet().validate(found, torch.utils.data.DataLoader([(images()[0], 1)]), verbose=False)
    assert found.backbone.bn.training


def test_half_precision_of_everything_reaches_the_teacher_too():
    model = new_model("a")
    model.recipes = {"train": Recipe(MOMENTUM)}
    fit_method(model, "b", 1, precision="bf16-true")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
