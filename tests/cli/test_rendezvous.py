"""Processes that were started beside each other: they hear the main one, and leave together. Threads stand for them."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from functools import partial

import pytest
import torch

from packnet_pl.errors import UsageError
from packnet_pl.launch import rendezvous
from packnet_pl.launch.connecting_signals import answer_while_connecting
from packnet_pl.launch.rendezvous import Rendezvous
from packnet_pl.ranks import Rank
from tests.support import warm


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def together(*parts, by_hand=False):
    """Runs one part per process, each with its rendezvous; returns what each returned or raised."""
    port, results = free_port(), [None] * len(parts)

    def run(number):
        rank = Rank("node", number, None, 0) if by_hand else Rank("srun", number, len(parts), number)
        try:
            results[number] = parts[number](Rendezvous(rank, "127.0.0.1", port))
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(parts))]
    for thread in reversed(threads):  # the main one comes last
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def lead(peers):
    peers.broadcast({"overrides": ["hydra.run.dir=/a"]}, 3)
    peers.barrier("built")
    peers.barrier("begin")
    return "leads"


def follow(peers):
    message = peers.receive()
    peers.barrier("built")
    peers.barrier("begin")
    return message["overrides"]


@pytest.mark.parametrize("by_hand", [False, True])
def test_all_hear_the_main_process_and_go_on(by_hand):
    assert together(lead, follow, follow, by_hand=by_hand) == ["leads", ["hydra.run.dir=/a"], ["hydra.run.dir=/a"]]


def test_a_refusal_ends_all():
    """With code 0: srun would stop the main process before it has ended with its own code, if another failed first."""

    def refuse(peers):
        peers.cancel()
        return "refused"

    main, *others = together(refuse, follow, follow)
    assert main == "refused"
    assert [type(error) for error in others] == [SystemExit, SystemExit]
    assert [error.code for error in others] == [0, 0]


@pytest.mark.parametrize(("by_hand", "code"), [(False, 0), (True, 2)])
def test_an_error_in_one_process_is_said_by_the_main_one_and_ends_all(by_hand, code):
    def fail(peers):
        peers.receive()
        peers.barrier("built", "sequence.tasks.a.data: there is no folder /data")
        return "has its own error"

    main, follower, failing = together(lead, follow, fail, by_hand=by_hand)
    assert isinstance(main, UsageError)
    assert str(main) == "process 2 of 3: sequence.tasks.a.data: there is no folder /data"
    assert isinstance(follower, SystemExit)
    assert follower.code == code
    assert failing == "has its own error"


def test_nobody_waits_for_a_main_process_that_is_not_there():
    with pytest.raises(UsageError, match=r"process 1 finds no process 0 at 127\.0\.0\.1:\d+"):
        Rendezvous(Rank("srun", 1, 2, 1), "127.0.0.1", free_port(), to_come=timedelta(seconds=1))


def test_the_main_process_says_for_whom_it_waits_and_does_so_no_longer_than_the_others(monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "_TO_SAY", 0.1)
    port = free_port()
    with pytest.raises(UsageError, match=r"process 0 waited 1 seconds for process 1 of 2 .*SLURM_NTASKS=2.*unset that"):
        Rendezvous(Rank("srun", 0, 2, 0), "127.0.0.1", port, to_come=timedelta(seconds=1))
    said = f"process 0 waits for process 1 of 2 at 127.0.0.1:{port}, started by srun (SLURM_NTASKS=2)\n"
    assert capsys.readouterr().err.endswith(said)


def wait_as(number):
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    step |= {"SLURM_PROCID": number, "SLURM_LOCALID": number, "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost"}
    os.environ.update(step, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    rendezvous._TO_SAY = 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "signum"), [("0", signal.SIGTERM), ("1", signal.SIGTERM), ("0", signal.SIGINT)])
def test_a_process_that_waits_for_others_answers_signals(number, signum, tmp_path):
    process = warm.Process("packnet-train", "debug=tiny", cwd=tmp_path, before=partial(wait_as, number))
    while f"process {number} waits for process {1 - int(number)} of 2 at 127.0.0.1:" not in process.stderr:
        assert process.running, process.stderr
        time.sleep(0.01)
    process.signal(signum)
    begun = time.monotonic()
    done = process.wait(30)
    assert time.monotonic() - begun < 20
    assert done.returncode == 128 + signum
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_signal_to_one_process_ends_all_that_agree():
    class StoppedError(Exception):
        pass

    def asked():
        raise StoppedError("stopped by SIGTERM")

    def stop(peers):
        peers.receive()
        peers.barrier("built")
        peers.barrier("begin", wait=asked)

    def late(peers):
        peers.receive()
        peers.barrier("built")
        time.sleep(1)
        peers.barrier("begin")

    main, stopped, other = together(lead, stop, late)
    assert (type(stopped), str(main)) == (StoppedError, "process 1 of 3: stopped by SIGTERM")
    assert isinstance(other, SystemExit)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_while_torch_waits_for_processes(signum, tmp_path):
    process = warm.Process("packnet-train", cwd=tmp_path, before=wait_in_torch)
    while "waiting until all 2 processes" not in process.stderr:
        assert process.running, process.stderr
        time.sleep(0.01)
    process.signal(signum)
    done = process.wait(30)
    assert done.returncode == 128 + signum
    assert done.stderr.endswith(f"stopped by {signum.name} before training began\n")


def test_a_signal_in_the_middle_of_a_print_that_nobody_reads_ends_the_process_all_the_same():
    code = (
        "import signal, sys; from packnet_pl.errors import leave_on; signal.signal(signal.SIGTERM, leave_on)\n"
        "while True: print('x' * 4095, file=sys.stderr); print(end='.', flush=True)"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert os.read(process.stdout.fileno(), 1)  # it has begun
        while select.select([process.stdout], [], [], 1)[0]:
            assert os.read(process.stdout.fileno(), 4096)  # until the pipe is full, and a print waits
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
        assert b"Traceback" not in process.stderr.read()


def wait_in_torch():
    os.environ["WORLD_SIZE"] = "2"
    signal.signal(signal.SIGTERM, lambda signum, frame: None)
    answer_while_connecting(1, grace=0.1, to_say=0.1)
    torch.distributed.TCPStore("127.0.0.1", 0, 2, True, timeout=timedelta(seconds=60))
