"""The splits of one task, and a share of them."""

import pytest
import torch
from torch.utils.data import TensorDataset

from packnet_pl.data import TaskData
from packnet_pl.data.task_data import image_tensors


def task(train=100, val=10, test=3):
    splits = [TensorDataset(torch.arange(size), torch.arange(size) // 10) for size in (train, val, test)]
    return TaskData(*splits, ("x", "y"), (1, 24, 24), (0.5,), (0.25,))


def numbers(split):
    return [int(number) for number, _ in split]


def test_a_share_is_evenly_spaced_in_each_split():
    taken = task().take(0.1)
    assert numbers(taken.train) == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert [len(split) for split in (taken.train, taken.val, taken.test)] == [10, 1, 1]


def test_a_share_of_a_split_sorted_by_class_keeps_every_class():
    labels = [int(label) for _, label in task().take(0.2).train]
    assert [labels.count(label) for label in range(10)] == [2] * 10


@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.5, 0.99])
def test_a_share_has_no_sample_twice(fraction):
    taken = numbers(task().take(fraction).train)
    assert len(set(taken)) == len(taken) == max(1, round(100 * fraction))


def test_a_share_keeps_all_else():
    whole, taken = task(), task().take(0.5)
    for name in ("class_names", "input_shape", "mean", "std"):
        assert getattr(taken, name) == getattr(whole, name)


def test_all_of_it_is_the_task_itself():
    whole = task()
    assert whole.take(1) is whole


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, 50, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match=f"data fraction is {fraction}; allowed is a number in"):
        task().take(fraction)


def test_image_tensors_are_normalised_from_bytes():
    images = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    ((image, label),) = list(image_tensors(images, torch.tensor([7]), mean=0.2, std=0.4))
    assert image.shape == (1, 2, 2)
    torch.testing.assert_close(image[0], torch.tensor([[-0.5, 2.0], [0.0, 0.5]]))
    assert label == 7
