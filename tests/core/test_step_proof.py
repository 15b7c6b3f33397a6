"""A large weight is not restored after a step that is proved to have moved nothing; whatever is not proved, is."""

import copy
import gc
import inspect
import pickle
import threading
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim
from torch.optim.optimizer import _global_optimizer_pre_hooks

import packnet_pl.core.freezing as freezing_module
from packnet_pl.core import loops
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.unmoving_optimizers import writes_per_step
from tests.support.tiny import bits, boxed

SHAPE = (8, 40)
VALUES = torch.tensor([1.5, -0.0, 0.0, -1e-30, 3e38, -2.0, 1e-3, float("inf")])

STEADY = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "SGD nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": optim.Adam,
    "Adam amsgrad": lambda p: optim.Adam(p, amsgrad=True),
    "AdamW without decay": lambda p: optim.AdamW(p, weight_decay=0),
    "RAdam": optim.RAdam,
    "NAdam": optim.NAdam,
    "RMSprop": optim.RMSprop,
    "RMSprop centered momentum": lambda p: optim.RMSprop(p, centered=True, momentum=0.9),
    "Adagrad": optim.Adagrad,
    "Adadelta": optim.Adadelta,
}
MOVING = {
    "SGD decay": lambda p: optim.SGD(p, lr=0.1, weight_decay=1e-3),
    "SGD maximize": lambda p: optim.SGD(p, lr=0.1, maximize=True),
    "AdamW": optim.AdamW,
    "Adam decay": lambda p: optim.Adam(p, weight_decay=1e-3),
    "Adam eps 0": lambda p: optim.Adam(p, eps=0),
    "ASGD": optim.ASGD,
}
UNPROVED = {
    "Adamax": optim.Adamax,
    "Rprop": optim.Rprop,
    "Adafactor": optim.Adafactor,
    "Adagrad with a sum": lambda p: optim.Adagrad(p, initial_accumulator_value=0.1),
    "SGD whose rate is a tensor": lambda p: optim.SGD(p, lr=torch.tensor(0.1)),
    "a subclass": type("Mine", (optim.SGD,), {}),
    "Muon": getattr(optim, "Muon", optim.Adamax),
}


@pytest.fixture(autouse=True)
def _every_weight_is_large(monkeypatch):
    monkeypatch.setattr(loops, "MANY", 0)
    monkeypatch.setattr(freezing_module, "LARGE", 0)


class Case:
    """A weight of which about half is frozen."""

    def __init__(self, dtype=torch.float32):
        self.box, slots = boxed(w=nn.Parameter(VALUES.to(dtype)[torch.randint(len(VALUES), SHAPE)]))
        self.owner = torch.randint(0, 3, SHAPE, dtype=torch.uint8)
        with torch.no_grad():
            self.box.w[self.owner == 0] = 0
            self.box.w[self.owner == 2] = torch.randn(int((self.owner == 2).sum())).to(dtype)
        self.freezer = Freezer(lambda: slots, {"w": self.owner}, 2)
        self.frozen = self.owner != 2
        self.before = bits(self.box.w)[self.frozen]

    @property
    def is_as_frozen(self):
        return torch.equal(bits(self.box.w)[self.frozen], self.before)

    def backward(self):
        self.box.w.grad = torch.randn(SHAPE).to(self.box.w.dtype)
        self.freezer.mask_gradients_()

    def restored(self):
        """Restores, and returns whether the weight was written to."""
        version = self.box.w._version
        self.freezer.restore_()
        assert self.is_as_frozen
        return self.box.w._version != version

    def step(self, optimizer):
        self.backward()
        optimizer.step()
        return self.restored()


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("how", ["default", "foreach", "fused"])
def test_steps_that_move_nothing_are_not_followed_by_writing(name, how):
    case = Case()
    optimizer = STEADY[name]([case.box.w])
    if how != "default":
        if how not in inspect.signature(type(optimizer)).parameters:
            pytest.skip(f"{type(optimizer).__name__} has no {how}")
        optimizer.param_groups[0][how] = True
    # Fused kernels raise no version of what they write to; and this one writes to the gradient.
    is_unproved = how == "fused" or (how, name) == ("foreach", "SGD nesterov")
    assert [case.step(optimizer) for _ in range(4)] == [is_unproved] * 4
    mine = case.box.w.detach()[~case.frozen]
    assert mine.isfinite().all()


