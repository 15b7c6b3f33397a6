"""Layers that observe and count, in eval mode too."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.support.promise.checker import TASKS, Promise, check_promise
from tests.support.promise.own_modules import MOMENTUM, fit_phase, trainer
from tests.support.promise.user_modules import (
    UserModule,
    asked_once,
    images,
    subject_of,
    vectors,
)
from tests.support.promise.user_networks import plain, quantization_aware

pytestmark = [
    pytest.mark.promise("Modules"),
    *map(
        pytest.mark.filterwarnings,
        (
            "ignore:.*nested tensors is in prototype stage",
            "ignore:.*not supported with oneDNN",
            "ignore:.*is deprecated",
            "ignore:.*quant",
            "ignore:.*pin_memory",
        ),
    ),
]


@pytest.mark.promise("Modules", label="a network prepared for quantization-aware training")
def test_quantization_aware_training():
    module = UserModule(quantization_aware(), 8)
    check_promise(asked_once(module, subject_of(module, images())), "quantization-aware", trainer=trainer())


@pytest.mark.promise("Modules", label="observers that run in eval mode between two tasks, outside subnetwork()")
def test_observers_between_tasks():
    module = UserModule(quantization_aware(), 8)
    used = asked_once(module, subject_of(module, images()))
    promise = Promise(used, "observers between tasks")
    for task in TASKS:
        promise.fit(task, trainer=trainer())
        module.eval()
        module.backbone(3 * torch.randn(8, 1, 8, 8))
        promise.check(after=f"{task}, and an eval pass")
        module.backbone(3 * torch.randn(8, 1, 8, 8))
        module.packnet.state_dict(module)
    module.packnet.verify(module)


@pytest.mark.promise(
    "Modules", status="noticed", label="a layer that writes to a buffer in eval mode, between two tasks"
)
def test_a_layer_that_counts_in_eval_mode():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x + 0.01 * self.seen

    module = UserModule(nn.Sequential(*plain(), Counts()), 8)
    used = asked_once(module, subject_of(module, vectors()))
    Promise(used, "counts").fit("a", trainer=trainer())
    module.eval()
    module.backbone(torch.randn(4, 8))
    with pytest.raises(RuntimeError, match=r"^5\.seen is not .* writes to its buffers in eval mode too"):
        fit_phase(module, "b", data=used.data("b"))
    assert module.packnet.open_task is None


class MovingGain(nn.Module):
    """Multiplies with a buffer, which it replaces in each forward pass of training: the graph needs it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("gain", torch.ones(8))

    def forward(self, x):
        if self.training:
            self.gain = 0.9 * self.gain + 0.1 * x.detach().std(0)
        return self.fc(x) * self.gain


class GraphsBuiltBefore(UserModule):
    """Builds the graphs for both of its optimizers, then steps them."""

    def __init__(self):
        super().__init__(nn.ModuleDict({"left": MovingGain(), "right": MovingGain()}), 8)
        self.automatic_optimization = False

    def forward(self, x):
        return self.heads[self.task](self.backbone["left"](x))

    def configure_optimizers(self):
        left, right = self.backbone["left"], self.backbone["right"]
        return [MOMENTUM([*left.parameters(), *self.heads.parameters()]), MOMENTUM(right.parameters())]

    def training_step(self, batch, batch_idx):
        losses = F.cross_entropy(self(batch[0]), batch[1]), self.backbone["right"](batch[0]).square().mean()
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()


@pytest.mark.promise(
    "Modules", label="two optimizers, graphs built before a step, that need a buffer which is replaced"
)
def test_a_graph_built_before_with_a_moved_buffer():
    module = GraphsBuiltBefore()
    used = subject_of(module, vectors())
    probe = torch.randn(4, 8)
    used.ask = lambda task: [module.backbone["left"](probe), module.backbone["right"](probe)]
    check_promise(used, "two graphs", trainer=trainer())
