"""A fit that fails or is interrupted leaves its task open and finished tasks alone."""

import signal

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

from packnet_pl import PackNetCallback
from tests.support.fits import (
    MOMENTUM,
    OwnModule,
    fit_own,
    fit_phase,
    loader,
    quiet,
    same,
    step_hooks,
    tensors,
    used_by,
    wanted,
)


class TroubleError(Exception):
    pass


def raise_trouble(*_):
    raise TroubleError("out of cheese")


def press_ctrl_c(*_):
    raise KeyboardInterrupt


@pytest.fixture
def _sigint():
    """Lightning ignores the signal from Ctrl-C on."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("_sigint")
@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize(
    ("action", "expected"), [(raise_trouble, TroubleError), (press_ctrl_c, SystemExit)], ids=["exception", "Ctrl-C"]
)
def test_an_interrupted_fit_neither_prunes_nor_finishes_and_can_be_done_again(phase, action, expected):
    class Stopped(OwnModule):
        interrupt = False

        def training_step(self, batch, batch_idx):
            if self.interrupt and batch_idx == 2:
                self.interrupt = False
                action()
            return super().training_step(batch, batch_idx)

    module = Stopped()
    fit_own(module, "a")
    finished, head, needed = used_by(module.packnet, 1), tensors(module.heads["a"]), wanted(module)
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    free = module.packnet.summary().total.free
    module.interrupt, module.task = True, "b"
    ratio = 0.5 if phase == "train" else None
    trainer = quiet(PackNetCallback(task="b", phase=phase, prune_ratio=ratio, private="heads.b"))
    with pytest.raises(expected):
        trainer.fit(module, loader())
    assert (module.packnet.open_task, module.packnet.phase, module.packnet.tasks) == ("b", phase, ["a"])
    assert module.packnet.summary().total.free == (0 if phase == "train" else free)
    assert [step_hooks(optimizer) for optimizer in trainer.optimizers] == [0]
    assert wanted(module) == needed
    fit_own(module, "b")
    assert module.packnet.tasks == ["a", "b"]
    assert same(used_by(module.packnet, 1), finished)
    assert same(tensors(module.heads["a"]), head)


class Interrupted(Optimizer):
    """Decays weights, and is interrupted between the change of the weights and the end of the step."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        loss = closure()
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.mul_(0.9)
        press_ctrl_c()
        return loss


@pytest.mark.usefixtures("_sigint")
def test_an_interrupt_in_the_middle_of_a_step_leaves_finished_tasks_alone():
    module = OwnModule()
    fit_own(module, "a")
    finished, head = used_by(module.packnet, 1), tensors(module.heads["a"])
    module.make_optimizer = Interrupted
    with pytest.raises(SystemExit):
        fit_phase(module, "b", "train", 0.5)
    module.packnet.verify()
    module.make_optimizer = MOMENTUM
    fit_own(module, "b")
    assert same(used_by(module.packnet, 1), finished)
    assert same(tensors(module.heads["a"]), head)
    module.packnet.verify()


def test_an_exception_in_settled_leaves_the_task_open_and_no_trace():
    module = OwnModule()
    fit_own(module, "a")
    needed = wanted(module)
    with pytest.raises(TroubleError, match="out of cheese"):
        fit_phase(module, "b", "train", 0.5, own={"settled": raise_trouble})
    assert (module.packnet.open_task, module.packnet.phase) == ("b", "train")
    assert wanted(module) == needed
    fit_own(module, "b")
    assert module.packnet.tasks == ["a", "b"]


class Late(pl.Callback):
    def on_fit_end(self, trainer, pl_module):
        raise_trouble()


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_an_exception_after_the_phase_ended_is_seen_as_it_is_and_the_phase_stays_ended(phase):
    module = OwnModule()
    fit_own(module, "a")
    needed = wanted(module)
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    with pytest.raises(TroubleError, match="out of cheese"):
        fit_phase(module, "b", phase, 0.5 if phase == "train" else None, callbacks=[Late()])
    assert module.packnet.phase == ("retrain" if phase == "train" else None)
    assert module.packnet.tasks == (["a"] if phase == "train" else ["a", "b"])
    assert wanted(module) == needed
    module.packnet.verify()
