"""Averages of weights, in the fits of the methods that PackNet is compared with."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging

from packnet_pl.methods import ClassifierOnly, FineTuning, IndividualNetworks, LearningWithoutForgetting
from packnet_pl.training import ExponentialAverage, LastPartAverage
from tests.support.fits import RECIPES, SmallNet, answer, bits, fit_method, same

AVERAGES = {
    "ours": ExponentialAverage,
    "Lightning's": lambda: EMAWeightAveraging(decay=0.7),
    "last part": LastPartAverage,
    "stochastic": lambda: StochasticWeightAveraging(0.05, swa_epoch_start=1),
}
# What of the module a later task does not train, by the beginning of its names.
METHODS = {
    "individual": (IndividualNetworks, {}, ("heads.head_0.",)),
    "classifier only": (ClassifierOnly, {}, ("backbone.", "heads.head_0.")),
    "fine-tuning": (FineTuning, {}, ("heads.head_0.",)),
    "LwF, frozen norms": (LearningWithoutForgetting, {"norms": "frozen"}, ("backbone.bn.",)),
}


class SaveLast(pl.Callback):
    """Writes a checkpoint after each epoch; the last one stays."""

    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.path)


def new_model(kind, settings):
    torch.manual_seed(0)
    model = kind(SmallNet(), **settings)
    model.recipes = RECIPES
    return model


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("method", METHODS)
def test_what_a_later_task_does_not_train_keeps_its_bits(tmp_path, method, average):
    kind, settings, untrained = METHODS[method]
    model, saves = new_model(kind, settings), SaveLast(tmp_path / "last.ckpt")

    def of(values):
        return {name: bits(value) for name, value in values.items() if name.startswith(untrained)}

    fit_method(model, "a", callbacks=[AVERAGES[average]()])
    before = of(model.state_dict())
    fit_method(model, "b", 1, callbacks=[AVERAGES[average](), saves])
    assert before
    assert same(of(model.state_dict()), before)
    assert same(of(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]), before)


@pytest.mark.parametrize("average", AVERAGES)
def test_individual_networks_answer_as_when_they_were_finished(average):
    model, settled = new_model(IndividualNetworks, {}), {}
    for number, task in enumerate("abc"):

        def ask(module, task=task):
            settled[task] = bits(answer(module, task))

        fit_method(model, task, number, callbacks=[AVERAGES[average]()], settled=ask)
        for known, value in settled.items():
            assert torch.equal(bits(answer(model, known)), value)
