"""Lightning's own demo modules."""

import pytest
import torch
from pytorch_lightning.demos.boring_classes import BoringModel, DemoModel, ManualOptimBoringModel, RandomDataset
from pytorch_lightning.demos.lstm import LightningLSTM, SimpleLSTM
from pytorch_lightning.demos.transformer import LightningTransformer, Transformer
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet
from tests.support.promise.checker import Subject, check_promise
from tests.support.promise.own_modules import trainer
from tests.support.promise.user_networks import VOCABULARY

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


def check_demo(module, data, ask, name, **settings):
    check_promise(Subject(module, data, ask), name, trainer=trainer(**settings), tasks=("a", "b"))


BORING = {"BoringModel": BoringModel, "ManualOptimBoringModel": ManualOptimBoringModel, "DemoModel": DemoModel}


@pytest.mark.promise("Modules", label="Lightning's demos, all of the LightningModule shared")
@pytest.mark.parametrize("name", BORING)
def test_boring_demo(name):
    module = BORING[name]()
    module.packnet = PackNet(module)
    probe = torch.randn(4, 32)
    data = {task: DataLoader(RandomDataset(32, 24), batch_size=8) for task in "ab"}
    check_demo(module, data.get, lambda _: [module(probe)], name)


@pytest.mark.promise("Modules", label="Lightning's demos, a module of the LightningModule shared: BoringModel")
def test_boring_demo_with_a_shared_module():
    module = BoringModel()
    module.packnet = PackNet(module.layer)
    probe = torch.randn(4, 32)
    data = {task: DataLoader(RandomDataset(32, 24), batch_size=8) for task in "ab"}
    check_demo(module, data.get, lambda _: [module(probe)], "BoringModel.layer")


@pytest.mark.promise("Modules", label="Lightning's demos, all of the LightningModule shared: LightningTransformer")
def test_transformer_demo():
    module = LightningTransformer(vocab_size=VOCABULARY)
    module.model = Transformer(VOCABULARY, ninp=8, nhead=2, nhid=8, nlayers=1)
    module.prepare_data = lambda: None
    module.packnet = PackNet(module)
    probe = torch.randint(VOCABULARY, (2, 2, 5))
    words = {task: TensorDataset(*torch.randint(VOCABULARY, (2, 12, 5))) for task in "ab"}
    data = {task: DataLoader(text, batch_size=4) for task, text in words.items()}
    check_demo(module, data.get, lambda _: [module(*probe)], "LightningTransformer")


@pytest.mark.promise("Modules", label="Lightning's demos, a module of the LightningModule shared: LightningLSTM")
def test_lstm_demo():
    module = LightningLSTM(vocab_size=VOCABULARY)
    module.model = SimpleLSTM(VOCABULARY, ninp=8, nhid=8, nlayers=2)
    module.prepare_data = lambda: None
    module.packnet = PackNet(module.model)
    probe = torch.randint(VOCABULARY, (4, 5))
    words = {task: TensorDataset(*torch.randint(VOCABULARY, (2, 12, 5))) for task in "ab"}
    data = {task: DataLoader(text, batch_size=4) for task, text in words.items()}

    def ask(_):
        return [module.model(probe, module.model.init_hidden(4))[0]]

    check_demo(module, data.get, ask, "LightningLSTM", gradient_clip_val=0.25)
