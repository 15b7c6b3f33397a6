import pytest
import torch
from torch import nn

from packnet_pl.core.bits import as_integers, identity, parts, same_bits

SPARSE = {
    "coo": lambda dense: dense.to_sparse(),
    "csr": lambda dense: dense.to_sparse_csr(),
    "csc": lambda dense: dense.to_sparse_csc(),
    "bsr": lambda dense: dense.to_sparse_bsr((1, 1)),
    "bsc": lambda dense: dense.to_sparse_bsc((1, 1)),
}
DENSE = torch.tensor([[0.0, 2.0], [3.0, 0.0]])

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.bool, torch.int8),
        (torch.float8_e4m3fn, torch.int8),
        (torch.bfloat16, torch.int16),
        (torch.float16, torch.int16),
        (torch.float32, torch.int32),
        (torch.int64, torch.int64),
        (torch.complex64, torch.int32),
        (torch.complex128, torch.int64),
    ],
)
def test_any_number_is_an_integer_of_its_width_in_the_same_memory(dtype, expected):
    tensor = torch.tensor([1.0, 0.0, 1.0]).to(dtype)
    integers = as_integers(tensor)
    assert integers.dtype == expected
    integers.zero_()
    assert not tensor.to(torch.complex64).any()


def test_integers_have_the_memory_layout_of_the_numbers():
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert as_integers(tensor).stride() == tensor.stride()
    assert as_integers(nn.Parameter(tensor)).requires_grad is False


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([0.0], [0.0], True),
        ([0.0], [-0.0], False),
        ([torch.nan], [torch.nan], True),
        ([torch.nan], [-torch.nan], False),
        ([1.0, 2.0], [2.0, 1.0], False),
        ([1.0], [1.0, 1.0], False),
        ([], [], True),
        ([1 + 0j], [1 - 0j], True),
        ([1j], [-1j], False),
    ],
)
def test_equal_means_to_the_last_bit(left, right, expected):
    assert same_bits(torch.tensor(left), torch.tensor(right)) is expected


@pytest.mark.parametrize(
    "other",
    [DENSE.double(), DENSE.int(), DENSE.view(torch.int32), DENSE[0], DENSE.reshape(4), DENSE.to_sparse()],
    ids=["double", "int", "the same bits", "a part", "another shape", "sparse"],
)
def test_tensors_of_another_type_shape_or_layout_are_not_the_same(other):
    assert not same_bits(DENSE, other)
    assert not same_bits(other, DENSE)


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_tensors_are_compared_by_what_they_hold(kind):
    sparse = SPARSE[kind]
    assert same_bits(sparse(DENSE), sparse(DENSE.clone()))
    assert not same_bits(sparse(DENSE), sparse(DENSE + DENSE))
    assert not same_bits(sparse(DENSE), sparse(DENSE.T))
    assert not same_bits(sparse(DENSE), sparse(DENSE * torch.eye(2).flip(0) * torch.tensor([[0.0, 1.0], [0.0, 0.0]])))
    assert all(part.layout == torch.strided for part in parts(sparse(DENSE)))


def test_a_sparse_tensor_is_the_same_before_and_after_its_entries_are_summed():
    twice = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 0]], [1.0, 1.0, 3.0], (2, 2))
    assert same_bits(twice, DENSE.to_sparse())


def test_the_memory_layout_does_not_count():
    tensor = torch.randn(2, 3, 4, 5)
    assert same_bits(tensor, tensor.to(memory_format=torch.channels_last))


def test_the_same_memory_seen_in_the_same_way_is_one_tensor():
    weight = nn.Parameter(torch.randn(2, 2))
    assert identity(weight) == identity(weight.detach()) == identity(nn.Parameter(weight.data))
    others = [weight.detach().clone(), weight.detach().T, weight.detach()[0], weight.detach().view(torch.int32)]
    assert len({identity(tensor) for tensor in [weight, *others]}) == 5


@pytest.mark.parametrize("make", [lambda: torch.zeros(0), lambda: torch.zeros(2, device="meta"), DENSE.to_sparse])
def test_tensors_without_memory_of_their_own_are_known_by_themselves(make):
    first, second = make(), make()
    assert identity(first) == identity(first)
    assert identity(first) != identity(second)
