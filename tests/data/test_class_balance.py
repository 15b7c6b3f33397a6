"""Classes of few images count as much as others: by weight, or by how often they are drawn."""

from collections import Counter

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from packnet_pl.data import TaskData, class_labels, class_weights, join_tasks
from packnet_pl.data.augmentation import SeededItems
from packnet_pl.training import SeededSampler, TaskDataModule
from tests.support.image_folders import folder, tree

LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
KEY = (0, "a", "train")


def tensors(labels=LABELS):
    return TensorDataset(torch.arange(len(labels)).float().view(-1, 1), labels)


def task(train, names=("x", "y", "z")):
    return TaskData(train, tensors(), tensors(), names, (1, 1, 1), (0.0,), (1.0,))


class Noise(Dataset):
    """Items are a random number, and their index."""

    random, labels = True, LABELS

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        return torch.rand(1), torch.tensor(index)


def test_labels_are_known_without_reading_an_image(tmp_path):
    found = folder(tree(tmp_path, train=3, test=1, val=1))
    assert class_labels(found.train).tolist() == [0, 0, 0, 1, 1, 1]
    assert class_labels(Subset(found.train, [5, 0])).tolist() == [1, 0]
    assert class_labels(Subset(Subset(tensors(), [0, 60, 99]), [2, 1])).tolist() == [2, 1]
    joined = join_tasks({"one": task(tensors()), "two": task(Noise())})
    assert class_labels(joined.train).tolist() == [*LABELS.tolist(), *(LABELS + 3).tolist()]


def test_a_split_that_does_not_tell_them_is_refused():
    class Silent(Dataset):
        def __len__(self):
            return 4

    for split in (Silent(), Subset(Silent(), [0])):
        with pytest.raises(
            ValueError, match="needs the class of each image, and Silent has no labels: give it an attrib"
        ):
            class_labels(split)


def test_each_class_weighs_as_much_as_any_other():
    weights = class_weights(LABELS, 3)
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    assert [float((weights[LABELS] * (label == LABELS)).sum()) for label in range(3)] == pytest.approx([100 / 3] * 3)
    assert class_weights(torch.arange(12) % 4, 4).tolist() == [1.0] * 4
    assert class_weights(torch.tensor([0, 0]), 2).tolist() == [0.5, 1.0], "a class without images: as if it had one"


def sampler(rank=0, world_size=1, epoch=0, key=KEY, skip=0):
    weights = class_weights(LABELS, 3)[LABELS]
    return SeededSampler(len(LABELS), key, lambda: epoch, rank, world_size, lambda: skip, weights)


def test_classes_are_drawn_equally_often_and_an_epoch_is_as_long_as_before():
    drawn = Counter(int(LABELS[index]) for epoch in range(30) for index in sampler(epoch=epoch))
    assert sum(drawn.values()) == 30 * len(LABELS)
    assert all(abs(count - 1000) < 100 for count in drawn.values()), drawn
    assert len(sampler()) == len(list(sampler())) == len(LABELS)


def test_the_order_follows_from_key_and_epoch_and_ranks_share_it():
    whole = list(sampler())
    assert whole == list(sampler())
    assert len({tuple(sampler(epoch=epoch)) for epoch in range(3)} | {tuple(sampler(key=(1, "a", "train")))}) == 4
    parts = [list(sampler(rank, 3)) for rank in range(3)]
    merged = [part[index] for index in range(len(parts[0])) for part in parts]
    assert (merged[:100], merged[100:]) == (whole, whole[:2])
    assert list(sampler(skip=70)) == whole[70:]


def test_an_image_that_is_drawn_again_gets_other_numbers_the_same_in_every_rank_and_after_a_resume():
    keys = list(sampler().keys())
    assert [index for _, index, _ in keys] == list(sampler())
    assert len(set(keys)) == len(keys)
    assert max(before for *_, before in keys) > 2
    halves = [list(sampler(rank, 2).keys()) for rank in range(2)]
    assert [halves[number % 2][number // 2] for number in range(100)] == keys
    assert list(sampler(skip=70).keys()) == keys[70:]
    items = SeededItems(Noise(), KEY)
    assert len({float(items[key][0]) for key in keys}) == len(keys)
    # The first time, those that it has without balance.
    usual = {int(label): image for image, label in torch.utils.data.DataLoader(items, batch_size=None)}
    assert all(torch.equal(items[key][0], usual[key[1]]) for key in keys if key[2] == 0)


@pytest.mark.parametrize("split", [tensors(), Noise()], ids=["tensors", "random"])
def test_a_loader_balances_when_it_is_told_to(split):
    found = TaskDataModule(task(split), key=KEY, batch_size=10, balanced=True)
    index = 0 if isinstance(split, TensorDataset) else 1
    drawn = torch.cat([batch[index].flatten() for batch in found.train_dataloader()]).long()
    assert drawn.tolist() == list(sampler())
    found.balanced = False
    usual = torch.cat([batch[index].flatten() for batch in found.train_dataloader()]).long()
    assert sorted(usual.tolist()) == list(range(100))
