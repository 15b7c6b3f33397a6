"""What a plan says of an epoch is what the loader makes of it."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

from packnet_pl.data import TaskData
from packnet_pl.data.epoch_steps import epoch_steps
from packnet_pl.training import TaskDataModule


@pytest.mark.parametrize("size", [1, 5, 7, 8, 9, 16, 103])
@pytest.mark.parametrize(
    ("batch_size", "accumulate", "processes"), [(64, 1, 1), (8, 1, 1), (8, 2, 1), (8, 1, 2), (8, 2, 2), (4, 4, 1)]
)
def test_steps_batches_and_what_is_left_out(size, batch_size, accumulate, processes):
    split = TensorDataset(torch.arange(float(size)).reshape(-1, 1, 1, 1), torch.zeros(size))
    data = TaskData(split, split, split, ("x", "y"), (1, 1, 1), (0.0,), (1.0,))
    seen, lengths = set(), set()
    for rank in range(processes):
        module = TaskDataModule(data, key=(0, "a", "train"), batch_size=batch_size, accumulate=accumulate)
        progress = SimpleNamespace(current=SimpleNamespace(processed=0))
        loops = SimpleNamespace(epoch_progress=progress)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=processes, fit_loop=loops)
        batches = list(module.train_dataloader())
        lengths |= {len(batches)}
        seen |= {int(image) for images, _ in batches for image in images}
    found = epoch_steps(size, batch_size, accumulate, processes)
    assert lengths == {found.batches}
    assert found.steps == math.ceil(found.batches / accumulate)
    assert found.left_out == size - len(seen)


def test_a_hundred_and_three_images_in_batches_of_64_are_one_step():
    assert epoch_steps(103, 64)[::3] == (1, 39)
