import os
import signal

import pytest
import pytorch_lightning as pl
import torch

from packnet_pl.run import StoppedError, StopRequest
from packnet_pl.run.checkpointing import SaveState
from tests.support.run_fits import fit, new_model


@pytest.fixture
def listening():
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGUSR1)}
    stop = StopRequest()
    stop.listen()
    yield stop
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_nothing_is_raised_as_long_as_nobody_asked(listening):
    listening.raise_if_asked()
    assert listening.asked() is None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_remembered(listening, signum):
    os.kill(os.getpid(), signum)
    assert listening.asked() == signum
    with pytest.raises(StoppedError, match=f"stopped by {signum.name}") as stopped:
        listening.raise_if_asked()
    assert stopped.value.signum == signum


class Killer(pl.Callback):
    """Sends the signal where Lightning's own handlers would have it already."""

    def on_train_start(self, trainer, pl_module):
        os.kill(os.getpid(), signal.SIGTERM)


def test_lightning_does_not_take_the_signals_while_it_fits(listening, tmp_path):
    path = tmp_path / "last.ckpt"
    callbacks = [Killer(), SaveState(path, every_n_steps=None, stop=listening)]
    with pytest.raises(StoppedError):
        fit(new_model(), "a", callbacks=lambda phase: callbacks)
    assert torch.load(path, weights_only=True)["global_step"] == 1
    assert signal.getsignal(signal.SIGTERM) == listening._note
