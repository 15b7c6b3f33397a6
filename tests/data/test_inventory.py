"""What an inventory tells apart, and what not."""

import os

import pytest
import torch
from torch.utils.data import TensorDataset

from packnet_pl.data import TaskData, digits, read_cubs
from packnet_pl.data.image_files import LOOKED_INTO
from packnet_pl.data.inventory import list_files
from packnet_pl.run.data_record import differing_data, keep_data_record, read_data_record
from tests.support.image_folders import folder, tree, uniform
from tests.support.published import change, cubs, published

SPLITS = ("train", "val", "test")


def changed(path, how):
    """Returns what is said after ``how`` has changed a folder of images."""
    before = keep_and_read(path, folder(path / "set"))
    how(path / "set")
    return differing_data(before, folder(path / "set"), SPLITS)


def keep_and_read(path, data):
    keep_data_record(path, "task", data)
    return read_data_record(path, "task")


def test_the_same_files_elsewhere_are_the_same_data(tmp_path):
    assert folder(tree(tmp_path / "a")).inventory == folder(tree(tmp_path / "b" / "c")).inventory
    taken = [folder(path).take(0.5).inventory for path in (tmp_path / "a", tmp_path / "b" / "c")]
    assert taken[0] == taken[1] != folder(tmp_path / "a").inventory


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            lambda root: (root / "test" / "dog" / "00.png").unlink(),
            "test has 3 images instead of 4 (gone: 1, the first is test/dog/00.png)",
        ),
        (
            lambda root: uniform(root / "test" / "cat" / "new.png"),
            "test has 5 images instead of 4 (new: 1, the first is test/cat/new.png)",
        ),
        (
            lambda root: (root / "test" / "cat" / "00.png").rename(root / "test" / "dog" / "0.png"),
            "test: as many images, but not the same (gone: 1, the first is test/cat/00.png; new: 1, the",
        ),
        (
            lambda root: uniform(root / "test" / "cat" / "00.png", size=(40, 40)),
            "test: as many images, but not the same (of another size, class or box: 1, the first is test/cat/00.png)",
        ),
    ],
)
def test_files_that_are_gone_new_moved_or_replaced_are_named(tmp_path, how, said):
    tree(tmp_path / "set")
    assert changed(tmp_path, lambda root: None) is None
    assert changed(tmp_path, how).startswith(said)


def test_boxes_and_labels_of_lists_count(tmp_path):
    before = keep_and_read(tmp_path, published(read_cubs, cubs(tmp_path / "set")))
    change(tmp_path / "set" / "bounding_boxes.txt", 5, "5 1.0 5.0 20.0 30.0")
    said = differing_data(before, published(read_cubs, tmp_path / "set"), SPLITS)
    assert said.startswith(
        "test: as many images, but not the same (of another size, class or box: 1, the first is 001.B"
    )


def test_tensors_count_and_what_is_neither_is_only_counted():
    assert digits().inventory == digits().inventory
    assert digits().inventory.splits["test"] != digits(num_val=201).inventory.splits["test"]

    def task(value, images=2):
        split = TensorDataset(torch.full((images, 1, 2, 2), value), torch.zeros(images, dtype=torch.int64))
        return TaskData(split, split, [(torch.zeros(1), 0)], ("a", "b"), (1, 2, 2), (0.5,), (0.5,))

    assert task(1.0).inventory == task(1.0).inventory != task(2.0).inventory
    assert (task(1.0).inventory.splits["test"].images, task(1.0).inventory.splits["test"].digest) == (1, None)


def test_names_that_are_no_unicode_are_noted_and_shown(tmp_path):
    tree(tmp_path / "set")
    odd = os.fsdecode(b"caf\xe9 \n.png")
    uniform(tmp_path / "set" / "test" / "cat" / "a.png").rename(tmp_path / "set" / "test" / "cat" / odd)
    before = keep_and_read(tmp_path, folder(tmp_path / "set"))
    assert differing_data(before, folder(tmp_path / "set"), SPLITS) is None
    (tmp_path / "set" / "test" / "cat" / odd).unlink()
    assert r"gone: 1, the first is test/cat/caf\xe9 \x0a.png" in differing_data(
        before, folder(tmp_path / "set"), SPLITS
    )


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"x" * 100])
def test_a_damaged_record_is_none(tmp_path, content):
    keep_and_read(tmp_path, digits())
    (path,) = tmp_path.rglob("data.json.gz")
    whole = path.read_bytes()
    for damaged in (content, whole[:-20]):
        path.write_bytes(damaged)
        assert read_data_record(tmp_path, "task") is None


def test_of_very_many_files_no_sizes_are_asked_for(tmp_path, monkeypatch):
    data = folder(tree(tmp_path))
    assert all(line.split(" ")[1].isdigit() for line in list_files(data.splits)["test"])
    monkeypatch.setattr("packnet_pl.data.inventory.LOOKED_INTO", 5)
    assert all(line.split(" ")[1] == "-" for line in list_files(data.splits)["test"])
    assert LOOKED_INTO == 100_000
