"""Fingerprints: equal for equal bits, others for any others; sums and hashes have the same promises."""

import pytest
import torch

from packnet_pl.core.content_hash import content_hash, hash_of_owned, is_hash
from packnet_pl.core.fingerprints import fingerprints, task_fingerprints, type_of


def summed(tensor):
    return fingerprints({"it": tensor})["it"]


@pytest.fixture(params=[summed, content_hash])
def fingerprint(request):
    return request.param


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64],
)
def test_equal_values_have_equal_fingerprints_in_any_memory_layout(fingerprint, dtype):
    values = torch.arange(24).reshape(2, 3, 2, 2).to(dtype)
    laid_out = values.contiguous(memory_format=torch.channels_last)
    assert laid_out.stride() != values.stride()
    assert fingerprint(laid_out) == fingerprint(values)
    kind, _, digest = fingerprint(values).partition(":")
    assert f"torch.{kind}" == str(dtype)
    assert len(digest) == (16 if fingerprint is summed else 32)
    assert is_hash(fingerprint(values)) == (fingerprint is content_hash)


@pytest.mark.parametrize(
    ("left", "right"), [([0.0], [-0.0]), ([1.0, 2.0], [2.0, 1.0]), ([1.0], [1.0, 1.0]), ([], [0.0])]
)
def test_any_difference_in_bits_shows(fingerprint, left, right):
    assert fingerprint(torch.tensor(left)) != fingerprint(torch.tensor(right))


def test_another_type_shows_even_if_the_bits_are_the_same(fingerprint):
    zeros = torch.zeros(4)
    marks = {fingerprint(zeros.view(dtype)) for dtype in (torch.float32, torch.int32, torch.uint32)}
    assert len(marks) == 3
    assert len({mark.partition(":")[2] for mark in marks}) == 1
    assert {type_of(mark) for mark in marks} == {"float32", "int32", "uint32"}


def test_complex_numbers_are_marked_by_both_parts(fingerprint):
    given = [torch.tensor([real + imaginary * 1j]) for real in (0.0, 1.0) for imaginary in (0.0, 1.0)]
    assert len({fingerprint(number) for number in given}) == 4


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_tensor_is_marked_by_what_it_holds(fingerprint, layout):
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    given = [dense, 2 * dense, dense.T]
    assert len({fingerprint(tensor.to_sparse(layout=layout)) for tensor in given}) == 3
    assert fingerprint(dense.to_sparse(layout=layout)) == fingerprint(dense.clone().to_sparse(layout=layout))


def test_a_sparse_tensor_has_one_mark_before_and_after_its_entries_are_summed(fingerprint):
    twice = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 0]], [1.0, 1.0, 3.0], (2, 2))
    assert fingerprint(twice) == fingerprint(twice.coalesce())


def test_the_mark_of_a_parameter_is_that_of_its_values(fingerprint):
    values = torch.randn(3, requires_grad=True)
    assert fingerprint(values) == fingerprint(values.detach())


def test_scalars_and_empty_tensors_have_fingerprints(fingerprint):
    assert fingerprint(torch.tensor(3)) != fingerprint(torch.tensor(4))
    assert fingerprint(torch.zeros(0)) == fingerprint(torch.zeros(0, 2))


def test_a_task_is_marked_by_its_own_weights_and_the_fixed_tensors():
    weight, owner = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 1, 2], dtype=torch.uint8)

    def marks(first, second, third):
        values = torch.tensor([first, second, third])
        return task_fingerprints({"w": values}, {"w": owner}, 1, {"b": weight})

    assert list(marks(1.0, 2.0, 3.0)) == ["w", "b"]
    assert marks(9.0, 2.0, 9.0) == marks(1.0, 2.0, 3.0)
    assert marks(1.0, 9.0, 3.0) != marks(1.0, 2.0, 3.0)
    assert marks(1.0, 2.0, 3.0)["b"] == summed(weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_weights_of_a_task_are_hashed_in_row_major_order(dtype, layout):
    owner = torch.randint(0, 4, (700, 60, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    owner = owner.contiguous(memory_format=layout)
    weight = torch.randn(owner.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for task in (1, 3, 9):
        assert hash_of_owned(weight, owner, task) == content_hash(weight[owner == task])


def test_equal_weights_of_a_task_at_other_places_are_another_fingerprint():
    weight = torch.ones(4)
    owners = [torch.tensor(owner, dtype=torch.uint8) for owner in ([1, 1, 0, 0], [1, 0, 1, 0])]
    found = [task_fingerprints({"w": weight}, {"w": owner}, 1, {})["w"] for owner in owners]
    assert found[0] != found[1]
