"""An image's augmentation depends on the run's key, the epoch and the image, and on nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from packnet_pl.data import TaskData
from packnet_pl.data.augmentation import SeededItems
from packnet_pl.data.drawn_augmentation import AFFINE, SPECAUGMENT, augmented, drawn_augmentation
from packnet_pl.data.task_data import draws_random_numbers
from packnet_pl.training import TaskDataModule
from tests.support.image_folders import folder, tree, uniform

KEY = (0, "a", "train")


class Noise(Dataset):
    """Items are a random number, and their index."""

    random = True

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.rand(1), torch.tensor(index)


def plain(size=12):
    return TensorDataset(torch.zeros(size, 1), torch.arange(size))


def trainer(epoch=0, rank=0, world_size=1):
    """What the datamodule asks of a Trainer."""
    progress = SimpleNamespace(current=SimpleNamespace(processed=epoch))
    loop = SimpleNamespace(epoch_progress=progress)
    return SimpleNamespace(global_rank=rank, world_size=world_size, fit_loop=loop, strategy=None)


def task(train):
    return TaskData(train, plain(), plain(), ("x", "y"), (1, 1, 1), (0.0,), (1.0,))


def module(train, key=KEY, num_workers=0, batch_size=4, **process):
    found = TaskDataModule(task(train), key=key, batch_size=batch_size, num_workers=num_workers)
    found.trainer = trainer(**process)
    return found


def served(*args, **kwargs):
    """Index -> item of one epoch."""
    loader = module(*args, **kwargs).train_dataloader()
    return {int(label): image.tolist() for batch in loader for image, label in zip(*batch, strict=True)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of noise."""
    root = tree(tmp_path_factory.mktemp("noise"), train=0, test=1, val=1)
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for index in range(6):
            path = uniform(root / "train" / name / f"{index}.png")
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def images(photos):
    """Its training split, which crops and mirrors."""
    return folder(photos, resize=16).train


class Numbered(Dataset):
    """A split whose labels are the indices."""

    def __init__(self, split):
        self.split, self.random = split, split.random

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        return self.split[index][0], torch.tensor(index)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_loader_processes_change_nothing(images, num_workers):
    expected = served(Numbered(images))
    assert len(expected) == 12
    assert served(Numbered(images), num_workers=num_workers) == expected
    assert served(Noise(), num_workers=num_workers) == served(Noise())


@pytest.mark.parametrize("policy", ["trivial", "rand", "auto", "augmix"])
def test_policies_draw_the_same_in_all_loader_processes_and_from_the_cache(photos, tmp_path, policy):
    kind = {"resize": 16, "augment": f"crop+{policy}"}
    plain, cached = (
        Numbered(folder(photos, **kind, **more).train) for more in ({}, {"cache_gb": 0.1, "cache_dir": str(tmp_path)})
    )
    expected = served(plain)
    for _ in range(2):
        assert served(cached, num_workers=2) == expected
    assert expected != served(plain, epoch=1)
    assert expected != served(Numbered(folder(photos, **{**kind, "augment": "crop"}).train))