@pytest.mark.parametrize("name", MOVING)
def test_steps_that_move_something_are_undone(name):
    case = Case()
    optimizer, has_moved = MOVING[name]([case.box.w]), False
    for _ in range(3):
        case.backward()
        optimizer.step()
        has_moved = has_moved or not case.is_as_frozen
        assert case.restored()
    assert has_moved, "it belongs to those that are unproved"


@pytest.mark.parametrize("name", UNPROVED)
def test_what_is_unproved_is_restored(name):
    case = Case()
    optimizer = UNPROVED[name]([case.box.w])
    assert all(case.step(optimizer) for _ in range(3))


def test_every_optimizer_of_torch_was_judged():
    judged = {type(make([nn.Parameter(torch.zeros(2, 2))])) for make in (STEADY | MOVING | UNPROVED).values()}
    known = {kind for kind in vars(optim).values() if isinstance(kind, type) and issubclass(kind, optim.Optimizer)}
    assert known - judged == {optim.Optimizer, optim.LBFGS, optim.SparseAdam}  # these need a closure; sparse gradients
    for kind in (optim.LBFGS, optim.SparseAdam):
        optimizer = kind([nn.Parameter(torch.zeros(2))])
        assert writes_per_step(optimizer, optimizer.param_groups[0], torch.float32) is None


SETTINGS = {
    "lr": st.sampled_from([0.0, 1e-3, 0.1, 100.0]),
    "momentum": st.sampled_from([0, 0.0, 0.5, 0.9, 1.0]),
    "dampening": st.sampled_from([0, 0.5, 1.0]),
    "nesterov": st.booleans(),
    "weight_decay": st.sampled_from([0, 0.0, 0.0, 1e-2]),
    "maximize": st.booleans(),
    "betas": st.sampled_from([(0.9, 0.999), (0.0, 0.0), (0.5, 0.5), (0.99, 0.9)]),
    "eps": st.sampled_from([1e-8, 1e-3, 0.0, 1e-45]),
    "amsgrad": st.booleans(),
    "centered": st.booleans(),
    "alpha": st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    "rho": st.sampled_from([0.0, 0.9, 1.0]),
    "initial_accumulator_value": st.sampled_from([0, 0.0, 0.1]),
    "lr_decay": st.sampled_from([0, 0.1]),
    "momentum_decay": st.sampled_from([4e-3, 0.5]),
    "decoupled_weight_decay": st.booleans(),
    "foreach": st.sampled_from([None, True, False]),
    "differentiable": st.just(False),
}


@settings(deadline=None, max_examples=150)
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_whatever_the_settings_nothing_that_is_left_alone_has_moved(data, dtype):
    kind = data.draw(
        st.sampled_from(
            [optim.SGD, optim.Adam, optim.AdamW, optim.RAdam, optim.NAdam, optim.RMSprop, optim.Adagrad, optim.Adadelta]
        )
    )
    names = inspect.signature(kind).parameters
    given_ = {name: data.draw(values, label=name) for name, values in SETTINGS.items() if name in names}
    case = Case(dtype)
    try:
        optimizer = kind([case.box.w], **given_)
    except ValueError:
        return
    for _ in range(3):
        try:
            case.step(optimizer)  # compares all frozen bits, whether they were restored or left alone
        except ZeroDivisionError:
            return


# What takes a proof away.


def momentum(case):
    return optim.SGD([case.box.w], lr=0.1, momentum=0.9)


def test_momentum_of_unmasked_steps():
    case = Case()
    optimizer = momentum(case)
    case.box.w.grad = torch.randn(SHAPE)
    optimizer.step()
    case.freezer.restore_()
    assert all(case.step(optimizer) for _ in range(3))


def test_one_unmasked_step_among_others():
    case = Case()
    optimizer = momentum(case)
    assert [case.step(optimizer) for _ in range(3)] == [False] * 3
    case.box.w.grad = torch.randn(SHAPE)
    optimizer.step()
    assert case.restored()
    assert case.step(optimizer)


