"""The baseline that forgets."""

import pytest
import torch

from packnet_pl.methods import FineTuning, fit_unpruned
from tests.support.fits import RECIPES, SmallNet, bits, classifier, images, loader, quiet, tensors


def answer(model, task):
    with model.predicting(task) as logits, torch.no_grad():
        return logits(images())


def fit(model, task, seed=0, **kwargs):
    phases, settled = [], []

    def make_trainer(phase, callback):
        phases.append(phase)
        return quiet(callback)

    model.add_task(task, num_classes=3)
    given = {"prune_ratio": None, "settled": lambda m: settled.append(answer(m, task)), **kwargs}
    fit_unpruned(model, loader(seed), task=task, make_trainer=make_trainer, **given)
    return phases, settled


def test_every_weight_is_trained_in_one_phase():
    model = FineTuning(SmallNet(), recipes=RECIPES)
    before = tensors(model)
    phases, _ = fit(model, "a")
    assert phases == ["train"]
    assert all(not torch.equal(tensors(model)[name], value) for name, value in before.items())


def test_settled_is_called_with_the_final_weights():
    model = FineTuning(SmallNet(), recipes=RECIPES)
    _, (settled,) = fit(model, "a")
    assert torch.equal(bits(answer(model, "a")), bits(settled))


def test_the_second_task_changes_what_the_first_one_answers():
    model = FineTuning(SmallNet(), recipes=RECIPES)
    _, (settled,) = fit(model, "a")
    fit(model, "b", seed=1)
    assert not torch.equal(answer(model, "a"), settled)


def test_a_prune_ratio_is_refused():
    model = FineTuning(SmallNet())
    with pytest.raises(ValueError, match=r"task 'a': prune ratio 0\.5 was given, but this method prunes nothing"):
        fit(model, "a", prune_ratio=0.5)


def test_a_classifier_that_packs_is_refused():
    with pytest.raises(ValueError, match="this fit has no PackNetCallback"):
        fit(classifier(), "a")