def drawn(kind):
    """Tensors as the embedded tasks hold them, augmented."""
    images = torch.rand(12, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    return augmented(TensorDataset(images, torch.arange(12)), drawn_augmentation(kind, kind))


@pytest.mark.parametrize("kind", [AFFINE, SPECAUGMENT])
def test_drawn_images_are_the_same_in_all_processes_and_others_in_each_epoch(kind):
    split = drawn(kind)
    before = torch.get_rng_state()
    expected = served(split)
    assert torch.equal(torch.get_rng_state(), before)
    assert served(split, num_workers=2) == expected
    parts = [served(split, rank=rank, world_size=2) for rank in range(2)]
    assert parts[0] | parts[1] == expected
    others = served(split, epoch=1), served(split, key=(1, "a", "train")), served(split.unaugmented)
    assert all(sum(other[index] != expected[index] for index in range(12)) > 9 for other in others)


def test_batch_size_and_ranks_change_nothing():
    expected = served(Noise())
    assert served(Noise(), batch_size=3) == expected
    parts = [served(Noise(), batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    assert parts[0] | parts[1] == expected


def test_what_was_drawn_before_changes_nothing_and_what_comes_after_is_not_changed(images):
    torch.manual_seed(1)
    expected = served(Numbered(images))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert served(Numbered(images)) == expected
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_loader_draws_from_the_global_generator(num_workers):
    before = torch.get_rng_state()
    for train in (plain(), Noise()):
        found = module(train, num_workers=num_workers)
        for loader in (found.train_dataloader(), found.val_dataloader(), found.test_dataloader()):
            assert len(list(loader)) == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_gpus_are_not_seeded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU was seeded"))
    assert len(served(Noise())) == 12


def test_an_exception_in_an_item_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    with pytest.raises(IndexError):
        SeededItems(Subset(Noise(), [0]), KEY)[0, 5, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_items_and_every_part_of_the_key_differ():
    keys = [KEY, (1, "a", "train"), (0, "b", "train"), (0, "a", "retrain")]
    found = [served(Noise(), key=key) for key in keys] + [served(Noise(), epoch=epoch) for epoch in (1, 2)]
    numbers = [number for items in found for (number,) in items.values()]
    assert len(set(numbers)) == len(numbers) == 6 * 12


def test_images_differ_between_epochs(images):
    first, second = (served(Numbered(images), epoch=epoch) for epoch in range(2))
    assert sum(first[index] != second[index] for index in range(12)) > 8


def test_a_share_stays_random():
    taken = task(Noise()).take(0.5)
    assert draws_random_numbers(taken.train)
    assert draws_random_numbers(Subset(taken.train, [0, 1]))
    assert served(taken.train) == served(taken.train, num_workers=2)


def test_data_without_random_numbers_is_served_as_it_was(monkeypatch):
    for split in (plain(), Subset(plain(), [0, 1]), task(plain()).take(0.5).train):
        assert not draws_random_numbers(split)
        assert module(split).train_dataloader().dataset is split
    monkeypatch.setattr("packnet_pl.training.datamodule.SeededItems", None)
    assert len(served(plain())) == 12


def test_the_order_is_the_same_with_and_without_random_numbers():
    order = [label.tolist() for split in (plain(), Noise()) for _, label in module(split).train_dataloader()]
    assert order[:3] == order[3:]


class Recorder(pl.LightningModule):
    """Writes down what it is served."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        numbers, labels = batch
        self.seen.append((self.current_epoch, labels.tolist(), numbers.flatten().tolist()))
        return (self.weight * numbers).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SavesAtStep(pl.Callback):
    """Writes a checkpoint when so many steps are done."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fitted(folder, num_workers=0, max_epochs=3, ckpt_path=None, train=None, **kwargs):
    found = Recorder()
    data = TaskDataModule(task(train or Noise()), key=KEY, batch_size=4, num_workers=num_workers)
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    kwargs = {**settings, "use_distributed_sampler": False, "default_root_dir": folder, **kwargs}
    fitter = pl.Trainer(max_epochs=max_epochs, limit_val_batches=0, log_every_n_steps=1, **kwargs)
    fitter.fit(found, datamodule=data, ckpt_path=ckpt_path)
    fitter.save_checkpoint(folder / "last.ckpt")
    return found.seen


@pytest.mark.filterwarnings("ignore")
def test_a_fit_sees_the_same_with_loader_processes_and_after_a_resume(tmp_path):
    expected = fitted(tmp_path)
    assert [epoch for epoch, _, _ in expected] == [0] * 3 + [1] * 3 + [2] * 3
    assert len({number for _, _, numbers in expected for number in numbers}) == 36
    assert fitted(tmp_path, num_workers=2) == expected
    assert fitted(tmp_path, max_epochs=1, num_workers=2) == expected[:3]
    torch.manual_seed(5)
    assert fitted(tmp_path, ckpt_path=tmp_path / "last.ckpt") == expected[3:]
    assert fitted(tmp_path, max_epochs=1) == expected[:3]
    assert fitted(tmp_path, ckpt_path=tmp_path / "last.ckpt", num_workers=2) == expected[3:]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [AFFINE, SPECAUGMENT])
def test_a_fit_sees_the_same_drawn_images_after_a_resume_in_the_middle_of_an_epoch(tmp_path, kind):
    expected = fitted(tmp_path, train=drawn(kind), max_epochs=2)
    assert len(expected) == 6
    middle = tmp_path / "middle.ckpt"
    assert fitted(tmp_path, train=drawn(kind), max_epochs=2, callbacks=[SavesAtStep(4, middle)]) == expected
    for num_workers in (0, 2):
        again = fitted(tmp_path, train=drawn(kind), max_epochs=2, ckpt_path=middle, num_workers=num_workers)
        assert again == expected[4:]


@pytest.mark.filterwarnings("ignore")
def test_overfitting_one_batch_repeats_it_with_the_same_numbers(tmp_path):
    seen = fitted(tmp_path, overfit_batches=1)
    assert [labels for _, labels, _ in seen] == [[0, 1, 2, 3]] * 3
    assert seen[0][2] == seen[1][2] == seen[2][2]
