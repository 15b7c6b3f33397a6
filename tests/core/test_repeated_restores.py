"""Restoring again and again: what is done again as it was must notice what happened to the tensors meanwhile."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core.freezing import Freezer
from packnet_pl.core.pending import Pending
from tests.support.tiny import boxed, same_bits

MINE = torch.eye(4).bool()


class Case:
    """Two weights frozen but for their diagonals, a bias and a buffer, restored after each of two steps."""

    def __init__(self, dtype=torch.float32, *, tied=False):
        weights = {name: nn.Parameter(torch.randn(4, 4).to(dtype)) for name in ("w", "v")}
        if tied:
            weights["v"].data = weights["w"].data.t()
        self.box, slots = boxed(**weights, b=nn.Parameter(torch.randn(4).to(dtype)), c=torch.randn(4).to(dtype))
        self.frozen = {name: tensor.detach().clone() for name, tensor in self.box.state_dict().items()}
        owners = {name: torch.where(MINE, 2, 1).byte() for name in weights}
        self.freezer = Freezer(lambda: slots, owners, 2)
        for _ in range(2):
            self.spoil_and_check()

    def spoil_and_check(self):
        tensors = [*self.box.parameters(), *self.box.buffers()]
        for tensor in tensors:
            tensor.data.fill_(-7.0)  # no version tells
        self.freezer.restore_(tensors)
        for name, tensor in self.box.state_dict().items():
            frozen = self.frozen[name]
            expected = torch.where(MINE, -7.0, frozen) if name in {"w", "v"} else frozen
            assert same_bits(tensor, expected.to(tensor.dtype)), name


def transpose(box):
    box.w.data = box.w.data.t()


def move(box):
    for tensor in [*box.parameters(), *box.buffers()]:
        tensor.data = tensor.data.clone()


def lie_side_by_side(box):
    both = torch.cat([box.b.data, box.b.data])
    box.b.data = both[4:]
    box.c.data = both[:4]


def replace(box):
    box.w = nn.Parameter(box.w.detach().clone())
    box.c = box.c.clone()


def exchange(box):
    box.w, box.v = box.v, box.w


CHANGES = [transpose, move, lie_side_by_side, replace, exchange]


@given(st.lists(st.sampled_from(CHANGES), max_size=6))
def test_whatever_happened_to_the_tensors_since_the_last_step_all_is_restored_where_it_is_now(changes):
    case = Case()
    for change in changes:
        change(case.box)
        case.spoil_and_check()
        case.spoil_and_check()


def test_two_weights_that_are_one_memory_turned_get_its_values_once():
    case = Case(tied=True)
    move(case.box)  # no longer one memory
    case.spoil_and_check()


@pytest.mark.parametrize("name", ["w", "b", "c"])
@pytest.mark.parametrize(
    "change", [lambda data: data.view(torch.float16), lambda data: data[:2], lambda data: data.double()]
)
def test_a_tensor_that_is_another_in_the_same_memory_is_refused_by_name(name, change):
    case = Case(torch.bfloat16)
    tensor = getattr(case.box, name)
    tensor.data = change(tensor.data)
    with pytest.raises(RuntimeError, match=rf"^{name} was torch.bfloat16 .* and is torch"):
        case.freezer.restore_([*case.box.parameters(), *case.box.buffers()])


def test_a_copy_restores_its_own_tensors():
    case = Case()
    twin = copy.deepcopy(case)
    before = {name: tensor.clone() for name, tensor in case.box.state_dict().items()}
    for name in ("w", "v"):
        getattr(case.box, name).data.fill_(3.0)
    for _ in range(2):
        twin.spoil_and_check()
    assert same_bits(case.box.w, torch.full((4, 4), 3.0))
    assert same_bits(case.box.b, before["b"])


def test_a_copy_of_what_was_done_begins_anew():
    tensor, pending = torch.ones(4), Pending()
    pending.copy(tensor, torch.zeros(4))
    assert pending.remembers({"c": tensor})
    theirs, twin = copy.deepcopy((tensor, pending))
    assert pending.is_for({"c": tensor})
    assert not twin.is_for({"c": theirs})


def test_when_now_some_and_now_others_are_stepped_only_those_are_written_to():
    case = Case()
    for names in (["w", "b"], ["v"], ["v"], ["w", "b"], ["w"], ["w", "v", "b"], ["v"]):
        versions = {name: getattr(case.box, name)._version for name in ("w", "v", "b")}
        case.freezer.restore_([getattr(case.box, name) for name in names])
        written = {name for name, version in versions.items() if getattr(case.box, name)._version != version}
        assert written == set(names)


def test_a_graph_stays_valid_where_another_optimizer_steps_nothing_of_what_was_restored():
    # Beside the weight there is something that is restored otherwise: all of it is not done again as it was.
    box, slots = boxed(w=nn.Parameter(torch.randn(4, 4)), b=nn.Parameter(torch.randn(4, 4).t()))
    freezer = Freezer(lambda: slots, {"w": torch.where(MINE, 2, 1).byte()}, 2)
    freezer.restore_([box.w, box.b])
    loss = box.w.sin().sum() + box.b.sin().sum()
    freezer.restore_([nn.Parameter(torch.zeros(2))])
    loss.backward()
    assert box.w.grad is not None
