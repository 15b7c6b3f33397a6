"""The embedded tasks with `augment`: what is changed, by how much, and what is left alone."""

import pickle

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from packnet_pl.data import digits, glyphs, join_tasks, spectro
from packnet_pl.data.drawn_augmentation import AFFINE, SPECAUGMENT, augmented, drawn_augmentation
from packnet_pl.data.task_data import draws_random_numbers, unaugmented
from packnet_pl.training import TaskDataModule

KINDS = [AFFINE, SPECAUGMENT]
FEW = {"train_per_class": 2, "val_per_class": 1, "test_per_class": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache of images, so that each is drawn once."""
    return tmp_path_factory.mktemp("drawn")


def greek(folder, **kwargs):
    return glyphs("greek", **FEW, cache_dir=str(folder), **kwargs)


def inverted(folder, **kwargs):
    return greek(folder, inverted=True, **kwargs)


def sounds(folder, **kwargs):
    return spectro(**FEW, cache_dir=str(folder), **kwargs)


def numerals(folder, **kwargs):
    return digits(**kwargs)


EMBEDDED = [(greek, AFFINE), (inverted, AFFINE), (numerals, AFFINE), (sounds, SPECAUGMENT)]


@pytest.mark.parametrize(("make", "kind"), EMBEDDED)
def test_training_images_alone_are_changed_and_none_by_default(folder, make, kind):
    usual, plain, changed = (make(folder, **given) for given in ({}, {"augment": "none"}, {"augment": kind}))
    for name, split in usual.splits.items():
        assert type(split) is type(plain.splits[name]) is TensorDataset
        for other in (plain, changed):
            assert all(map(torch.equal, split.tensors, other.splits[name].tensors))
    assert [draws_random_numbers(split) for split in changed.splits.values()] == [True, False, False]
    assert changed.inventory == usual.inventory  # what an image is drawn from is the same data
    (image, label), (original, expected) = changed.train[5], usual.train[5]
    assert label == expected
    assert (image.shape, image.dtype) == (original.shape, original.dtype)
    assert not torch.equal(image, original)
    assert torch.equal(usual.train[5][0], original)
    assert unaugmented(changed.train)[5][0].equal(original)


@pytest.mark.parametrize(("make", "kind"), EMBEDDED)
@pytest.mark.parametrize("given", [AFFINE, SPECAUGMENT, "flip_crop", "trivial", None, True])
def test_what_does_not_fit_is_refused_with_all_there_are(tmp_path, make, kind, given):
    if given != kind:
        with pytest.raises(ValueError, match=rf"^augment is {given!r}; there are \['none', '{kind}'\]$"):
            make(tmp_path, augment=given)
        assert list(tmp_path.iterdir()) == []  # it is refused before anything is drawn


def changes(image, kind, count):
    split = augmented(TensorDataset(image.unsqueeze(0), torch.tensor([0])), drawn_augmentation(kind, kind))
    torch.manual_seed(0)
    return torch.stack([split[0][0] for _ in range(count)])


def test_an_affine_map_brings_nothing_in_from_outside_but_the_edge():
    image = torch.full((1, 24, 24), -1.4)
    torch.testing.assert_close(changes(image, AFFINE, 300), image.expand(300, 1, 24, 24))


def test_an_affine_map_keeps_a_letter_in_place_and_about_as_large():
    image = torch.zeros(1, 24, 24)
    image[:, 7:17, 7:17] = 1
    found = changes(image, AFFINE, 300)[:, 0]
    areas = found.sum(dim=(1, 2))
    assert 100 * 0.88**2 * 0.95 < areas.min() < 90
    assert 110 < areas.max() < 100 * 1.12**2 * 1.05
    places = torch.arange(24.0) - 11.5
    for axis in (1, 2):
        middles = (found.sum(dim=3 - axis) * places).sum(dim=1) / areas
        assert 0.5 < middles.abs().max() < 1.3
        assert abs(middles.mean()) < 0.15


def test_a_spectrogram_loses_bands_and_moves_in_time_alone():
    row, column = torch.arange(1.0, 25).view(24, 1), torch.arange(1.0, 25).view(1, 24)
    heights, widths, shifts = set(), set(), set()
    for found in changes((100 * row + column).unsqueeze(0), SPECAUGMENT, 400)[:, 0]:
        rows, columns = (found == 0).all(dim=1), (found == 0).all(dim=0)
        heights.add(int(rows.sum()))
        widths.add(int(columns.sum()))
        assert torch.equal(found == 0, rows.view(24, 1) | columns.view(1, 24))
        kept = found[~rows][:, ~columns]
        assert torch.equal(kept // 100, row[~rows].expand_as(kept))
        moved = (kept[0] % 100) - column[0, ~columns]
        shifts.add(int(moved[2:-2].unique()))  # the ends are mirrored
    assert heights == widths == {0, 1, 2, 3}
    assert shifts == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_or_joined_split_stays_random_and_can_be_had_unaugmented(folder, kind):
    data = {AFFINE: numerals, SPECAUGMENT: sounds}[kind](folder, augment=kind)
    for split in (data.take(0.5).train, join_tasks({"a": numerals(folder), "b": data}).train):
        assert draws_random_numbers(split)
        plain = unaugmented(split)
        assert not draws_random_numbers(plain)
        assert unaugmented(plain) is plain
        assert not torch.equal(split[len(split) - 1][0], plain[len(split) - 1][0])
        assert split[len(split) - 1][1] == plain[len(split) - 1][1]
    assert pickle.loads(pickle.dumps(data.train)).tensors[0].equal(data.train.tensors[0])  # as loaders that are spawned


def test_other_splits_are_their_own_unaugmented_ones(folder):
    data = numerals(folder)
    for split in (data.train, Subset(data.train, [0, 1]), join_tasks({"a": data, "b": data}).train):
        assert unaugmented(split) is split


def test_a_datamodule_serves_the_same_order_unaugmented_where_there_is_another(folder):
    assert TaskDataModule(numerals(folder), key=(0, "a", "train")).unaugmented_dataloader() is None
    module = TaskDataModule(numerals(folder, augment=AFFINE), key=(0, "a", "train"))
    plain = TaskDataModule(numerals(folder), key=(0, "a", "train")).train_dataloader()
    for (found, labels), (expected, classes) in zip(module.unaugmented_dataloader(), plain, strict=True):
        assert torch.equal(found, expected)
        assert torch.equal(labels, classes)
    assert not torch.equal(next(iter(module.train_dataloader()))[0], next(iter(plain))[0])
