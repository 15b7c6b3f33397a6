"""The baseline of a network per task."""

import pytest
import pytorch_lightning as pl
import torch

from packnet_pl.methods import IndividualNetworks
from packnet_pl.training import Distillation, Recipe
from tests.support.fits import (
    MOMENTUM,
    RECIPES,
    SaveAndStop,
    SmallNet,
    Spoiler,
    StoppedError,
    answer,
    bits,
    fit_method,
    images,
    quiet,
    same,
    stop_after_an_epoch,
    tensors,
)


def new_model(*tasks, start="first_task", seed=0):
    torch.manual_seed(seed)
    model = IndividualNetworks(SmallNet(), start=start)
    model.recipes = RECIPES
    for number, task in enumerate(tasks):
        fit_method(model, task, number)
    return model


def as_bits(network):
    return {name: bits(value) for name, value in network.items()}


class FirstWeights(Spoiler):
    """Keeps the backbone as it is when the first batch begins."""

    def __init__(self):
        super().__init__(lambda trainer, module: self.found.append(tensors(module.backbone)), batch=0)
        self.found = []


@pytest.mark.parametrize("start", ["first_task", "backbone"])
def test_every_further_task_begins_with_the_same_weights(start):
    model = new_model(start=start)
    given, begun = tensors(model.backbone), {}
    for number, task in enumerate("abc"):
        first = FirstWeights()
        fit_method(model, task, number, callbacks=[first])
        begun[task] = first.found[0]
    assert same(begun["a"], given)
    expected = given if start == "backbone" else as_bits(model.networks["a"])
    assert same(begun["b"], expected)
    assert same(begun["c"], expected)
    assert not same(as_bits(model.networks["a"]), given)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_each_task_answers_as_when_it_was_finished(precision):
    model, settled = new_model(), {}
    for number, task in enumerate("abc"):

        def ask(module, task=task):
            settled[task] = bits(answer(module, task))

        fit_method(model, task, number, settled=ask, precision=precision)
        assert list(model.networks) == model.tasks
        for known, value in settled.items():
            assert torch.equal(bits(answer(model, known)), value)
            assert torch.equal(bits(model(images(), task=known)), value)
    assert len({tuple(value.flatten().tolist()) for value in settled.values()}) == 3


def test_a_question_leaves_the_live_network_as_it_is():
    model = new_model("a", "b")
    before = tensors(model)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    answer(model, "a")
    assert same(tensors(model), before)
    assert [parameter.data_ptr() for parameter in model.parameters()] == places


def test_a_task_that_is_selected_again_shows_its_network():
    model = new_model("a", "b")
    for task in ("a", "b", "a"):
        model.select_task(task)
        assert same(tensors(model.backbone), as_bits(model.networks[task]))


def test_a_checkpoint_brings_all_networks(tmp_path):
    model = new_model("a", "b", "c")
    answers = {task: bits(answer(model, task)) for task in model.tasks}
    trainer = quiet()
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    found = IndividualNetworks.load_from_checkpoint(tmp_path / "last.ckpt", backbone=SmallNet(), weights_only=True)
    assert same(tensors(found), tensors(model))
    for task, value in answers.items():
        assert torch.equal(bits(answer(found, task)), value)
        assert same(as_bits(found.networks[task]), as_bits(model.networks[task]))


@pytest.mark.parametrize("start", ["first_task", "backbone"])
def test_a_resumed_fit_ends_as_one_that_was_not_broken_off(tmp_path, start):
    expected = new_model("a", "b", "c", start=start)
    stop_after_an_epoch(new_model("a", "b", start=start), "c", 2, tmp_path / "last.ckpt")
    for resumed in (new_model("a", "b", start=start), new_model(start=start, seed=7)):
        fit_method(resumed, "c", 2, resume=tmp_path / "last.ckpt")
        assert same(tensors(resumed), tensors(expected))
        assert list(resumed.networks) == ["a", "b", "c"]
        for task in expected.tasks:
            assert same(as_bits(resumed.networks[task]), as_bits(expected.networks[task]))


def test_a_finished_task_is_not_trained_again():
    model = new_model("a", "b")
    model.select_task("a")
    before = tensors(model)
    with pytest.raises(ValueError, match=r"task 'a' has a network that is trained to its end; finished are \['a', 'b'"):
        fit_method(model, "a")
    assert same(tensors(model), before)


def test_a_fit_that_fails_finishes_nothing_and_can_be_begun_again():
    model = new_model("a")
    with pytest.raises(ZeroDivisionError):
        fit_method(model, "b", 1, callbacks=[Spoiler(lambda *_: 1 / 0)])
    assert list(model.networks) == ["a"]
    model.select_task("b")
    assert same(tensors(model.backbone), as_bits(model.networks["a"]))
    fit_method(model, "b", 1)
    assert list(model.networks) == ["a", "b"]


@pytest.mark.parametrize("start", ["first", None, "Backbone"])
def test_another_start_is_refused(start):
    with pytest.raises(ValueError, match=r"start is .*; allowed are 'first_task' and 'backbone'"):
        IndividualNetworks(SmallNet(), start=start)


# A second phase.


def with_second_phase(*tasks, distillation=0.5, seed=0):
    torch.manual_seed(seed)
    model = IndividualNetworks(SmallNet(), retrain=True)
    model.recipes = {**RECIPES, "retrain": Recipe(MOMENTUM, distillation=Distillation(distillation))}
    for number, task in enumerate(tasks):
        fit_method(model, task, number)
    return model


class Phases(pl.Callback):
    def __init__(self):
        self.seen, self.taught = [], []

    def on_train_epoch_start(self, trainer, module):
        self.seen.append((module.phase, module.teacher.task))
        self.taught.append(bits(module.teacher(images())) if module.teacher.task else None)


def test_a_second_phase_learns_from_the_network_that_the_first_one_left():
    model, phases, ends = with_second_phase("a"), Phases(), []

    class End(pl.Callback):
        def on_train_end(self, trainer, module):
            ends.append(bits(answer(module, "b")))

    fit_method(model, "b", 1, callbacks=[phases, End()])
    assert phases.seen == [*[("train", None)] * 2, *[("retrain", "b")] * 2]
    assert torch.equal(phases.taught[2], ends[0])
    assert torch.equal(phases.taught[3], ends[0])
    assert torch.equal(bits(answer(model, "b")), ends[1])
    assert (list(model.networks), model.teacher.task) == (["a", "b"], None)


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_second_phase_is_resumed(tmp_path, phase):
    class Stop(SaveAndStop):
        def on_train_epoch_end(self, trainer, module):
            if module.phase == phase:
                super().on_train_epoch_end(trainer, module)

    expected = with_second_phase("a", "b")
    with pytest.raises(StoppedError):
        fit_method(with_second_phase("a"), "b", 1, callbacks=[Stop(tmp_path / "last.ckpt")])
    for resumed in (with_second_phase("a"), with_second_phase(seed=7)):
        fit_method(resumed, "b", 1, resume=(phase, tmp_path / "last.ckpt"))
        assert same(tensors(resumed), tensors(expected))
        assert all(same(as_bits(resumed.networks[task]), as_bits(expected.networks[task])) for task in "ab")


def test_a_phase_that_the_method_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"task 'a' cannot go on in phase 'retrain': this method has \['train'\]"):
        fit_method(new_model(), "a", resume=("retrain", tmp_path / "last.ckpt"))
    with pytest.raises(ValueError, match="retrain is 'yes'; allowed are True and False"):
        IndividualNetworks(SmallNet(), retrain="yes")
