"""The best epoch by a validation metric."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from packnet_pl.training.best_epoch import BestEpoch
from tests.support.fits import same, tensors


def trainer(score):
    """A Trainer that has just validated."""
    return SimpleNamespace(callback_metrics={"score": torch.tensor(score)}, sanity_checking=False)


def run(best, scores):
    """Shows a module to ``best`` after each epoch; returns what it was then."""
    module, seen = nn.Linear(2, 2), []
    for score in scores:
        with torch.no_grad():
            module.weight.add_(1)
        seen.append(tensors(module))
        best.update(trainer(score), module)
    return module, seen


@pytest.mark.parametrize(
    ("mode", "scores", "expected"),
    [
        ("max", [0.1, 0.9, 0.5], 1),
        ("min", [0.1, 0.9, 0.05], 2),
        ("max", [0.5, 0.5, 0.5], 0),
        ("min", [0.5, 0.25, 0.25], 1),
        ("max", [0.1, 0.2, 0.3], 2),
        ("max", [0.0], 0),
        ("max", [-3.0, -2.0, -2.5], 1),
    ],
)
def test_the_first_of_the_best_epochs_is_kept(mode, scores, expected):
    best = BestEpoch("score", mode)
    module, seen = run(best, scores)
    best.restore_(module)
    assert same(tensors(module), seen[expected])
    assert best.score == pytest.approx(scores[expected])


class Remembers(nn.Linear):
    """Keeps something in its state dict that is no tensor."""

    def __init__(self):
        super().__init__(2, 2)
        self.seen = []

    def get_extra_state(self):
        return {"seen": self.seen}

    def set_extra_state(self, state):
        self.seen = state["seen"]


def test_extra_state_of_a_layer_is_that_of_the_best_epoch_too():
    module, best = Remembers(), BestEpoch("score", "max")
    for epoch, score in enumerate([0.1, 0.9, 0.5]):
        module.seen.append(epoch)
        best.update(trainer(score), module)
    best.restore_(module)
    assert module.seen == [0, 1]


def test_a_score_that_is_not_a_number_does_not_win():
    best = BestEpoch("score", "max")
    module, seen = run(best, [float("nan"), 0.5, float("nan")])
    best.restore_(module)
    assert same(tensors(module), seen[1])


def test_without_validation_nothing_is_put_back():
    module = nn.Linear(2, 2)
    before = tensors(module)
    BestEpoch("score", "max").restore_(module)
    assert same(tensors(module), before)


def test_its_state_goes_on_in_another_process():
    first, second = BestEpoch("score", "max"), BestEpoch("score", "max")
    _, seen = run(first, [0.1, 0.9])
    second.load_state_dict(first.state_dict())
    module, _ = run(second, [0.8])
    second.restore_(module)
    assert second.score == pytest.approx(0.9)
    assert same(tensors(module), seen[1])


def test_a_metric_that_was_not_logged_is_named():
    with pytest.raises(ValueError, match=r"needs the metric 'f1'; validation logged \['score'\]"):
        run(BestEpoch("f1", "max"), [0.5])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode is 'median'; allowed are 'max' and 'min'"):
        BestEpoch("score", "median")
