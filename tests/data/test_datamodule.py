"""One task's splits, served to a Trainer."""

from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

from packnet_pl.data import TaskData
from packnet_pl.training import ShardedStrategy, TaskDataModule

KEY = (0, "a", "train")


def numbered(start, size):
    """Samples that are their own numbers."""
    return TensorDataset(torch.arange(start, start + size), torch.zeros(size, dtype=torch.int64))


def module(train=20, batch_size=4, key=KEY, trainer=None, **kwargs):
    data = TaskData(numbered(0, train), numbered(100, 10), numbered(200, 7), ("x", "y"), (1, 1, 1), (0.0,), (1.0,))
    found = TaskDataModule(data, key=key, batch_size=batch_size, **kwargs)
    found.trainer = trainer
    return found


def process(rank=0, world_size=1, epoch=0, strategy=None):
    """What the datamodule asks of a Trainer."""
    progress = SimpleNamespace(current=SimpleNamespace(processed=epoch))
    fit_loop = SimpleNamespace(epoch_progress=progress)
    return SimpleNamespace(
        global_rank=rank, world_size=world_size, fit_loop=fit_loop, current_epoch=99, strategy=strategy
    )


def batches(loader):
    return [batch.tolist() for batch, _ in loader]


def flat(loader):
    return list(chain.from_iterable(batches(loader)))


def test_training_is_shuffled_and_validation_and_test_are_in_order():
    found = module()
    train = flat(found.train_dataloader())
    assert sorted(train) == list(range(20))
    assert train != list(range(20))
    assert flat(found.val_dataloader()) == list(range(100, 110))
    assert flat(found.test_dataloader()) == list(range(200, 207))


def test_a_last_batch_that_is_not_full_is_left_out_of_training_only():
    found = module(train=10)
    assert [len(batch) for batch in batches(found.train_dataloader())] == [4, 4]
    assert [len(batch) for batch in batches(found.val_dataloader())] == [4, 4, 2]
    assert [len(batch) for batch in batches(found.test_dataloader())] == [4, 3]


def test_a_split_smaller_than_a_batch_is_trained_all_the_same():
    (batch,) = batches(module(train=3).train_dataloader())
    assert sorted(batch) == [0, 1, 2]


def test_the_order_follows_the_epochs_done():
    orders = [flat(module(trainer=process(epoch=epoch)).train_dataloader()) for epoch in (0, 1, 1)]
    assert orders[0] != orders[1] == orders[2]


def test_the_key_is_read_when_a_fit_begins():
    found = module()
    first = flat(found.train_dataloader())
    found.key = (0, "a", "retrain")
    assert flat(found.train_dataloader()) != first
    found.key = KEY
    assert flat(found.train_dataloader()) == first


def test_the_order_does_not_depend_on_the_global_generator():
    first = flat(module().train_dataloader())
    torch.manual_seed(1)
    assert flat(module().train_dataloader()) == first


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_batch_size_is_for_all_processes_together(world_size):
    loaders = [module(batch_size=8, trainer=process(rank, world_size)).train_dataloader() for rank in range(world_size)]
    per_process = [batches(loader) for loader in loaders]
    assert all(len(batch) == 8 // world_size for found in per_process for batch in found)
    together = [list(chain.from_iterable(step)) for step in zip(*per_process, strict=True)]
    alone = batches(module(batch_size=8).train_dataloader())
    assert [sorted(step) for step in together] == [sorted(step) for step in alone]


@pytest.mark.parametrize(("batch_size", "world_size"), [(4, 3), (1, 2)])
def test_a_batch_size_that_processes_cannot_share_is_refused(batch_size, world_size):
    match = f"batch size {batch_size} is for a whole step; with {world_size} processes and 1 batches per step it must"
    with pytest.raises(ValueError, match=match):
        module(batch_size=batch_size, trainer=process(0, world_size)).train_dataloader()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"batch_size": 0}, "batch size is 0; allowed is 1 or more"),
        ({"batch_size": -4}, "batch size is -4"),
        ({"accumulate": 0}, "batches per step are 0; allowed is 1 or more"),
        ({"num_workers": -1}, "number of loader workers is -1; allowed is 0 or more"),
    ],
)
def test_bad_numbers_are_refused(given, match):
    with pytest.raises(ValueError, match=match):
        module(**given)


