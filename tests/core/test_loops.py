"""The common ground of compiled loops: memory in one order, pieces that threads take, nothing loaded too early."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from packnet_pl.core.loops import compiled, each, in_memory_order, pieces


def test_arrays_share_the_memory_of_their_tensors_in_one_order() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    owner = torch.arange(48, dtype=torch.uint8).reshape(4, 3, 2, 2).to(memory_format=torch.channels_last)
    found = in_memory_order(weight, owner)
    assert found is not None
    bits, owners = found
    assert bits.dtype == np.int32
    assert owners.dtype == np.uint8
    bits[owners < 24] = 0
    assert torch.equal(weight == 0, owner < 24)


@pytest.mark.parametrize(
    "tensors",
    [
        (torch.zeros(2, 3), torch.zeros(3, 2).T),
        (torch.zeros(4, 4)[:, :2],),
        (torch.zeros(2, 1).expand(2, 3),),
        (torch.zeros(3).to_sparse(),),
        (torch.zeros(3, device="meta"),),
        (torch.zeros(3, dtype=torch.complex64),),
    ],
    ids=["other order", "gaps", "one entry twice", "sparse", "no memory", "complex"],
)
def test_what_has_no_common_order_has_no_arrays(tensors: tuple[torch.Tensor, ...]) -> None:
    assert in_memory_order(*tensors) is None


@pytest.mark.parametrize("threads", [1, 2])
def test_pieces_are_all_done_and_in_order(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        values = np.arange(6_000_000)
        sums = each(lambda piece: int(values[piece].sum()), pieces(values.size))
    finally:
        torch.set_num_threads(before)
    assert len(sums) == 3
    assert sums == sorted(sums)
    assert sum(sums) == values.sum()
    assert each(str, pieces(0)) == []


def test_nobody_works_any_more_when_a_second_interrupt_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    begun, done = threading.Event(), []
    shut_down, calls = ThreadPoolExecutor.shutdown, []

    def interrupted(pool: ThreadPoolExecutor, *, cancel_futures: bool) -> None:
        calls.append(cancel_futures)
        if len(calls) == 1:
            raise KeyboardInterrupt
        shut_down(pool, cancel_futures=cancel_futures)

    def work(item: int) -> None:
        begun.set()
        time.sleep(0.2)
        done.append(item)

    def interrupt(*_: object) -> None:
        begun.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", interrupted)
    monkeypatch.setattr("concurrent.futures._base.Future.result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        each(work, range(9))
    assert calls == [True, True]
    assert 0 < len(done) <= 2
    time.sleep(0.3)
    assert len(done) <= 2


def test_a_loop_is_compiled_once() -> None:
    def double(values: np.ndarray) -> None:
        for index in range(values.size):
            values[index] *= 2

    values = np.arange(3)
    compiled(double)(values)
    assert values.tolist() == [0, 2, 4]
    assert compiled(double) is compiled(double)


def test_nothing_is_compiled_for_few_weights() -> None:
    code = """
import sys, torch
from packnet_pl import PackNet
network = torch.nn.Linear(8, 8)
packnet = PackNet(network)
for task in ("a", "b"):
    packnet.begin_task(task)
    network(torch.ones(1, 8)).sum().backward()
    packnet.mask_gradients_(); packnet.restore_()
    packnet.prune(0.5); packnet.finish_task()
    with packnet.subnetwork("a"): pass
packnet.state_dict()
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_strides_of_dimensions_of_size_one_do_not_count() -> None:
    plain = torch.randn(4, 3, 1, 1)
    last = plain.as_strided((4, 3, 1, 1), (3, 1, 3, 3))
    found = in_memory_order(plain, last)
    assert found is not None
    assert np.array_equal(*found)
