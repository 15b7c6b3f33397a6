"""Handwritten digits."""

import pytest
import torch
from sklearn.datasets import load_digits

from packnet_pl.data import digits


def pixels(split):
    """The images as they were before normalisation."""
    return ((split.tensors[0] * 0.3 + 0.2) * 255).round().to(torch.uint8)


def test_splits_have_their_sizes_and_one_shape():
    data = digits()
    sizes = [len(split) for split in (data.train, data.val, data.test)]
    assert sizes == [400, 200, 1197]
    assert data.class_names == tuple("0123456789")
    assert data.input_shape == (1, 24, 24)
    for split in (data.train, data.val, data.test):
        image, label = split[0]
        assert (image.shape, image.dtype, label.dtype) == ((1, 24, 24), torch.float32, torch.int64)
        assert set(split.tensors[1].tolist()) == set(range(10))


def test_splits_are_consecutive_blocks_of_the_source():
    data, source = digits(), load_digits()
    labels = torch.cat([split.tensors[1] for split in (data.train, data.val, data.test)])
    assert labels.tolist() == source.target.tolist()


def test_no_image_is_in_two_splits():
    data = digits()
    train, val, test = ({image.numpy().tobytes() for image in pixels(s)} for s in (data.train, data.val, data.test))
    assert not train & val
    assert not train & test
    assert not val & test


def test_images_are_normalised_and_padded_by_two_pixels():
    data = digits()
    images = data.train.tensors[0]
    assert (data.mean, data.std) == ((0.2,), (0.3,))
    assert images.min().item() == pytest.approx((0 - 0.2) / 0.3)
    assert images.max().item() == pytest.approx((1 - 0.2) / 0.3)
    border = pixels(data.train)
    border[:, :, 2:-2, 2:-2] = 0
    assert not border.any()


def test_two_calls_give_the_same():
    first, second = digits(), digits()
    assert torch.equal(first.test.tensors[0], second.test.tensors[0])


def test_other_sizes_leave_the_rest_to_the_test_split():
    data = digits(num_train=10, num_val=20)
    assert [len(split) for split in (data.train, data.val, data.test)] == [10, 20, 1767]


@pytest.mark.parametrize(("num_train", "num_val"), [(0, 200), (400, 0), (-1, 200), (1597, 200), (5000, 200)])
def test_sizes_that_leave_a_split_empty_are_refused(num_train, num_val):
    with pytest.raises(ValueError, match=f"num_train={num_train}, num_val={num_val}: each must be at least 1"):
        digits(num_train=num_train, num_val=num_val)
