"""What would break the promise is refused, or noticed at the next chance, with the name of the parameter."""

import copy
import re

import pytest
import torch
from torch import nn

from packnet_pl import PackNetCallback, TaskClassifier, fit_task, save_packed
from packnet_pl.training import Recipe
from tests.support.promise.checker import Promise, bits
from tests.support.promise.own_modules import (
    FEATURES,
    MOMENTUM,
    ConvNet,
    OwnModule,
    fit_phase,
    images,
    loader,
    quiet,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("Misuse", status="noticed")


@pytest.fixture(scope="module")
def _finished():
    torch.manual_seed(0)
    promise = Promise(subject(OwnModule()), "misuse")
    promise.fit("a", trainer=trainer())
    promise.fit("b", trainer=trainer())
    return promise


@pytest.fixture
def promise(_finished):
    """Two finished tasks, and what they were; a copy for each test."""
    copied = Promise(subject(copy.deepcopy(_finished.subject.module)), "misuse")
    copied.finished = dict(_finished.finished)
    return copied


def fit_without_callback(module):
    module.task = "c"
    quiet().fit(module, loader("c"))


def load_others(module):
    module.load_state_dict({**OwnModule().state_dict()})


def train_mode(module):
    module.train()
    module(torch.randn(8, 1, 8, 8))


def new_parameter(module):
    module.backbone.conv1.weight = nn.Parameter(torch.randn_like(module.backbone.conv1.weight))


@torch.no_grad()
def one_weight(module):
    """Changes the last bit of one weight of the first task."""
    weight, owner = module.backbone.fc2.weight, module.packnet.owners["fc2.weight"]
    place = tuple((owner == 1).nonzero()[0])
    weight[place] = torch.nextafter(weight[place], torch.tensor(10.0))


@torch.no_grad()
def a_bias(module):
    module.backbone.fc1.bias.add_(1)


CHANGES = {
    "a fit without the callback": (fit_without_callback, "conv1.weight"),
    "other weights loaded": (load_others, "conv1.weight"),
    "a forward pass in training mode outside a fit": (train_mode, "bn1.running_mean"),
    "a parameter replaced": (new_parameter, "conv1.weight"),
    "the last bit of one weight": (one_weight, "fc2.weight"),
    "a bias": (a_bias, "fc1.bias"),
    "the module converted to double precision": (lambda module: module.double(), "conv1.weight"),
}
CHANCES = {
    "the next fit": lambda module, _: fit_phase(module, "c", "train", 0.5),
    "begin_task": lambda module, _: module.packnet.begin_task("c"),
    "state_dict": lambda module, _: module.packnet.state_dict(),
    "verify": lambda module, _: module.packnet.verify(),
    "a checkpoint of a fit": lambda module, folder: save_checkpoint(module, folder),
}


def save_checkpoint(module, folder):
    writer = quiet(PackNetCallback(task="c", phase="train"))
    writer.strategy.connect(module)
    writer.save_checkpoint(folder / "last.ckpt")


@pytest.mark.parametrize("chance", CHANCES, ids=[f"then {chance}" for chance in CHANCES])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_from_outside(change, chance, promise, tmp_path):
    module, (make, name) = promise.subject.module, CHANGES[change]
    make(module)
    with pytest.raises(RuntimeError, match=rf"^{re.escape(name)} .*when task 'a' was finished"):
        CHANCES[chance](module, tmp_path)
    assert (module.packnet.tasks, module.packnet.open_task) == (["a", "b"], None)
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def a_head(module):
    module.heads["a"][0].weight.add_(1)


def statistics_of_a_head(module):
    module.heads["a"].train()
    module.heads["a"](torch.randn(8, FEATURES))


PRIVATE = {
    "a weight of a finished task's head": (a_head, "heads.a.0.weight"),
    "a running statistic of a finished task's head": (statistics_of_a_head, "heads.a.1.running_mean"),
}
PRIVATE_CHANCES = {
    "the next fit": CHANCES["the next fit"],
    "a checkpoint of a fit": CHANCES["a checkpoint of a fit"],
    "verify": lambda module, _: module.packnet.verify(module),
}


@pytest.mark.parametrize("chance", PRIVATE_CHANCES, ids=[f"then {chance}" for chance in PRIVATE_CHANCES])
@pytest.mark.parametrize("change", PRIVATE)
def test_a_change_of_a_private_module(change, chance, promise, tmp_path):
    module, (make, name) = promise.subject.module, PRIVATE[change]
    make(module)
    with pytest.raises(RuntimeError, match=rf"^{re.escape(name)} .*when task 'a' was finished"):
        PRIVATE_CHANCES[chance](module, tmp_path)
    assert (module.packnet.tasks, module.packnet.open_task) == (["a", "b"], None)


WHILE_OPEN = {
    "a fit without the callback": CHANGES["a fit without the callback"],
    "other weights loaded": CHANGES["other weights loaded"],
    "a weight of a finished task's head": PRIVATE["a weight of a finished task's head"],
}


@pytest.mark.promise("Misuse", status="noticed", label="while a task is open, then its next fit")
@pytest.mark.parametrize("change", WHILE_OPEN)
def test_a_change_while_a_task_is_open(change, promise):
    module, (make, name) = promise.subject.module, WHILE_OPEN[change]
    fit_phase(module, "c", "train", 0.5)
    make(module)
    with pytest.raises(RuntimeError, match=rf"^{re.escape(name)} .*when task 'a' was finished"):
        fit_phase(module, "c", "retrain")
    assert (module.packnet.tasks, module.packnet.phase) == (["a", "b"], "retrain")


@pytest.mark.promise("Misuse", label="a step of the user's own inside subnetwork: all of the shared part is given back")
def test_a_step_inside_a_view(promise):
    module = promise.subject.module
    optimizer = torch.optim.SGD(module.backbone.parameters(), lr=0.1)
    before = tensors(module.backbone)
    with module.packnet.subnetwork("a"):
        module.backbone(images()).square().mean().backward()
        optimizer.step()
        assert tensors(module.backbone) != before
    assert tensors(module.backbone) == before
    promise.check(after="a step inside subnetwork")


def classifier(*tasks):
    recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM)}
    model = TaskClassifier(ConvNet(), num_features=FEATURES, recipes=recipes)
    for task in tasks:
        model.add_task(task, num_classes=3)
        fit_task(model, loader(task), task=task, prune_ratio=0.5, make_trainer=lambda _, callback: quiet(callback))
    return model


