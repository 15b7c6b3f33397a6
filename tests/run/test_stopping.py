import os
import signal

import pytest

from packnet_pl.run import StoppedError, StopRequest


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


def test_it_can_be_told_to_listen_again(listening):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listening.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    assert listening.asked() == signal.SIGTERM