def test_a_state_that_was_loaded():
    case, other = Case(), Case()
    optimizer, filled = momentum(case), momentum(other)
    assert [case.step(optimizer) for _ in range(3)] == [False] * 3
    other.box.w.grad = torch.ones(SHAPE)
    filled.step()
    optimizer.load_state_dict(filled.state_dict())
    assert case.step(optimizer)


def test_a_state_that_was_written_to():
    case = Case()
    optimizer = momentum(case)
    assert [case.step(optimizer) for _ in range(3)] == [False] * 3
    optimizer.state[case.box.w]["momentum_buffer"].add_(1)
    assert case.step(optimizer)


def test_a_state_of_another_shape():
    case = Case()
    optimizer = momentum(case)
    optimizer.state[case.box.w]["rows"] = torch.zeros(SHAPE[0], 1)
    assert all(case.step(optimizer) for _ in range(3))


@torch.no_grad()
def add(tensor):
    tensor.add_(1)


BETWEEN = {
    "the gradient is written to": lambda case: add(case.box.w.grad),
    "the gradient is clipped": lambda case: nn.utils.clip_grad_norm_([case.box.w], 1e-3),
    "another gradient": lambda case: setattr(case.box.w, "grad", torch.randn(SHAPE)),
    "more is accumulated": lambda case: case.box.w.sum().backward(),
    "the weight is written to": lambda case: add(case.box.w),
    "the weight has other memory": lambda case: setattr(case.box.w, "data", torch.zeros(SHAPE)),
    "weight decay by hand": lambda case: case.box.w.grad.data.add_(case.box.w.data, alpha=0.1),
    "all written past autograd": lambda case: case.box.w.data.mul_(0.9),
}


@pytest.mark.parametrize("what", BETWEEN)
@pytest.mark.filterwarnings("ignore")
def test_what_happens_between_mask_and_step(what):
    case = Case()
    optimizer = momentum(case)
    assert [case.step(optimizer) for _ in range(3)] == [False] * 3
    case.backward()
    BETWEEN[what](case)
    optimizer.step()
    assert case.restored()


@pytest.mark.parametrize("how", ["foreach", "fused"])
@pytest.mark.parametrize("name", ["SGD", "SGD momentum", "Adam", "AdamW without decay", "Adagrad"])
def test_nothing_is_forgotten_where_weights_are_clipped_beside_the_steps(name, how):
    # One value alone, which no sample has: that somebody wrote must be seen by the versions.
    box, slots = boxed(w=nn.Parameter(torch.randn(100, 100)))
    owner = torch.randint(1, 3, (100, 100), dtype=torch.uint8)
    owner[0, 1] = 1
    with torch.no_grad():
        box.w[0, 1] = 100
    freezer = Freezer(lambda: slots, {"w": owner}, 2)
    before = bits(box.w)[owner == 1]
    optimizer = STEADY[name]([box.w])
    optimizer.param_groups[0][how] = True
    for _ in range(4):
        box.w.grad = torch.randn(100, 100)
        freezer.mask_gradients_()
        optimizer.step()
        with torch.no_grad():
            box.w.clamp_(-50, 50)
        freezer.restore_()
        assert torch.equal(bits(box.w)[owner == 1], before)


def test_what_happens_inside_and_after_the_step():
    for register in ("register_step_pre_hook", "register_step_post_hook"):
        case = Case()
        optimizer = momentum(case)
        case.step(optimizer)
        handle = getattr(optimizer, register)(lambda *_, case=case: add(case.box.w))
        assert case.step(optimizer)
        handle.remove()
        assert not case.step(optimizer)
    case.backward()
    optimizer.step(lambda: optimizer.param_groups[0].update(weight_decay=0.1))
    assert case.restored()


def test_two_steps_and_two_optimizers():
    case = Case()
    first, second = momentum(case), optim.Adam([case.box.w])
    case.backward()
    first.step()
    first.step()
    assert case.restored()
    case.backward()
    first.step()
    second.step()
    assert case.restored()
    assert not case.step(first)


def test_an_unseen_write_ends_all_trust():
    case = Case()
    optimizer = momentum(case)
    assert not case.step(optimizer)
    case.backward()
    optimizer.step()
    case.box.w.data.mul_(0.9)
    assert case.restored()
    assert case.step(optimizer)


