"""A task that is aborted or diverged leaves everything as it was before it."""

import math

import pytest
import torch

from tests.support.packnet_states import (
    fresh,
    with_finished_task,
)
from tests.support.tiny import (
    bits,
    count_hooks,
    equal,
    pack,
    snapshot,
    tensors,
    train,
)


@pytest.mark.parametrize("prunes", [False, True])
@pytest.mark.parametrize("diverges", [False, True])
def test_abort_gives_everything_back_at_zero_and_the_state_is_as_before(prunes, diverges):
    packnet = with_finished_task()
    state, frozen = packnet.state_dict(), tensors(packnet.module)
    free = {name: owner == 0 for name, owner in packnet.owners.items()}
    packnet.begin_task("cars", private=["heads.cars"])
    train(packnet)
    if prunes:
        packnet.prune(0.5)
        train(packnet)
    if diverges:
        with torch.no_grad():
            for name in free:
                packnet.module.get_parameter(name).fill_(math.nan)
    assert not equal(tensors(packnet.module), frozen)
    packnet.abort_task()
    assert equal(packnet.state_dict(), state)
    # The free weights were zero before, so the whole network is what it was.
    assert equal(tensors(packnet.module), frozen)
    assert count_hooks(packnet.module) == 0
    for name, mask in free.items():
        assert not bits(packnet.module.get_parameter(name))[mask].any()
    pack(packnet, "cars")
    assert packnet.tasks == ["cubs", "cars"]


def test_abort_of_the_first_task_leaves_biases_and_norms_to_the_next():
    packnet = fresh()
    packnet.begin_task("a")
    train(packnet)
    frozen = {name: packnet.module.state_dict()[name].clone() for name in packnet.summary().frozen}
    packnet.abort_task()
    assert packnet.summary().total.free == 132
    assert not any(packnet.module.get_parameter(name).any() for name in packnet.owners)
    assert all(torch.equal(packnet.module.state_dict()[name], tensor) for name, tensor in frozen.items())
    pack(packnet, "b")
    assert packnet.tasks == ["b"]


@pytest.mark.parametrize("name", ["fc.weight", "fc.bias", "bn.running_var"])
def test_a_task_that_diverged_cannot_be_frozen(name):
    packnet = fresh()
    packnet.begin_task("a")
    packnet.prune(0.5)
    tensor = packnet.module.state_dict()[name]
    owner = packnet.owners.get(name)
    index = (0,) if owner is None else tuple((owner == 1).nonzero()[0])
    tensor[index] = math.nan
    before = snapshot(packnet)
    with pytest.raises(ValueError, match=rf"{name} holds NaN or infinity"):
        packnet.finish_task()
    assert equal(snapshot(packnet), before)
