import math

import pytest
import torch
from torch import nn

import packnet_pl.core.subnetwork as view
from packnet_pl.core.slots import Slot
from packnet_pl.core.subnetwork import shown
from tests.support.tiny import boxed, same_bits

WILD = [1.5, -0.0, 0.0, math.inf, -math.inf, math.nan, -1e-45, 3.0]
EVERY_OTHER = torch.arange(len(WILD)) % 2 == 0


def owners(hidden):
    """Owners of which task 1 sees all but the ``hidden``: every third of these is free, the others a later task's."""
    later = torch.where((torch.arange(hidden.numel()) % 3 == 0).reshape(hidden.shape), 0, 2)
    return torch.where(hidden, later, 1).to(torch.uint8)


def wild():
    """A weight to hide, a statistic to replace, and what each is now."""
    box, slots = boxed(w=nn.Parameter(torch.tensor(WILD)), mean=torch.tensor(WILD[::-1]))
    return box, slots, {name: slot.now.detach().clone() for name, slot in slots.items()}


def same_as(box, before):
    return all(same_bits(getattr(box, name), value) for name, value in before.items())


@pytest.mark.parametrize("fails", [False, True])
def test_hidden_entries_are_zero_and_are_given_back_bit_for_bit(fails):
    box, slots, before = wild()
    try:
        with shown(lambda: slots, {"w": owners(EVERY_OTHER)}, 1, {}):
            assert same_bits(box.w[EVERY_OTHER], torch.zeros(4))
            assert same_bits(box.w[~EVERY_OTHER], before["w"][~EVERY_OTHER])
            assert same_bits(box.mean, before["mean"])
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert same_as(box, before)


@pytest.mark.parametrize("fails", [False, True])
def test_other_values_stand_in_and_are_taken_away_again(fails):
    box, slots, before = wild()
    other = torch.tensor([*WILD[1:], WILD[0]])
    kept = other.clone()
    try:
        with shown(lambda: slots, {"w": owners(EVERY_OTHER)}, 1, {"mean": other}):
            assert same_bits(box.mean, kept)
            assert same_bits(box.w[EVERY_OTHER], torch.zeros(4))
            box.mean.add_(1)
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert same_as(box, before)
    assert same_bits(other, kept)


def test_what_layers_write_in_the_meantime_is_taken_back_too():
    box, slots, before = wild()
    with shown(lambda: slots, {}, 1, {}):
        assert same_as(box, before)
        with torch.no_grad():
            box.w.add_(1)
        box.mean = torch.zeros(len(WILD))
    assert same_as(box, before)


def test_what_can_be_given_back_is_given_back_although_the_slots_cannot_be_found_any_more():
    box, slots, before = wild()
    asked = []

    def find():
        asked.append(True)
        if len(asked) > 1:
            raise RuntimeError("a layer was added")
        return slots

    with (
        pytest.raises(RuntimeError, match="a layer was added"),
        shown(find, {"w": owners(EVERY_OTHER)}, 1, {"mean": torch.zeros(len(WILD))}),
    ):
        pass
    assert same_as(box, before)


def test_what_can_be_given_back_is_given_back_although_something_else_cannot():
    box, slots, before = wild()
    with (
        pytest.raises(RuntimeError, match=r"^w was torch\.float32 \(8,\) and is torch\.float32 \(2,\) now"),
        shown(lambda: slots, {"w": owners(EVERY_OTHER)}, 1, {"mean": torch.zeros(len(WILD))}),
    ):
        box.w = nn.Parameter(torch.ones(2))
    assert same_bits(box.mean, before["mean"])


def test_values_are_given_back_to_the_tensors_that_are_there_at_the_end():
    box, slots = boxed(w=nn.Parameter(torch.tensor([1.0, 2.0])))
    with shown(lambda: slots, {"w": owners(torch.tensor([True, False]))}, 1, {}):
        box.w = nn.Parameter(box.w.detach().clone())
    assert box.w.tolist() == [1, 2]


def test_values_are_given_back_to_the_layers_that_are_there_at_the_end():
    net = nn.Sequential(nn.Linear(2, 1, bias=False))
    before = net[0].weight.detach().clone()
    with shown(lambda: {"w": Slot(net[0], "weight", True, True)}, {"w": owners(torch.tensor([[True, False]]))}, 1, {}):
        net[0] = nn.Linear(2, 1, bias=False)
    assert torch.equal(net[0].weight, before)


def test_what_fails_half_way_is_undone():
    box, slots, before = wild()
    with (
        pytest.raises(RuntimeError, match="size"),
        shown(lambda: slots, {"w": owners(EVERY_OTHER)}, 1, {"mean": torch.zeros(3)}),
    ):
        pytest.fail("it was shown")
    assert same_as(box, before)


def interrupt_giving_back(monkeypatch):
    """Ctrl-C comes once, when the second tensor is about to be given back."""
    restore_slot, calls = view.restore_slot_, []

    def interrupted(name, slot, value):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        restore_slot(name, slot, value)

    monkeypatch.setattr(view, "restore_slot_", interrupted)
    return calls


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_an_interrupt_while_values_are_given_back_still_gives_all_back_and_is_not_swallowed(monkeypatch, error):
    box, slots, before = wild()
    calls = interrupt_giving_back(monkeypatch)

    def look():
        with shown(lambda: slots, {"w": owners(EVERY_OTHER)}, 1, {"mean": torch.zeros(len(WILD))}):
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        look()
    assert len(calls) > 2
    assert same_as(box, before)


def test_autocast_sees_the_weights_as_they_are_now():
    layer, x = nn.Linear(3, 2, bias=False), torch.randn(4, 3)
    hidden = torch.ones(2, 3, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside = layer(x)
        with shown(lambda: {"w": Slot(layer, "weight", True, True)}, {"w": owners(hidden)}, 1, {}):
            assert not layer(x).any()
        assert torch.equal(layer(x), outside)


def test_what_is_shown_in_inference_mode_is_given_back_for_training():
    box, slots, before = wild()
    with torch.inference_mode(), shown(lambda: slots, {"w": owners(EVERY_OTHER)}, 1, {"mean": torch.zeros(len(WILD))}):
        assert not box.mean.any()
    assert same_as(box, before)
    assert not box.w.is_inference()
    (box.w[torch.isfinite(box.w)]).sum().backward()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_weight_in_another_memory_layout_stays_in_it(layout):
    box, slots = boxed(w=nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=layout)))
    before, strides, hidden = box.w.detach().clone(), box.w.stride(), torch.rand(2, 3, 4, 4) < 0.5
    with shown(lambda: slots, {"w": owners(hidden)}, 1, {}):
        assert torch.equal(box.w, before.masked_fill(hidden, 0))
    assert torch.equal(box.w, before)
    assert box.w.stride() == strides
