import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.capacity import MAX_TASKS
from packnet_pl.core import loops
from packnet_pl.core.ownership import FREE, all_free, claim, count_owned, count_owners, release, trainable, visible

owner_lists = st.lists(st.integers(0, MAX_TASKS), min_size=1, max_size=30)


def owner_map(values):
    return torch.tensor(values, dtype=torch.uint8)


def test_a_new_map_is_free_everywhere_in_the_layout_of_the_weight():
    weight = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last).weight
    owner = all_free(weight)
    assert owner.dtype == torch.uint8
    assert owner.shape == weight.shape
    assert owner.stride() == weight.stride()
    assert not owner.requires_grad
    assert not owner.any()


@given(owner_lists, st.integers(1, MAX_TASKS))
def test_claim_takes_exactly_the_free_weights_and_changes_nothing_in_place(values, task):
    owner = owner_map(values)
    assert claim(owner, task).tolist() == [task if value == FREE else value for value in values]
    assert owner.tolist() == values


@given(st.lists(st.tuples(st.integers(0, MAX_TASKS), st.booleans()), min_size=1, max_size=30))
def test_release_frees_exactly_the_marked_weights_and_leaves_the_map_before(pairs):
    values, marks = [value for value, _ in pairs], [mark for _, mark in pairs]
    owner = owner_map(values)
    released = release(owner, torch.tensor(marks))
    assert released.tolist() == [FREE if mark else value for value, mark in pairs]
    assert owner.tolist() == values


@given(owner_lists, st.integers(1, MAX_TASKS))
def test_a_task_trains_its_own_weights_and_sees_those_of_earlier_tasks_too(values, task):
    owner = owner_map(values)
    assert trainable(owner, task).tolist() == [value == task for value in values]
    assert visible(owner, task).tolist() == [0 < value <= task for value in values]


@given(owner_lists)
def test_counts_start_with_the_free_ones_and_add_up(values):
    owner = owner_map(values)
    counts = count_owners(owner, MAX_TASKS)
    assert counts == [values.count(number) for number in range(MAX_TASKS + 1)]
    assert counts == [count_owned(owner, number) for number in range(MAX_TASKS + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "MANY", 0)
        assert count_owners(owner, MAX_TASKS) == counts


def test_tasks_that_own_nothing_are_counted_as_zero():
    assert count_owners(owner_map([0, 2]).reshape(1, 2), 3) == [1, 0, 1, 0]
