"""Noticing every step of every optimizer."""

import pytest
import torch
from timm.optim import Lookahead
from torch import nn
from torch.optim import LBFGS, SGD, Adam
from torch.optim.lr_scheduler import StepLR

from packnet_pl.training.optimizer_hooks import StepWatch
from tests.support.fits import step_hooks


def parameters(n=2):
    return [nn.Parameter(torch.full((3,), float(number))) for number in range(n)]


def with_gradients(given):
    for parameter in given:
        parameter.grad = torch.ones_like(parameter)
    return given


class Duck:
    """An optimizer that is none of torch's."""

    def __init__(self, given):
        self.param_groups = [{"params": [given[0]]}, {"params": given[1:]}]
        self.calls = 0

    def step(self, closure=None):
        """Counts."""
        self.calls += 1
        return closure() if closure is not None else "result"


class Delegating:
    """Has the step of another optimizer without having one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __getattr__(self, name):
        return getattr(self.optimizer, name)


class OwnStep(SGD):
    """Overrides the step of one of torch's, and calls it."""

    def step(self, closure=None):
        return super().step(closure)


def lookahead(given):
    return Lookahead(SGD(given, lr=0.1), k=2)


def delegating(given):
    return Delegating(SGD(given, lr=0.1))


TORCH = {
    "SGD": lambda given: SGD(given, lr=0.1),
    "Adam": lambda given: Adam(given, lr=0.1),
    "two groups": lambda given: SGD([{"params": [given[0]]}, {"params": given[1:], "lr": 0.2}], lr=0.1),
}
OTHERS = {"Lookahead": lookahead, "duck": Duck, "delegating": delegating}


def ids(tensors):
    return [id(tensor) for tensor in tensors]


@pytest.mark.parametrize("kind", TORCH | OTHERS)
def test_each_step_is_told_once_with_the_tensors_that_the_optimizer_has(kind):
    given, told = with_gradients(parameters(3)), []
    optimizer = (TORCH | OTHERS)[kind](given)
    watch = StepWatch([optimizer], lambda stepped: told.append(ids(stepped)))
    assert watch.seen == 0
    for count in (1, 2, 3):
        optimizer.step()
        assert watch.seen == count
        assert told == [ids(given)] * count


@pytest.mark.parametrize("kind", TORCH | {"Lookahead": lookahead})
def test_a_step_is_told_after_it_was_made(kind):
    given, told = with_gradients(parameters(1)), []
    optimizer = (TORCH | OTHERS)[kind](given)
    StepWatch([optimizer], lambda stepped: told.append(stepped[0].detach().clone()))
    before = given[0].detach().clone()
    optimizer.step()
    assert not torch.equal(told[0], before)
    assert torch.equal(told[0], given[0])


def test_parameters_that_were_added_later_are_told_too():
    first, second = parameters(2)
    optimizer, told = SGD([first], lr=0.1), []
    StepWatch([optimizer], lambda stepped: told.append(ids(stepped)))
    optimizer.add_param_group({"params": [second]})
    optimizer.step()
    assert told == [ids([first, second])]


def test_an_optimizer_that_does_not_tell_its_parameters_is_told_as_such():
    class Mute:
        def step(self):
            pass

    optimizer, told = Mute(), []
    StepWatch([optimizer], told.append)
    optimizer.step()
    assert told == [None]


def test_steps_of_several_optimizers_are_counted_together_and_told_apart():
    first, second = parameters(1), parameters(1)
    optimizers, told = [SGD(first, lr=0.1), Duck(second)], []
    watch = StepWatch(optimizers, lambda stepped: told.append(ids(stepped)))
    optimizers[1].step()
    optimizers[0].step()
    watch.seen = 0
    optimizers[1].step()
    assert watch.seen == 1
    assert told == [ids(second), ids(first), ids(second)]


def test_one_step_is_one_however_often_it_computes_the_loss():
    given, told = parameters(1), []
    optimizer = LBFGS(given, max_iter=4)
    watch = StepWatch([optimizer], told.append)
    losses = []

    def closure():
        optimizer.zero_grad()
        losses.append((given[0] - 3).square().sum())
        losses[-1].backward()
        return losses[-1]

    optimizer.step(closure)
    assert len(losses) > 1
    assert watch.seen == 1