@pytest.mark.parametrize("every", [7, 9])
def test_nothing_is_forgotten_where_unseen_writing_leaves_whole_columns_as_they_were(every):
    values = torch.randn(513, 63)  # of so many, a sample at equal distances would take each 63rd
    values.view(-1)[::every] = 0  # as where an input of the layer is dead: what scales the weight leaves it zero
    box, slots = boxed(w=nn.Parameter(values))
    owner = torch.ones(513, 63, dtype=torch.uint8)
    owner[512] = 2
    freezer = Freezer(lambda: slots, {"w": owner}, 2)
    before = bits(box.w)[owner == 1]
    optimizer = optim.SGD([box.w], lr=0.1)
    box.w.grad = torch.ones(513, 63)
    freezer.mask_gradients_()
    optimizer.step()
    box.w.data.mul_(0.9)
    freezer.restore_()
    assert torch.equal(bits(box.w)[owner == 1], before)


@pytest.mark.parametrize("strange", [1e-40, float("nan")])
def test_values_that_a_sum_with_zero_may_change(strange):
    box, slots = boxed(w=nn.Parameter(torch.full(SHAPE, strange)))
    freezer = Freezer(lambda: slots, {"w": torch.arange(320).remainder(2).add(1).byte().reshape(SHAPE)}, 2)
    optimizer = optim.SGD([box.w], lr=0.1)
    box.w.grad = torch.ones(SHAPE)
    freezer.mask_gradients_()
    optimizer.step()
    version = box.w._version
    freezer.restore_()
    assert box.w._version > version


def test_half_precision_in_which_eps_is_zero():
    case = Case(torch.float16)
    optimizer = optim.Adam([case.box.w])
    assert case.step(optimizer)


def test_a_closure_that_goes_back_and_masks_as_lightning_does_is_proved():
    case = Case()
    optimizer = momentum(case)
    written = []
    for _ in range(4):
        optimizer.step(case.backward)
        written.append(case.restored())
    assert written == [True, False, False, False]  # nobody watched before the first mask


def test_all_is_restored_where_no_step_was_seen_or_everything_is_asked_for():
    case = Case()
    optimizer = momentum(case)
    assert not case.step(optimizer)
    assert case.restored()
    case.backward()
    optimizer.step()
    version = case.box.w._version
    case.freezer.restore_all_()
    assert case.box.w._version > version


# What it leaves behind.


def test_the_hook_goes_with_the_freezer():
    before = len(_global_optimizer_pre_hooks)
    case = Case()
    assert len(_global_optimizer_pre_hooks) == before
    optimizer = momentum(case)
    case.step(optimizer)
    case.step(optimizer)
    assert len(_global_optimizer_pre_hooks) == before + 1
    case.freezer = None
    gc.collect()
    assert len(_global_optimizer_pre_hooks) == before


def test_neither_optimizer_nor_gradient_is_kept_alive():
    case = Case()
    optimizer = momentum(case)
    case.step(optimizer)
    case.backward()
    optimizer.step()
    kept = [optimizer.state[case.box.w]["momentum_buffer"], case.box.w.grad]
    gone = [weakref.ref(tensor) for tensor in kept]
    del kept, optimizer
    case.box.w.grad = None
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda case: pickle.loads(pickle.dumps(case))], ids=["copy", "pickle"]
)
def test_a_copy_watches_for_itself(copied):
    case = Case()
    case.freezer._find = dict
    optimizer = momentum(case)
    case.step(optimizer)
    twin = copied(case)
    other = momentum(twin)
    assert [twin.step(other) for _ in range(3)] == [True, False, False]  # a copy has versions of its own
    assert not case.step(optimizer)


def test_threads_that_train_beside_each_other():
    found = []

    def train():
        case = Case()
        optimizer = momentum(case)
        found.append([case.step(optimizer) for _ in range(30)])

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step():
    case = Case()
    optimizer = optim.SGD([case.box.w], lr=0.1, momentum=0.9)
    case.step(optimizer)
    stepped = torch.compile(optimizer.step, backend="eager")
    for _ in range(3):
        case.backward()
        stepped()
        case.restored()