def tensors(module):
    return {name: bits(tensor).tolist() for name, tensor in module.state_dict().items()}


@pytest.mark.promise("Misuse", status="noticed", label="a TaskClassifier changed from outside: by save_packed")
def test_a_changed_network_is_not_packed(tmp_path):
    model = classifier("a", "b")
    with torch.no_grad():
        model.backbone.fc2.bias.add_(1)
    with pytest.raises(RuntimeError, match=r"^fc2\.bias .*when task 'a' was finished"):
        save_packed(model, tmp_path / "packed.safetensors")
    assert not list(tmp_path.iterdir())


# Refused before anything is changed.


@pytest.mark.promise("Misuse", status="refused")
def test_a_task_classifier_fitted_without_the_callback():
    model = classifier("a")
    before = tensors(model)
    model.add_task("b", num_classes=3)
    with pytest.raises(ValueError, match="this fit has no PackNetCallback"):
        quiet().fit(model, loader("b"))
    assert tensors(model).items() >= before.items()
    assert model.packnet.tasks == ["a"]


def refused(promise, callbacks, match, data="c"):
    module = promise.subject.module
    module.task, before = data, tensors(module)
    with pytest.raises((ValueError, RuntimeError), match=match):
        quiet(*callbacks).fit(module, loader(data))
    assert tensors(module) == before
    assert (module.packnet.tasks, module.packnet.open_task) == (["a", "b"], None)
    promise.check(after="a fit that was refused")
    promise.fit("c", trainer=trainer())


@pytest.mark.promise("Misuse", status="refused", label="a private module")
@pytest.mark.parametrize(
    ("private", "match"),
    [
        pytest.param("backbone.fc2", "inside the shared module", id="inside the shared module"),
        pytest.param("backbone", "inside the shared module", id="that is the shared module"),
        pytest.param("", "shared module", id="that has the shared module inside"),
        pytest.param("heads.a", "'a'", id="of a finished task"),
        pytest.param("heads", "'a'", id="that has a finished task's inside"),
        pytest.param("heads.z", "no such module", id="that is not there"),
    ],
)
def test_a_private_module_that_is_none(private, match, promise):
    refused(promise, [PackNetCallback(task="c", phase="train", private=private)], match)


@pytest.mark.promise("Misuse", status="refused")
def test_a_finished_task_fitted_again(promise):
    refused(promise, [PackNetCallback(task="a", phase="train")], "that task is finished", data="a")


@pytest.mark.promise("Misuse", status="refused")
def test_a_fit_inside_subnetwork(promise):
    module = promise.subject.module
    module.task = "c"
    with module.packnet.subnetwork("a"), pytest.raises(RuntimeError, match="inside subnetwork"):
        quiet(PackNetCallback(task="c", phase="train")).fit(module, loader("c"))
    promise.check(after="a fit that was refused")
    promise.fit("c", trainer=trainer())


@pytest.mark.promise("Misuse", status="refused")
def test_a_checkpoint_written_inside_subnetwork(promise, tmp_path):
    module = promise.subject.module
    with module.packnet.subnetwork("a"), pytest.raises(RuntimeError, match="inside subnetwork"):
        save_checkpoint(module, tmp_path)
    assert not list(tmp_path.iterdir())
    promise.check(after="a checkpoint that was refused")


@pytest.mark.promise("Misuse", status="refused")
def test_subnetwork_inside_subnetwork(promise):
    packnet = promise.subject.module.packnet
    with packnet.subnetwork("a"), pytest.raises(RuntimeError, match="subnetwork"), packnet.subnetwork("b"):
        pass
    promise.check(after="a view that was refused")
