"""Evaluation by several processes: the scores are those of one, exactly."""

import multiprocessing

import pytest
import torch
from torch import distributed as dist
from torch import nn

from packnet_pl.data import TaskData
from packnet_pl.distributed import rank_and_world_size, sum_
from packnet_pl.run.metrics import measure, measure_together
from packnet_pl.run.predictions import Predictions
from packnet_pl.training import TaskDataModule

CLASSES = 7
CASES = [(1, 4), (23, 4), (24, 4), (50, 8), (50, 64)]  # images, batch size


def datamodule(size, batch_size):
    generator = torch.Generator().manual_seed(size)
    split = torch.utils.data.TensorDataset(
        torch.randn(size, 1, 4, 4, generator=generator), torch.randint(CLASSES, (size,), generator=generator)
    )
    data = TaskData(split, split, split, tuple("abcdefg"), (1, 4, 4), (0.0,), (1.0,))
    return TaskDataModule(data, key=(), batch_size=batch_size)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES)).eval()


def evaluated(*case):
    """The scores, and what is taken for what, image by image."""
    predictions = Predictions(case[0])
    scores = measure_together(network(), datamodule(*case), "test", CLASSES, predictions=predictions)
    return scores, predictions.actual.tolist(), predictions.predicted.tolist()


def _work(rank, world_size, store, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, world_size), rank=rank, world_size=world_size)
    queue.put((rank, [evaluated(*case) for case in CASES]))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_shared_scores_are_those_of_one_process_exactly(tmp_path, world_size):
    expected = [evaluated(*case) for case in CASES]
    assert [sum(scores.images) for scores, *_ in expected] == [size for size, _ in CASES]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["packnet_pl.run.metrics"])
    queue = context.Queue()
    processes = [
        context.Process(target=_work, args=(rank, world_size, str(tmp_path / "store"), queue))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [found[rank] for rank in range(world_size)] == [expected] * world_size


def test_one_process_needs_no_group():
    assert rank_and_world_size() == (0, 1)
    assert sum_(torch.tensor([3, 4])).tolist() == [3, 4]
    for case in CASES:
        found = measure_together(network(), datamodule(*case), "val", CLASSES)
        assert found == measure(network(), datamodule(*case).batches("val"), CLASSES)
