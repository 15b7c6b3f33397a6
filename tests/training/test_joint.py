"""The baseline that learns all tasks at once."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl.methods import JointClassifier
from tests.support.fits import (
    RECIPES,
    SmallNet,
    answer,
    bits,
    fit_method,
    images,
    quiet,
    same,
    stop_after_an_epoch,
    tensors,
    wanted,
)

CLASSES = {"a": 3, "b": 2, "c": 4}
OFFSETS = {"a": 0, "b": 3, "c": 5}


def new_model(seed=0, dropout=0.25):
    torch.manual_seed(seed)
    model = JointClassifier(SmallNet(dropout))
    model.recipes = RECIPES
    for task, classes in CLASSES.items():
        model.add_task(task, num_classes=classes)
    return model


def batch(labels):
    return images(n=len(labels)), torch.tensor(labels)


def joined(n=32):
    labels = torch.randint(sum(CLASSES.values()), (n,), generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(images(1, n) + labels.view(-1, 1, 1, 1), labels), batch_size=8)


def own(label):
    """The task of a label, and the class in that task."""
    task = max((task for task in OFFSETS if OFFSETS[task] <= label), key=OFFSETS.get)
    return task, label - OFFSETS[task]


MIXED = [0, 2, 3, 4, 5, 8, 1, 3]


def test_the_loss_is_the_mean_over_images_of_their_own_heads_cross_entropy():
    model = new_model(dropout=0)
    model.begin_fit()
    images, labels = batch(MIXED)
    loss, logits = model.loss_and_logits(images, labels)
    features = model.backbone(images)
    expected = []
    for place, label in enumerate(MIXED):
        task, found = own(label)
        alone = model.heads[task](features[place : place + 1])
        expected.append(cross_entropy(alone, torch.tensor([found])))
        begin, end = OFFSETS[task], OFFSETS[task] + CLASSES[task]
        assert torch.allclose(logits[place, begin:end], alone[0], atol=1e-6)
        assert logits[place, :begin].eq(-torch.inf).all()
        assert logits[place, end:].eq(-torch.inf).all()
    assert torch.allclose(loss, sum(expected) / len(MIXED), atol=1e-6)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    reference = torch.autograd.grad(sum(expected) / len(MIXED), list(model.parameters()))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(gradients, reference, strict=True))


@pytest.mark.parametrize(("labels", "absent"), [([0, 1, 2], "bc"), ([3, 4, 8], "a"), ([5, 6, 7, 8], "ab")])
def test_a_head_of_whose_task_no_image_is_there_gets_a_gradient_of_zero(labels, absent):
    model = new_model()
    model.begin_fit()
    model.loss_and_logits(*batch(labels))[0].backward()
    for task in CLASSES:
        for parameter in model.heads[task].parameters():
            assert parameter.grad.eq(0).all().item() == (task in absent)


def test_accuracy_counts_the_right_class_of_the_right_task():
    model = new_model()
    data = joined(48)
    right = total = 0
    for inputs, labels in data:
        for image, label in zip(inputs, labels.tolist(), strict=True):
            task, found = own(label)
            with model.predicting(task) as logits, torch.no_grad():
                right += int(logits(image.unsqueeze(0)).argmax()) == found
            total += 1
    assert 0 < right < total
    (found,) = quiet().validate(model, data, verbose=False)
    assert found["val_accuracy"] == pytest.approx(right / total)
    # No task has more than five classes, and those of others are no answer.
    assert found["val_top5"] == 1


def test_one_fit_trains_everything_and_leaves_one_head_to_learn():
    model = new_model()
    gradients, before = wanted(model), tensors(model)
    fit_method(model, "c", data=joined())
    assert all(not torch.equal(value, before[name]) for name, value in tensors(model).items())
    assert wanted(model) == gradients
    assert [task for task in model.tasks if model.heads[task].weight.requires_grad] == ["c"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_each_task_answers_afterwards_as_when_it_was_settled(precision):
    model, settled = new_model(), {}

    def ask(module):
        settled.update({task: bits(answer(module, task)) for task in module.tasks})

    fit_method(model, "c", data=joined(), settled=ask, precision=precision)
    assert all(torch.equal(bits(answer(model, task)), value) for task, value in settled.items())


def test_a_resumed_fit_ends_as_one_that_was_not_broken_off(tmp_path):
    expected = new_model()
    fit_method(expected, "c", data=joined())
    stop_after_an_epoch(new_model(), "c", 0, tmp_path / "last.ckpt", data=joined())
    resumed = new_model(seed=7)
    fit_method(resumed, "c", data=joined(), resume=tmp_path / "last.ckpt")
    assert same(tensors(resumed), tensors(expected))
    assert wanted(resumed) == wanted(expected)


def test_it_learns():
    model = new_model(dropout=0)
    before = quiet().validate(model, joined(), verbose=False)[0]["val_accuracy"]
    fit_method(model, "c", data=joined(), max_epochs=15)
    after = quiet().validate(model, joined(), verbose=False)[0]["val_accuracy"]
    assert after > before + 0.15
