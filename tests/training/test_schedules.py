"""Learning rates in closed form."""

import math

import pytest
import torch
from torch.optim import SGD

from packnet_pl.training import step_decay, warmup_cosine


def rates(total_steps, lr=0.4, schedule=warmup_cosine, **kwargs):
    """The rate of each step, and what is left after the last one."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = schedule(optimizer, total_steps=total_steps, **kwargs)
    found = []
    for _ in range(total_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found, optimizer.param_groups[0]["lr"]


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine():
    found, after = rates(10, warmup=0.4)
    rising = [0.4 * step / 5 for step in (1, 2, 3, 4)]
    falling = [0.4 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert found == pytest.approx(rising + falling)
    assert found[4] == 0.4
    assert after == pytest.approx(0, abs=1e-12)


def test_a_tenth_of_the_steps_is_spent_rising_by_default():
    found, _ = rates(100)
    assert found.index(max(found)) == 10
    assert found[:11] == pytest.approx([0.4 * (step + 1) / 11 for step in range(11)])


@pytest.mark.parametrize("total_steps", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
def test_every_step_has_a_rate_above_zero_and_none_above_the_optimizers(total_steps, warmup):
    found, after = rates(total_steps, warmup=warmup)
    assert all(0 < rate <= 0.4 for rate in found)
    assert after == pytest.approx(0.0 if round(warmup * total_steps) < total_steps else 0.4, abs=1e-12)


def test_one_step_runs_at_the_full_rate():
    assert rates(1)[0] == [0.4]


def test_without_warmup_the_first_step_runs_at_the_full_rate():
    found, _ = rates(4, warmup=0)
    assert found == pytest.approx([0.4 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)])


def test_the_rate_stays_at_zero_beyond_the_last_step():
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    schedule = warmup_cosine(optimizer, total_steps=2)
    for _ in range(7):
        optimizer.step()
        schedule.step()
        last = optimizer.param_groups[0]["lr"]
    assert last == 0


@pytest.mark.parametrize("schedule", [step_decay, warmup_cosine])
@pytest.mark.parametrize("total_steps", [0, -1])
def test_no_steps_are_refused(total_steps, schedule):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    with pytest.raises(ValueError, match=f"total_steps is {total_steps}; allowed is 1 or more"):
        schedule(optimizer, total_steps=total_steps)


@pytest.mark.parametrize("warmup", [1, 1.5, -0.1, float("nan")])
def test_a_warmup_outside_the_steps_is_refused(warmup):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    with pytest.raises(ValueError, match=f"warmup is {warmup}; allowed is a share"):
        warmup_cosine(optimizer, total_steps=10, warmup=warmup)


def test_the_papers_rate_falls_to_a_tenth_after_half_of_the_epochs():
    # 20 epochs of 7 steps.
    found, after = rates(140, schedule=step_decay)
    assert found == pytest.approx([0.4] * 70 + [0.04] * 70)
    assert after == pytest.approx(0.04)


def test_place_and_size_of_the_drop_can_be_chosen():
    found, _ = rates(10, schedule=step_decay, at=0.3, gamma=0.5)
    assert found == pytest.approx([0.4] * 3 + [0.2] * 7)


@pytest.mark.parametrize("total_steps", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("at", [0.001, 0.5, 0.999])
def test_the_first_step_has_the_full_rate_and_the_rate_falls_once(total_steps, at):
    found, after = rates(total_steps, schedule=step_decay, at=at)
    assert found[0] == 0.4
    assert after == pytest.approx(0.04)
    assert all(rate in (found[0], pytest.approx(0.04)) for rate in found)
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("at", [0, 1, -0.1, 1.5, float("nan")])
def test_a_drop_outside_the_steps_is_refused(at):
    with pytest.raises(ValueError, match=f"at is {at}; allowed is a share of the steps in"):
        rates(10, schedule=step_decay, at=at)


@pytest.mark.parametrize("gamma", [0, -1, float("inf"), float("nan")])
def test_a_drop_by_no_factor_is_refused(gamma):
    with pytest.raises(ValueError, match=f"gamma is {gamma}; allowed is a number above 0"):
        rates(10, schedule=step_decay, gamma=gamma)


def test_the_state_of_the_drop_is_data(tmp_path):
    schedule = step_decay(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4), total_steps=10)
    torch.save(schedule.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["milestones"] == {5: 1}
