"""What is given to ``fully_shard``, and fits under a sharded strategy: in one process, which has all rows."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

from packnet_pl import PackNetCallback
from packnet_pl.core.shards import is_shard
from packnet_pl.training import DenseTeacher, RecalibrateNorms, ShardedStrategy, shard_
from packnet_pl.training.model_parallel import check_all_sharded, check_model_parallel
from packnet_pl.training.sharding import units_of
from packnet_pl.training.strategy_hooks import StrategyHooks
from tests.support.fits import OwnModule, loader
from tests.support.trainers import quiet


@pytest.fixture
def mesh(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/together", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))


class Net(nn.Module):
    """A stem, blocks in a list in another module, and stages of blocks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.encoder = nn.Module()
        self.encoder.blocks = nn.ModuleList([Block(), Block()])
        self.stages = nn.Sequential(nn.Sequential(Block(), Block()), nn.Sequential(Block()))
        self.norm = nn.LayerNorm(4)


def names_of(module):
    names = {part: name for name, part in module.named_modules()}
    return [names[unit] for unit in units_of(module)]


def test_the_blocks_of_lists_and_stages_are_gathered_one_by_one():
    assert names_of(Net()) == ["encoder.blocks.0", "encoder.blocks.1", "stages.0.0", "stages.0.1", "stages.1.0"]


def test_layers_in_a_row_are_gathered_one_by_one_but_for_small_ones():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
    assert names_of(net) == ["0", "4"]
    assert names_of(nn.Linear(4, 4)) == []


def test_blocks_that_share_a_parameter_are_gathered_together():
    net = Net()
    net.encoder.blocks[1].layers[0].weight = net.encoder.blocks[0].layers[0].weight
    assert names_of(net) == ["stages.0.0", "stages.0.1", "stages.1.0"]
    net.stages[1][0] = net.stages[0][0]  # one block in two places
    assert names_of(net) == ["stages.0.1"]


def test_a_network_is_divided_once(mesh):
    net = Net()
    shard_(net, mesh)
    weights = list(net.parameters())
    assert all(map(is_shard, weights))
    assert [isinstance(unit, FSDPModule) for unit in units_of(net)] == [True] * 5
    assert isinstance(net, FSDPModule)
    assert not isinstance(net.stages[0], FSDPModule)
    shard_(net, mesh)
    assert all(a is b for a, b in zip(weights, net.parameters(), strict=True))
    shard_(nn.ReLU(), mesh)  # nothing to divide


def test_what_learns_must_be_divided(mesh):
    root = nn.ModuleDict({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
    shard_(root["backbone"], mesh)
    with pytest.raises(ValueError, match=r"head\.weight and 1 more would be trained by each process for itself"):
        check_all_sharded(root)
    root["head"].requires_grad_(False)
    check_all_sharded(root)
    shard_(root["head"].requires_grad_(True), mesh)
    check_all_sharded(root)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (ModelParallelStrategy(), r"tensor_parallel_size='auto': only rows.*data_parallel_size=N"),
        (ModelParallelStrategy(1, 2), "tensor_parallel_size=2"),
        (ModelParallelStrategy(2, 1, save_distributed_checkpoint=False), "save_distributed_checkpoint=False"),
    ],
)
def test_other_divisions_are_refused(strategy, message):
    with pytest.raises(ValueError, match=message):
        check_model_parallel(strategy, [])


COPYING = [WeightAveraging(), DenseTeacher(lambda module: module), RecalibrateNorms()]


@pytest.mark.parametrize("callback", COPYING, ids=lambda callback: type(callback).__name__)
def test_what_copies_the_network_is_refused(callback):
    with pytest.raises(ValueError, match=rf"{type(callback).__name__} under ModelParallelStrategy: it copies"):
        check_model_parallel(ModelParallelStrategy(2, 1), [callback])


class Strategy:
    def __init__(self):
        self.calls = []

    def broadcast(self, value):
        return value

    def setup_optimizers(self, trainer):
        self.calls.append(f"optimizers of {trainer}")

    def load_checkpoint(self, path, weights_only=None):
        self.calls.append(f"loads {path.name}, {weights_only}")
        return {"loaded": True}


def test_the_hooks_are_called_around_what_the_strategy_does_and_leave_no_trace(tmp_path):
    path, strategy = tmp_path / "one.ckpt", Strategy()
    torch.save({"epoch": 3}, path)

    def before_loading(found, checkpoint):
        strategy.calls.append(f"before {found.name} of epoch {checkpoint['epoch']}")
        return lambda: strategy.calls.append("after")

    trainer = SimpleNamespace(strategy=strategy)
    outer = StrategyHooks(trainer, before_optimizers=lambda: strategy.calls.append("first"))
    inner = StrategyHooks(trainer, before_loading=before_loading)
    strategy.setup_optimizers("it")
    assert strategy.load_checkpoint(path, weights_only=True) == {"loaded": True}
    assert strategy.calls == [
        "first",
        "optimizers of it",
        "before one.ckpt of epoch 3",
        "loads one.ckpt, True",
        "after",
    ]
    inner.remove()
    outer.remove()
    assert vars(strategy).keys() == {"calls"}


class Divided(OwnModule):
    raises = False

    def configure_model(self):
        for part in [self.backbone, *self.heads.values()]:
            shard_(part, self.device_mesh["data_parallel"])

    def training_step(self, batch, batch_idx):
        if self.raises:
            self.backbone.fc.register_forward_hook(self._raise)
        return super().training_step(batch, batch_idx)

    def _raise(self, *_):
        raise KeyError("in the middle of a pass")


def train(module, **settings):
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    trainer = quiet(callback, strategy=ShardedStrategy(), devices=1, **settings)
    return trainer, lambda **fit: trainer.fit(module, loader(), **fit)


@pytest.mark.usefixtures("without_processes_after")
def test_a_fit_leaves_no_trace():
    module = Divided()
    trainer, fit = train(module)
    fit()
    assert module.packnet.phase == "retrain"
    assert not vars(trainer.strategy).keys() & {"setup_optimizers", "load_checkpoint"}
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.usefixtures("without_processes_after")
def test_an_exception_in_the_middle_of_a_pass_is_the_one_that_is_raised():
    module = Divided()
    module.raises = True
    trainer, fit = train(module)
    with pytest.raises(KeyError, match="in the middle of a pass"):
        fit()
    assert module.packnet.open_task == "a"
    assert not vars(trainer.strategy).keys() & {"setup_optimizers", "load_checkpoint"}


@pytest.mark.usefixtures("without_processes_after")
def test_a_checkpoint_of_one_process_is_refused_in_the_middle_of_a_fit(tmp_path):
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    alone = quiet(callback)
    alone.fit(OwnModule(), loader())
    alone.save_checkpoint(tmp_path / "one.ckpt")
    module = Divided()
    _, fit = train(module, max_epochs=2)
    with pytest.raises(ValueError, match=r"one\.ckpt was written by one process, or by DDP.*without ckpt_path"):
        fit(ckpt_path=tmp_path / "one.ckpt")
    assert module.packnet.open_task is None
