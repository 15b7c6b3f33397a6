"""What a task does not compute with is set to zero, in place, to the bit: by torch and by a compiled loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from packnet_pl.core import loops
from packnet_pl.core.hiding import EVERY_TASK, hide_
from tests.support.tiny import same_bits


@pytest.mark.parametrize("many", [0, 1 << 62], ids=["compiled", "torch"])
@given(st.lists(st.integers(0, 255), min_size=1, max_size=30), st.integers(1, EVERY_TASK), st.booleans())
def test_what_later_tasks_own_and_what_is_free_becomes_zero_and_nothing_else(many, owners, task, is_half):
    dtype = torch.float16 if is_half else torch.float32
    weight = torch.linspace(-2, 2, len(owners)).to(dtype)
    weight[0], weight[-1] = -0.0, float("nan")
    expected = [value if 0 < owner <= task else 0.0 for value, owner in zip(weight.tolist(), owners, strict=True)]
    version = weight._version
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "MANY", many)
        hide_({"w": weight}, {"w": torch.tensor(owners, dtype=torch.uint8)}, task)
    assert same_bits(weight, torch.tensor(expected, dtype=dtype))
    assert weight._version > version


@pytest.mark.parametrize("many", [0, 1 << 62], ids=["compiled", "torch"])
def test_other_memory_orders_and_inference_tensors_are_written_too(many, monkeypatch):
    monkeypatch.setattr(loops, "MANY", many)
    with torch.inference_mode():
        weight = torch.ones(3, 4).T
        hide_({"w": weight}, {"w": torch.eye(4, 3, dtype=torch.uint8)}, 1)
    assert torch.equal(weight, torch.eye(4, 3))
