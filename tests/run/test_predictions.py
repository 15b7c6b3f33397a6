"""What is taken for what: the counts are those of a plain loop, and the images are those that were confused."""

import io

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from packnet_pl.confusion import read_confusion, write_confusion
from packnet_pl.data import TaskData
from packnet_pl.run.metrics import measure
from packnet_pl.run.predictions import Predictions, confusion_of
from packnet_pl.training import TaskDataModule

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def task_data(images, classes, side=6, channels=3, seed=0):
    """Images that are whole numbers of 8 bits before they are normalised, and what they are."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (images, channels, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.randint(classes, (images,), generator=generator)
    shape = (1, channels, 1, 1)
    mean, std = MEAN[:channels], STD[:channels]
    normalised = (pixels.float() / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    split = TensorDataset(normalised, labels)
    names = tuple(f"class {number}" for number in range(classes))
    return TaskData(split, split, split, names, (channels, side, side), mean, std), pixels, labels.tolist()


def evaluated(data, classes, table):
    """A network that answers by the number of the image: each gets its row of ``table``."""
    predictions, seen = Predictions(len(data.test)), [0]

    def predict(images):
        seen[0] += len(images)
        return table[seen[0] - len(images) : seen[0]]

    loader = TaskDataModule(data, key=(), batch_size=16).batches("test")
    return measure(predict, loader, classes, predictions=predictions), predictions


@pytest.mark.parametrize(("images", "classes"), [(60, 3), (200, 40), (1500, 1000)])
def test_counts_are_those_of_a_plain_loop(images, classes):
    data, _, labels = task_data(images, classes, side=2)
    table = torch.randn(images, classes, generator=torch.Generator().manual_seed(1))
    scores, predictions = evaluated(data, classes, table)
    counts = {}
    for label, row in zip(labels, table.tolist(), strict=True):
        pair = label, row.index(max(row))
        counts[pair] = counts.get(pair, 0) + 1
    found = confusion_of(predictions, data, data.class_names, "a")
    assert list(found.entries()) == [(*pair, counts[pair]) for pair in sorted(counts)]
    assert found.accuracy == scores.top1
    assert [sum(n for c, _, n in found.entries() if c == each) for each in range(classes)] == list(scores.images)
    wrong = sorted((pair for pair in counts if pair[0] != pair[1]), key=lambda pair: (-counts[pair], pair))
    assert [(pair.actual, pair.predicted) for pair in found.pairs] == wrong[: len(found.pairs)]
    assert len(found.pairs) == min(8, len(wrong))


def test_images_are_the_first_that_were_confused_and_undone_to_their_pixels():
    data, pixels, labels = task_data(80, 4)
    table = torch.randn(80, 4, generator=torch.Generator().manual_seed(1))
    found = confusion_of(evaluated(data, 4, table)[1], data, data.class_names, "a")
    for pair in found.pairs:
        confused = [i for i in range(80) if labels[i] == pair.actual and table[i].argmax() == pair.predicted]
        assert len(confused) == pair.images
        assert [example.index for example in pair.examples] == confused[:2]
        assert pair.reference.index == labels.index(pair.predicted)
        for example in (*pair.examples, pair.reference):
            array = np.asarray(Image.open(io.BytesIO(example.png)))
            assert np.array_equal(array, pixels[example.index].permute(1, 2, 0).numpy())


def test_images_are_at_most_96_pixels_wide_and_may_be_grey():
    data, _, _ = task_data(20, 2, side=200, channels=1)
    found = confusion_of(evaluated(data, 2, torch.randn(20, 2))[1], data, data.class_names, "a")
    image = Image.open(io.BytesIO(found.pairs[0].examples[0].png))
    assert (image.size, image.mode) == ((96, 96), "L")
    data, _, _ = task_data(20, 2, channels=2)
    assert confusion_of(evaluated(data, 2, torch.randn(20, 2))[1], data, data.class_names, "a").pairs == ()


def test_nothing_confused_has_no_pairs_and_a_class_nobody_saw_no_reference():
    data, _, labels = task_data(20, 3)
    right = torch.eye(3)[torch.tensor(labels)]
    found = confusion_of(evaluated(data, 3, right)[1], data, data.class_names, "a")
    assert (found.pairs, found.accuracy) == ((), 1.0)
    wide = torch.nn.functional.one_hot(torch.full((20,), 3), 4).float()
    pairs = confusion_of(evaluated(data, 4, wide)[1], data, (*data.class_names, "unseen"), "a").pairs
    assert {(pair.predicted, pair.reference) for pair in pairs} == {(3, None)}


def test_a_file_is_read_as_it_was_written_and_refused_otherwise(tmp_path):
    data, _, _ = task_data(40, 4)
    found = confusion_of(evaluated(data, 4, torch.randn(40, 4))[1], data, data.class_names, "a")
    write_confusion(tmp_path / "c.json", found)
    assert read_confusion(tmp_path / "c.json") == found
    for change in (
        {"images": found.images[1:]},
        {"actual": (4, *found.actual[1:])},
        {"images": [0, *found.images[1:]]},
        {"images": (), "actual": (), "predicted": (), "pairs": ()},
    ):
        text = msgspec.json.encode({**msgspec.to_builtins(found), **change})
        (tmp_path / "c.json").write_bytes(text)
        with pytest.raises(ValueError, match=r"c\.json is no confusion matrix, or is damaged: "):
            read_confusion(tmp_path / "c.json")
