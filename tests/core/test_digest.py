import pytest
import torch

from packnet_pl.core.digest import fingerprint, task_fingerprints


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64, torch.bool]
)
def test_equal_values_have_equal_fingerprints_in_any_memory_layout(dtype):
    values = torch.arange(24).reshape(2, 3, 2, 2).to(dtype)
    laid_out = values.contiguous(memory_format=torch.channels_last)
    assert laid_out.stride() != values.stride()
    assert fingerprint(laid_out) == fingerprint(values)
    assert len(fingerprint(values)) == 32


@pytest.mark.parametrize(
    ("left", "right"), [([0.0], [-0.0]), ([1.0, 2.0], [2.0, 1.0]), ([1.0], [1.0, 1.0]), ([], [0.0])]
)
def test_any_difference_in_bits_shows(left, right):
    assert fingerprint(torch.tensor(left)) != fingerprint(torch.tensor(right))


def test_scalars_and_empty_tensors_have_fingerprints():
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
    assert marks(1.0, 2.0, 3.0)["b"] == fingerprint(weight)
