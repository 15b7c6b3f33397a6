"""Views, fits and steps that exceptions and Ctrl-C stop."""

import signal
from functools import partial

import pytest
import torch
from torch import optim

from tests.support.promise.checker import Promise, bits
from tests.support.promise.own_modules import (
    MOMENTUM,
    OwnModule,
    WithValidation,
    fit_phase,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("In the middle")


class TroubleError(Exception):
    pass


def raise_trouble():
    raise TroubleError("out of cheese")


def raise_interrupt():
    raise KeyboardInterrupt


def raise_signal():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def _sigint():
    """Lightning ignores the signal from Ctrl-C on."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


STOPS = {
    "an exception": (raise_trouble, TroubleError),
    "KeyboardInterrupt": (raise_interrupt, KeyboardInterrupt),
    "the signal of Ctrl-C": (raise_signal, KeyboardInterrupt),
}


def whole(module):
    return {name: bits(tensor) for name, tensor in module.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted inside subnetwork between two tasks")
@pytest.mark.parametrize("stop", STOPS)
def test_a_view_that_is_left_by_an_exception(stop):
    stops, expected = STOPS[stop]
    module, stopped = OwnModule(), False
    promise = Promise(subject(module), f"{stop} inside subnetwork")
    promise.fit("a", trainer=trainer())
    promise.fit("b", trainer=trainer())
    before, training = whole(module), [layer.training for layer in module.modules()]
    hidden = False
    try:
        with module.packnet.subnetwork("a"):
            hidden = not same(whole(module), before)
            stops()
    except expected:
        stopped = True
    assert hidden
    assert stopped
    assert same(whole(module), before)
    assert [layer.training for layer in module.modules()] == training
    promise.check(after="b and the exception")
    promise.fit("c", trainer=trainer())


class StopsInside(OwnModule):
    """Is stopped, once, while it asks a finished task."""

    stops = None

    def validation_step(self, batch, batch_idx):
        if self.stops is not None:
            stops, self.stops = self.stops, None
            with self.packnet.subnetwork("a"):
                stops()
        super().validation_step(batch, batch_idx)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted inside subnetwork in the validation of a fit")
@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_fit_that_is_stopped_inside_a_view(stop, phase):
    stops, expected = STOPS[stop]
    module = StopsInside()
    promise = Promise(subject(module, data=WithValidation), f"{stop} inside subnetwork, phase {phase}")
    promise.fit("a", trainer=trainer())
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    module.stops = stops
    with pytest.raises((expected, SystemExit)):
        fit_phase(module, "b", phase, 0.5 if phase == "train" else None, data=WithValidation("b"), val_check_interval=2)
    assert (module.packnet.open_task, module.packnet.phase) == ("b", phase)
    promise.check(after="b, which was stopped")
    promise.fit("b", trainer=trainer())
    promise.fit("c", trainer=trainer())


class StopsInStep(OwnModule):
    """Is stopped, once, in the third batch."""

    stops = None

    def training_step(self, batch, batch_idx):
        if self.stops is not None and batch_idx == 2:
            stops, self.stops = self.stops, None
            stops()
        return super().training_step(batch, batch_idx)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted in a training step")
@pytest.mark.parametrize("then", ["fitted again", "aborted"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_fit_that_is_stopped(stop, then):
    stops, expected = STOPS[stop]
    module = StopsInStep()
    promise = Promise(subject(module), f"{stop} in a training step, then {then}")
    promise.fit("a", trainer=trainer())
    module.stops = stops
    with pytest.raises((expected, SystemExit)):
        fit_phase(module, "b", "train", 0.5)
    promise.check(after="b, which was stopped")
    if then == "aborted":
        module.packnet.abort_task()
        promise.check(after="b, which was aborted")
    else:
        promise.fit("b", trainer=trainer())
    promise.fit("c", trainer=trainer())


class StopsAfterWriting(optim.SGD):
    """Is stopped between the change of the weights and the end of the step."""

    def __init__(self, parameters, stops):
        super().__init__(parameters, lr=0.05, weight_decay=0.1)
        self.stops = stops

    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.mul_(0.9)
        self.stops()


@pytest.mark.usefixtures("_sigint")
@pytest.mark.promise("In the middle", label="interrupted in the middle of an optimizer's step")
@pytest.mark.parametrize("stop", STOPS)
def test_a_step_that_is_stopped(stop):
    stops, expected = STOPS[stop]
    module = OwnModule()
    promise = Promise(subject(module), f"{stop} in a step")
    promise.fit("a", trainer=trainer())
    module.make_optimizer = partial(StopsAfterWriting, stops=stops)
    with pytest.raises((expected, SystemExit)):
        fit_phase(module, "b", "train", 0.5)
    module.make_optimizer = MOMENTUM
    promise.check(after="b, which was stopped")
    promise.fit("b", trainer=trainer())
    module.packnet.verify(module)
