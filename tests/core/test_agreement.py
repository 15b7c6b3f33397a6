import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from packnet_pl.distributed import broadcast_, is_distributed
from tests.support.tiny import bits, same_bits


def tensors_of(rank):
    """What each process has at first: the same types, shapes and memory layouts, other values."""
    torch.manual_seed(rank)
    wild = torch.tensor([float("nan"), -0.0, float("inf"), 1e-45, rank])
    spread = torch.randn(3, 4, 2)
    return {
        "float32": wild,
        "float64": torch.randn(3, dtype=torch.float64),
        "bfloat16": torch.randn(5).bfloat16(),
        "float16": torch.randn(5).half(),
        "bool": torch.rand(3, 5) < 0.5,
        "uint8": torch.randint(0, 256, (9,), dtype=torch.uint8),
        "int64 scalar": torch.tensor(2**53 + 1 + rank),
        "complex64": torch.randn(3, dtype=torch.complex64),
        "channels_last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "transposed": torch.randn(3, 4).T,
        "every other": spread[..., 0],
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.randn(2, 2)),
    }


def talk(rank, folder):
    """One of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    mine = tensors_of(rank)
    strides = {name: tensor.stride() for name, tensor in mine.items()}
    broadcast_(iter(mine.values()))
    kept = {name for name, tensor in mine.items() if tensor.stride() == strides[name]}
    torch.save((is_distributed(), mine["parameter"].requires_grad, kept, mine), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_bits_of_the_first_one(tmp_path):
    expected, others = tensors_of(0), tensors_of(1)
    assert [name for name in expected if same_bits(expected[name], others[name])] == ["empty"]
    multiprocessing.spawn(talk, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        together, needs_gradient, kept, found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert together
        assert needs_gradient
        assert kept == set(expected)
        for name, tensor in expected.items():
            assert same_bits(found[name], tensor), (rank, name)


def assert_nothing_happens():
    given = tensors_of(1)
    before = {name: (bits(tensor), tensor._version) for name, tensor in given.items()}
    assert not is_distributed()
    broadcast_(given.values())
    for name, tensor in given.items():
        assert torch.equal(bits(tensor), before[name][0])
        assert tensor._version == before[name][1]


def test_a_process_by_itself_keeps_what_it_has():
    assert_nothing_happens()


def test_a_group_of_one_process_is_a_process_by_itself(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        assert_nothing_happens()
    finally:
        dist.destroy_process_group()
