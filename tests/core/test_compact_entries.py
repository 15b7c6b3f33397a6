"""Large weights are frozen by compiled loops: bit for bit what plain torch does, whatever happens to them."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core import loops
from packnet_pl.core.freezing import Freezer
from tests.support.tiny import bits, boxed, same_bits

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
NUMBER = 3


@pytest.fixture(params=["plain", "compiled"])
def few(request, monkeypatch):
    """From how many weights on loops are compiled."""
    monkeypatch.setattr(loops, "MANY", 0 if request.param == "compiled" else 1 << 62)


def wild(shape, dtype=torch.float32):
    """Any bits, NaN and infinities of all kinds among them."""
    width = torch.empty((), dtype=dtype).element_size()
    return torch.randint(0, 256, (*shape, width), dtype=torch.uint8).view(dtype).reshape(shape)


def frozen(weight, owner):
    _, slots = boxed(w=weight)
    return Freezer(lambda: slots, {"w": owner}, NUMBER)


class Case:
    """A weight with owners, and what must come out."""

    def __init__(
        self, shape=(5, 3, 2, 2), dtype=torch.float32, owners=(0, 1, 2, NUMBER, 4), layout=torch.contiguous_format
    ):
        self.weight = nn.Parameter(wild(shape, dtype).contiguous(memory_format=layout))
        self.owner = torch.tensor(owners, dtype=torch.uint8)[torch.randint(len(owners), shape)]
        self.owner = self.owner.contiguous(memory_format=layout)
        self.before = self.weight.detach().clone()
        self.freezer = frozen(self.weight, self.owner)
        self.box = self.freezer._slots["w"].layer

    def check_mask(self, grad):
        before, version = grad.clone(), grad._version
        self.box.w.grad = grad
        self.freezer.mask_gradients_()
        mine = self.owner == NUMBER
        assert same_bits(grad[mine], before[mine])
        assert not bits(grad[~mine]).any()
        assert grad._version > version

    def check_restore(self, how="restore_"):
        moved, version = wild(self.box.w.shape, self.box.w.dtype), self.box.w._version
        with torch.no_grad():
            self.box.w.copy_(moved)
        getattr(self.freezer, how)()
        now, mine, free = self.box.w.detach(), self.owner == NUMBER, self.owner == 0
        assert same_bits(now[mine], moved[mine])
        assert not bits(now[free]).any()
        others = ~mine & ~free
        assert same_bits(now[others], self.before[others])
        assert self.box.w._version > version + 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.usefixtures("few")
def test_any_bits_of_any_type(dtype, layout):
    case = Case(dtype=dtype, layout=layout)
    case.check_mask(wild(case.weight.shape, dtype).contiguous(memory_format=layout))
    case.check_mask(wild(case.weight.shape, dtype).contiguous())
    case.check_restore()
    case.check_restore("restore_all_")


@pytest.mark.parametrize("owners", [(0, NUMBER), (1, NUMBER), (0,), (1,), (0, 1), (255, NUMBER)], ids=str)
@pytest.mark.usefixtures("few")
def test_any_owners(owners):
    case = Case(owners=owners)
    case.check_mask(wild(case.weight.shape))
    case.check_restore()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32), st.sampled_from([0, 1, 2, NUMBER, 4, 255]))))
def test_compiled_loops_do_what_plain_torch_does(entries):
    found = []
    for many in (0, 1 << 62):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loops, "MANY", many)
            old, new, owner = (torch.tensor([entry[at] for entry in entries]) for at in range(3))
            weight = nn.Parameter(old.float().clone())
            freezer = frozen(weight, owner.byte())
            weight.grad = new.float().clone()
            freezer.mask_gradients_()
            with torch.no_grad():
                weight.copy_(new)
            freezer.restore_()
            found.append((weight, weight.grad))
    (compiled, compiled_grad), (plain, plain_grad) = found
    assert same_bits(compiled, plain)
    assert same_bits(compiled_grad, plain_grad)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_weight_of_several_pieces(monkeypatch, threads):
    monkeypatch.setattr(loops, "MANY", 0)
    monkeypatch.setattr("packnet_pl.core.loops._PIECE", 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        case = Case(shape=(70, 90))
        case.check_mask(wild(case.weight.shape))
        case.check_restore()
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("few")
def test_a_weight_that_is_laid_out_anew_meanwhile():
    case = Case()
    case.box.w.data = case.box.w.data.contiguous(memory_format=torch.channels_last)
    case.check_restore()
    case.check_mask(wild(case.weight.shape))
    case.box.w.data = case.box.w.data.contiguous()
    case.check_restore()


@pytest.mark.usefixtures("few")
def test_a_weight_with_gaps_in_its_memory():
    case = Case()
    case.box.w.data = torch.stack([case.box.w.data, case.box.w.data], dim=-1)[..., 0]
    case.check_restore()
    case.check_mask(torch.stack([wild(case.weight.shape)] * 2, dim=-1)[..., 0])


@pytest.mark.usefixtures("few")
def test_sparse_gradients():
    case = Case(shape=(6, 4))
    values, mine = wild((2, 4)), case.owner == NUMBER
    case.weight.grad = torch.sparse_coo_tensor([[1, 4]], values, (6, 4))
    case.freezer.mask_gradients_()
    found = case.weight.grad.coalesce().values()
    assert same_bits(found[mine[[1, 4]]], values[mine[[1, 4]]])
    assert not bits(found[~mine[[1, 4]]]).any()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_a_copy_freezes_the_copied_weight(monkeypatch, copied):
    monkeypatch.setattr(loops, "MANY", 0)
    case = Case()
    case.freezer._find = dict  # a lambda cannot be pickled
    twin = copied(case)
    twin.check_restore("restore_")
    assert same_bits(case.weight, case.before)


def test_memory_beside_the_owners_is_that_of_values_of_other_tasks(monkeypatch):
    monkeypatch.setattr(loops, "MANY", 0)
    weight = torch.randn(1000, 1000)
    for owners, values in ((0, 0), (NUMBER, 0), (1, 500_000)):
        owner = torch.full((1000, 1000), NUMBER, dtype=torch.uint8)
        owner[:500] = owners
        freezer = frozen(nn.Parameter(weight), owner)
        held = len(pickle.dumps(freezer._entries)) - (owner.numel() if owners != NUMBER else 0)
        assert 4 * values <= held < 4 * values + 20_000


def test_pruning_takes_the_values_that_are_kept_already(monkeypatch):
    monkeypatch.setattr(loops, "MANY", 0)
    weight, owner = nn.Parameter(wild((40, 50))), torch.randint(1, NUMBER + 1, (40, 50), dtype=torch.uint8)
    _, slots = boxed(w=weight)

    def find():
        return slots

    before = Freezer(find, {"w": owner}, NUMBER)
    pruned = owner.masked_fill((owner == NUMBER) & (torch.rand(40, 50) < 0.5), 0)
    expected = bits(weight.detach().masked_fill(pruned == 0, 0))
    with torch.no_grad():
        weight.copy_(wild((40, 50)))  # the values can only come from the freezer before
        weight[owner == NUMBER] = expected.view(torch.float32)[owner == NUMBER]
    after = Freezer(find, {"w": pruned}, NUMBER, known=before)
    after.restore_()
    assert torch.equal(bits(weight), expected)
