"""A network that grows between tasks: what was finished before is, bit for bit, what it was."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from packnet_pl import PackNetMixin, TaskClassifier, fit_task, load_packed, save_packed
from packnet_pl.models import vgg_small
from tests.support.promise.checker import Promise, check_promise
from tests.support.promise.own_modules import MOMENTUM, quiet
from tests.support.promise.user_modules import ADAMW, UserModule, images, subject_of

pytestmark = pytest.mark.promise("Growing")

KEEPINGS = {
    "all shared": {},
    "norms per task": {"norm": "per_task"},
    "norms and biases per task": {"norm": "per_task", "bias": "per_task"},
}
WIDTHS = {"a": (4, 8), "b": (6, 9), "c": (9, 13)}


class Net(nn.Module):
    """Images (N, 1, 8, 8) -> features (N, ``features``)."""

    def __init__(self, channels, features):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels)
        self.drop, self.fc = nn.Dropout(0.25), nn.Linear(9 * channels, features)
        self.last = nn.Linear(features, features)

    def forward(self, x):
        x = F.avg_pool2d(F.leaky_relu(self.bn(self.conv(x))), 2)
        return self.last(self.drop(F.leaky_relu(self.fc(x.flatten(1)))))


def user_module(kind=UserModule, **given):
    return kind(Net(*WIDTHS["a"]), WIDTHS["a"][1], **given)


def grow(module, task):
    """Lets the module grow to what ``task`` is to be learned in, with a head as wide."""
    channels, features = WIDTHS[task]
    example = torch.rand(2, 1, 8, 8, dtype=next(module.backbone.parameters()).dtype)
    module.backbone = module.packnet.grow(Net(channels, features), example=example, root=module)
    module.heads[task] = nn.Linear(features, 3)


def grow_behind(module):
    following = {"a": "b", "b": "c"}
    return lambda task: grow(module, following[task]) if task in following else None


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAMW], ids=["SGD with momentum and decay", "AdamW"])
@pytest.mark.parametrize("keeping", KEEPINGS.values(), ids=KEEPINGS)
def test_it_grows_twice(keeping, optimizer):
    module = user_module(optimizer=optimizer, **keeping)
    check_promise(subject_of(module, images()), "growth", trainer=quiet, between=grow_behind(module))
    assert module.packnet.state.shapes.keys() == {"a", "b"}


def test_it_grows_in_mixed_precision():
    module = user_module(norm="per_task")
    used = subject_of(module, images())
    check_promise(
        used,
        "growth, bf16",
        trainer=lambda *callbacks: quiet(*callbacks, precision="bf16-mixed"),
        between=grow_behind(module),
    )


def test_a_copy_goes_on():
    module = user_module(norm="per_task")
    promise = Promise(subject_of(module, images()), "growth and a copy")
    promise.fit("a", trainer=quiet)
    grow(module, "b")
    promise.subject = subject_of(deepcopy(module), images())
    promise.check(after="the copy")
    promise.fit("b", trainer=quiet)


class Mixed(PackNetMixin, UserModule):
    """Keeps its tasks in checkpoints."""


def test_a_checkpoint_of_the_wider_network_goes_on(tmp_path):
    module = user_module(kind=Mixed, norm="per_task")
    promise = Promise(subject_of(module, images()), "growth and a checkpoint")
    promise.fit("a", trainer=quiet)
    grow(module, "b")
    promise.fit("b", trainer=quiet)
    last = quiet()
    last.strategy.connect(module)
    last.save_checkpoint(tmp_path / "last.ckpt")
    again = Mixed(Net(*WIDTHS["b"]), WIDTHS["a"][1], norm="per_task")
    again.heads["b"] = nn.Linear(WIDTHS["b"][1], 3)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"])
    promise.subject = subject_of(again, images())
    promise.check(after="the checkpoint was read")
    grow(again, "c")
    promise.fit("c", trainer=quiet)


def test_a_task_classifier_its_checkpoint_and_its_packed_file(tmp_path):
    data = images()
    model = TaskClassifier(vgg_small(image_size=8, stages=[[4], [6]], hidden=8))
    then, last = {}, None
    for task in ("a", "b", "c"):
        if model.packnet.tasks:
            model.grow(1.25)
        model.add_task(task, num_classes=3, input_shape=(1, 8, 8))

        def settled(module, task=task):
            with module.predicting(task) as predict, torch.no_grad():
                then[task] = predict(torch.ones(4, 1, 8, 8))

        used = subject_of(user_module(), data)
        last = fit_task(
            model,
            used.data(task),
            task=task,
            prune_ratio=0.5,
            make_trainer=lambda _, callback: quiet(callback),
            settled=settled,
        )
    last.save_checkpoint(tmp_path / "last.ckpt")
    narrow = vgg_small(image_size=8, stages=[[4], [6]], hidden=8)
    read = TaskClassifier.load_from_checkpoint(tmp_path / "last.ckpt", backbone=narrow)
    save_packed(read, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    for task, logits in then.items():
        for network in (model, read, net):
            with torch.no_grad():
                assert torch.equal(network(torch.ones(4, 1, 8, 8), task=task), logits), task


class Normed(Net):
    """With a norm over all channels."""

    def __init__(self, channels, features):
        super().__init__(channels, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, x):
        return self.norm(super().forward(x))


@pytest.mark.promise("Growing", status="refused")
def test_a_network_whose_channels_would_be_elsewhere():
    module = UserModule(Normed(4, 8), 8)
    promise = Promise(subject_of(module, images()), "a growth that is refused")
    promise.fit("a", trainer=quiet)
    with pytest.raises(ValueError, match="its channels are not at the same places any more"):
        module.packnet.grow(Normed(6, 9), example=torch.rand(2, 1, 8, 8))
    promise.check(after="the refusal")
    promise.fit("b", trainer=quiet)


@pytest.mark.promise("Growing", status="refused")
def test_while_a_task_is_open():
    module = user_module()
    promise = Promise(subject_of(module, images()), "a growth that is refused")
    promise.fit("a", trainer=quiet)
    module.packnet.begin_task("b")
    with pytest.raises(RuntimeError, match="'b' is open"):
        grow(module, "b")


@pytest.mark.promise("Growing", status="noticed")
def test_a_narrower_task_was_changed():
    module = user_module()
    promise = Promise(subject_of(module, images()), "growth")
    promise.fit("a", trainer=quiet)
    grow(module, "b")
    at = tuple(module.packnet.owners["fc.weight"].nonzero()[0].tolist())
    with torch.no_grad():
        module.backbone.fc.weight[at] *= 2
    with pytest.raises(RuntimeError, match=r"fc\.weight is not what it was when task 'a' was finished"):
        module.packnet.verify()
