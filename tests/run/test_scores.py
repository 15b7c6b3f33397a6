import csv

import pytest
import torch

from packnet_pl.run.metrics import Scores, measure, write_accuracy_csv, write_class_csv


def batches(labels, size):
    return [
        (torch.arange(i, min(i + size, len(labels))).float(), labels[i : i + size]) for i in range(0, len(labels), size)
    ]


def answers(table):
    return lambda images: table[images.long()]


def test_counts_are_those_of_a_plain_loop_whatever_the_batches():
    generator = torch.Generator().manual_seed(0)
    table, labels = torch.randn(50, 7, generator=generator), torch.randint(7, (50,), generator=generator)
    right, images, five = [0] * 7, [0] * 7, 0
    for row, label in zip(table.tolist(), labels.tolist(), strict=True):
        order = sorted(range(7), key=lambda index: -row[index])
        images[label] += 1
        right[label] += order[0] == label
        five += label in order[:5]
    for size in (50, 8, 1):
        assert measure(answers(table), batches(labels, size), 7) == Scores(tuple(right), five, tuple(images))


def test_fractions_are_exact():
    scores = Scores((1, 0, 2, 0, 0, 0), 5, (3, 1, 2, 1, 0, 0))
    assert scores.top1 == 3 / 7
    assert scores.top5 == 5 / 7


@pytest.mark.parametrize("num_classes", [2, 5])
def test_there_is_no_top_five_of_five_classes(num_classes):
    scores = measure(answers(torch.eye(num_classes)), batches(torch.arange(num_classes), 2), num_classes)
    assert scores.top1 == 1.0
    assert scores.top5 is None


def test_tables_hold_every_task_and_class_also_without_images(tmp_path):
    cats, cars = Scores((1, 0), None, (2, 0)), Scores((1,) * 6, 6, (1,) * 6)
    write_accuracy_csv(tmp_path / "a.csv", [{"cats": cats}, {"cats": cats, "cars": cars}])
    write_class_csv(tmp_path / "c.csv", {"cats": cats}, {"cats": ["tabby, grey", "tom"]})
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["after", "task", "top1", "top5"],
            ["cats", "cats", "0.5", ""],
            ["cars", "cats", "0.5", ""],
            ["cars", "cars", "1.0", "1.0"],
        ]
    with (tmp_path / "c.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["task", "class", "pictures", "accuracy"],
            ["cats", "tabby, grey", "2", "0.5"],
            ["cats", "tom", "0", ""],
        ]
