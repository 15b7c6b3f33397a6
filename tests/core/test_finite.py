import pytest
import torch

from packnet_pl.core.finite import is_finite

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [1, 7, 64, 1001])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_entry_that_is_not_finite_is_found_anywhere(dtype, size, bad):
    values = torch.randn(size).to(dtype)
    assert is_finite(values)
    for at in {0, size // 2, size - 1}:
        changed = values.clone()
        changed[at] = bad
        assert not is_finite(changed)


@pytest.mark.parametrize("dtype", TYPES[:-1])
def test_the_largest_numbers_are_finite(dtype):
    info = torch.finfo(dtype)
    assert is_finite(torch.tensor([info.max, info.min, -0.0, info.tiny], dtype=dtype))


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(0), torch.tensor(3), torch.tensor([True]), torch.tensor(1.5), torch.eye(2).to_sparse()],
    ids=["empty", "integer", "bool", "scalar", "sparse"],
)
def test_what_has_no_entries_or_only_numbers_is_finite(tensor):
    assert is_finite(tensor)


@pytest.mark.parametrize("view", [lambda t: t.T, lambda t: t[:, 1:], lambda t: t[:1].expand(4, 5)])
def test_memory_may_be_laid_out_in_any_way(view):
    values = view(torch.randn(4, 5)).detach()
    assert is_finite(values)
    values[0, 1] = torch.nan
    assert not is_finite(values)