@pytest.mark.parametrize("optimizer", [Duck(parameters()), lookahead(parameters())], ids=["duck", "Lookahead"])
def test_arguments_result_and_name_of_a_wrapped_step_are_its_own(optimizer):
    before = optimizer.step
    StepWatch([optimizer], lambda _: None)
    assert optimizer.step is not before
    assert optimizer.step.__name__ == "step"
    assert optimizer.step.__doc__ == before.__doc__
    assert optimizer.step(lambda: "loss") == "loss"
    assert optimizer.step(closure=lambda: "loss") == "loss"


def test_a_step_that_fails_is_not_told():
    def fail():
        raise ZeroDivisionError

    told = []
    optimizers = [Duck(parameters()), SGD(parameters(), lr=0.1)]
    watch = StepWatch(optimizers, told.append)
    for optimizer in optimizers:
        with pytest.raises(ZeroDivisionError):
            optimizer.step(fail)
    assert (told, watch.seen) == ([], 0)


class Scaler:
    """Steps through torch's gradient scaler as on a GPU, where it looks for infinite gradients."""

    def __init__(self):
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)

    def step(self, optimizer, given, gradient):
        self.scaler.scale(torch.ones(()))
        for parameter in given:
            parameter.grad = torch.full_like(parameter, gradient)
        self.scaler.step(optimizer)
        self.scaler.update()


def test_a_step_that_a_gradient_scaler_skips_is_not_told():
    given = parameters(1)
    optimizer, scaler = SGD(given, lr=0.1), Scaler()
    watch = StepWatch([optimizer], lambda _: None)
    scaler.step(optimizer, given, float("inf"))
    assert watch.seen == 0
    assert given[0].tolist() == [0, 0, 0]
    scaler.step(optimizer, given, 1.0)
    assert watch.seen == 1
    assert given[0].any()


def test_an_optimizer_that_overrides_a_step_of_torch_s_is_noticed():
    given, told = with_gradients(parameters(1)), []
    SGD(parameters(), lr=0.1)
    optimizer = OwnStep(given, lr=0.1)
    StepWatch([optimizer], lambda stepped: told.append(stepped[0].detach().clone()))
    before = given[0].detach().clone()
    optimizer.step()
    assert torch.equal(told[-1], given[0])
    assert not torch.equal(given[0], before)


# Leaving optimizers as they were.


@pytest.mark.parametrize("kind", TORCH | OTHERS)
def test_after_removal_the_optimizer_is_as_it_was_and_steps_are_not_told(kind):
    given = with_gradients(parameters())
    optimizer = (TORCH | OTHERS)[kind](given)
    attributes, told = sorted(vars(optimizer)), []
    watch = StepWatch([optimizer], told.append)
    watch.remove()
    optimizer.step()
    assert (told, watch.seen) == ([], 0)
    assert sorted(vars(optimizer)) == attributes
    assert "step" not in vars(optimizer)
    if kind in TORCH:
        assert step_hooks(optimizer) == 0
    watch.remove()
    optimizer.step()


def test_hooks_of_others_stay():
    optimizer, theirs = SGD(with_gradients(parameters()), lr=0.1), []
    optimizer.register_step_post_hook(lambda *_: theirs.append("theirs"))
    StepWatch([optimizer], lambda _: theirs.append("ours")).remove()
    optimizer.step()
    assert theirs == ["theirs"]


@pytest.mark.parametrize("make", [lookahead, lambda given: SGD(given, lr=0.1)], ids=["Lookahead", "SGD"])
def test_a_step_that_a_scheduler_had_wrapped_already_is_given_back_to_it(make):
    optimizer = make(with_gradients(parameters()))
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    wrapped = vars(optimizer)["step"]
    watch = StepWatch([optimizer], lambda _: None)
    optimizer.step()
    scheduler.step()
    assert watch.seen == 1
    assert optimizer.param_groups[0]["lr"] == 0.05
    watch.remove()
    assert vars(optimizer)["step"] is wrapped
    optimizer.step()
    scheduler.step()
    assert watch.seen == 1
    assert optimizer.param_groups[0]["lr"] == 0.025


def test_an_optimizer_that_is_watched_twice_is_given_back_in_the_reverse_order():
    optimizer, told = Duck(parameters()), []
    outer = [StepWatch([optimizer], lambda _, number=number: told.append(number)) for number in (1, 2)]
    optimizer.step()
    assert told == [1, 2]
    for watch in reversed(outer):
        watch.remove()
    optimizer.step()
    assert told == [1, 2]
    assert optimizer.calls == 2
