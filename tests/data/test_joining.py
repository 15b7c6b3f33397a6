"""Several tasks as one, for joint training."""

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from packnet_pl.data import TaskData, join_tasks
from packnet_pl.training import TaskDataModule


class Noisy(Dataset):
    """Images that draw random numbers."""

    random = True

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.randn(1, 2, 2), torch.tensor(index % 2)


def split(first, sizes):
    """Images with a running number, class after class."""
    labels = torch.tensor([label for label, size in enumerate(sizes) for _ in range(size)])
    numbers = first + torch.arange(len(labels))
    return TensorDataset(numbers.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).float(), labels)


def task(first, sizes, shape=(1, 2, 2), train=None):
    names = tuple("xyz"[: len(sizes)])
    splits = split(first, sizes), split(first + 1000, sizes), split(first + 2000, sizes)
    return TaskData(train or splits[0], *splits[1:], names, shape, (0.1,), (0.2,))


def numbers(joined):
    return [int(image[0, 0, 0]) for image, _ in joined]


def labels(joined):
    return [int(label) for _, label in joined]


def test_all_images_come_in_the_order_of_the_tasks_in_every_split():
    joined = join_tasks({"b": task(0, [2, 1]), "a": task(100, [1, 1, 2]), "c": task(200, [1, 2])})
    for found, first in ((joined.train, 0), (joined.val, 1000), (joined.test, 2000)):
        expected = [0, 1, 2, 100, 101, 102, 103, 200, 201, 202]
        assert numbers(found) == [first + number for number in expected]
        assert labels(found) == [0, 0, 1, 2, 3, 4, 4, 5, 6, 6]
        assert len(found) == 10
    assert joined.class_names == ("b/x", "b/y", "a/x", "a/y", "a/z", "c/x", "c/y")
    assert (joined.input_shape, joined.mean, joined.std) == ((1, 2, 2), (0.1,), (0.2,))


def test_labels_stay_labels_and_the_tasks_own_do_not_change():
    tasks = {"a": task(0, [1, 1]), "b": task(100, [2, 1])}
    label = join_tasks(tasks).train[2][1]
    assert (label.dtype, label.shape, int(label)) == (torch.int64, (), 2)
    assert [labels(join_tasks(tasks).train) for _ in range(2)] == [[0, 1, 2, 2, 3]] * 2
    assert labels(tasks["b"].train) == [0, 0, 1]


def test_classes_are_counted_by_their_names_and_not_by_the_images_there_are():
    data = task(0, [2, 2, 2])
    few = TaskData(Subset(data.train, [0]), data.val, data.test, data.class_names, data.input_shape, (0.1,), (0.2,))
    assert labels(join_tasks({"a": few, "b": task(100, [1, 1])}).train) == [0, 3, 4]


def test_a_single_task_is_itself():
    data = task(0, [2, 1])
    assert join_tasks({"a": data}) is data


def test_images_of_several_shapes_are_refused():
    tasks = {"a": task(0, [1, 1]), "b": task(0, [1, 1]), "c": task(0, [1, 1], shape=(3, 2, 2))}
    with pytest.raises(ValueError, match=r"tasks 'a' and 'c' have images of \(1, 2, 2\) and \(3, 2, 2\); .* one shape"):
        join_tasks(tasks)


def test_one_task_that_draws_random_numbers_makes_the_joined_split_random():
    plain, noisy = task(0, [1, 1]), task(0, [1, 1], train=Subset(Noisy(), [3, 0]))
    joined = join_tasks({"a": plain, "b": noisy})
    assert joined.train.random
    assert not joined.val.random
    assert not join_tasks({"a": plain, "b": plain}).train.random
    module = TaskDataModule(joined, key=(0, "a+b"), batch_size=4)
    (batch, _), (again, _) = (next(iter(module.train_dataloader())) for _ in range(2))
    assert torch.equal(batch, again)  # seeded by the datamodule, which has to know of it