def interrupted(epoch, batches_done):
    """A Trainer after ``batches_done`` batches of an epoch; all of them processed means that it is over."""
    found = process(epoch=epoch)
    found.fit_loop.epoch_progress.current.ready = epoch + (batches_done > 0)
    current = SimpleNamespace(processed=batches_done)
    found.fit_loop.epoch_loop = SimpleNamespace(batch_progress=SimpleNamespace(current=current))
    return found


@pytest.mark.parametrize("done", [0, 1, 3, 5])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_interrupted_epoch_goes_on_with_the_next_batch(done, num_workers):
    whole = batches(module(trainer=process(epoch=2)).train_dataloader())
    saved = module(trainer=interrupted(2, done)).state_dict()
    assert saved == {"epoch": 2, "batch": done}
    # Lightning makes the iterator before it restores its own count of epochs.
    resumed = module(trainer=process(epoch=0), num_workers=num_workers)
    resumed.load_state_dict(saved)
    assert batches(resumed.train_dataloader()) == whole[done:]
    resumed.trainer = process(epoch=3)
    assert batches(resumed.train_dataloader()) == batches(module(trainer=process(epoch=3)).train_dataloader())


def test_each_process_goes_on_with_its_own_next_batch():
    for rank in (0, 1):
        whole = batches(module(trainer=process(rank, 2, epoch=1)).train_dataloader())
        resumed = module(trainer=process(rank, 2))
        resumed.load_state_dict({"epoch": 1, "batch": 3})
        assert batches(resumed.train_dataloader()) == whole[3:]


def test_between_epochs_no_batch_of_the_next_one_is_done():
    trainer = interrupted(2, 5)
    trainer.fit_loop.epoch_progress.current.ready = 2
    assert module(trainer=trainer).state_dict() == {"epoch": 2, "batch": 0}


def test_a_new_fit_forgets_where_an_earlier_one_was_resumed():
    found = module(trainer=process())
    found.load_state_dict({"epoch": 1, "batch": 3})
    found.setup("validate")
    assert len(flat(found.train_dataloader())) == 8
    found.setup("fit")
    assert batches(found.train_dataloader()) == batches(module(trainer=process()).train_dataloader())


@pytest.mark.parametrize(("accumulate", "world_size"), [(2, 1), (2, 2), (4, 1)])
def test_the_batch_size_is_for_a_whole_step(accumulate, world_size):
    found = module(batch_size=8, accumulate=accumulate, trainer=process(0, world_size))
    assert {len(batch) for batch in batches(found.train_dataloader())} == {8 // accumulate // world_size}


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("split", ["val", "test"])
def test_processes_share_the_batches_of_one_process_without_duplicates(split, world_size):
    whole = batches(module(batch_size=2).batches(split))
    shares = [batches(module(batch_size=2).batches(split, rank, world_size)) for rank in range(world_size)]
    assert [shares[i % world_size][i // world_size] for i in range(len(whole))] == whole
    assert sum(map(len, shares)) == len(whole)


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader"])
def test_a_trainer_of_several_processes_gets_this_processs_share(loader):
    shares = [flat(getattr(module(batch_size=2, trainer=process(rank, 2)), loader)()) for rank in range(2)]
    assert sorted(chain.from_iterable(shares)) == flat(getattr(module(), loader)())


@pytest.mark.parametrize("world_size", [2, 3])
def test_under_a_sharded_strategy_each_process_has_as_many_batches_and_each_image_counts_once(world_size):
    trainers = [process(rank, world_size, strategy=ShardedStrategy()) for rank in range(world_size)]
    shares = [list(module(batch_size=2, trainer=trainer).val_dataloader()) for trainer in trainers]
    assert len({len(share) for share in shares}) == 1
    counted = [image.item() for share in shares for images, labels in share for image in images[: len(labels)]]
    assert sorted(counted) == list(range(100, 110))
    # Who has none left computes with an image that has no label.
    filling = [images for share in shares for images, labels in share if not len(labels)]
    assert len(filling) == -5 % world_size
    assert all(len(images) == 1 for images in filling)


def test_with_fewer_batches_than_processes_all_see_all():
    # In a process without a batch Lightning would leave out validation, and the others would wait for it.
    for rank in range(3):
        assert batches(module(batch_size=5, trainer=process(rank, world_size=3)).val_dataloader()) == [
            list(range(100, 105)),
            list(range(105, 110)),
        ]
