"""Several processes release what they agreed on."""

import pytest
import torch

from tests.support.packnet_states import (
    fresh,
    with_open_task,
)
from tests.support.tiny import (
    bits,
    equal,
    same_bits,
    snapshot,
    train,
)


def test_what_was_agreed_on_is_what_is_released():
    packnet, alone = fresh(), fresh()
    alone.module.load_state_dict(packnet.module.state_dict())
    asked = []

    def agree(choices):
        for choice in choices:
            asked.append((choice.dtype, choice.shape, int(choice.sum())))
            choice.copy_(choice.flip(0))

    for each in (packnet, alone):
        each.begin_task("a")
    before = {name: packnet.module.get_parameter(name).detach().clone() for name in packnet.owners}
    packnet.prune(0.5, agree=agree)
    alone.prune(0.5)
    assert asked == [(torch.bool, (4, 1, 3, 3), 18), (torch.bool, (6, 16), 48)]
    for name, owner in packnet.owners.items():
        assert torch.equal(owner, alone.owners[name].flip(0))
        assert not torch.equal(owner, alone.owners[name])
        weight = packnet.module.get_parameter(name).detach()
        assert same_bits(weight, before[name].masked_fill(owner == 0, 0))
    # What is free now stays at zero.
    train(packnet)
    assert not any(bits(packnet.module.get_parameter(name))[owner == 0].any() for name, owner in packnet.owners.items())


def test_a_failure_to_agree_changes_nothing():
    packnet = with_open_task()
    before, state = snapshot(packnet), packnet.state_dict()

    def agree(choices):
        for choice in choices:
            choice.fill_(True)
        raise KeyError("a process is gone")

    with pytest.raises(KeyError, match="a process is gone"):
        packnet.prune(0.5, agree=agree)
    assert equal(snapshot(packnet), before)
    assert equal(packnet.state_dict(), state)
