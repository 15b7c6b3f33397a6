"""The figures for sharded networks in docs/scale.md: what each weight needs is what real tensors need."""

import gc
import importlib
import sys

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn, optim
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from packnet_pl import PackNet, save_packed
from packnet_pl.core import sharded_state_dict
from packnet_pl.core.finite import check_all_finite
from packnet_pl.core.selection import Candidates
from packnet_pl.core.sharded_releases import lowest_share_of_all
from packnet_pl.core.shards import Processes
from packnet_pl.core.units import Units
from packnet_pl.models import TaskInfo
from tests.support import ROOT

WIDTH = 512


@pytest.fixture(scope="module")
def scale():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("sharded_scale")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def network(depth=2):
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(depth)))


def held_bytes():
    gc.collect()
    tensors = [item for item in gc.get_objects() if type(item) in {torch.Tensor, nn.Parameter}]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.layout == torch.strided]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class Alone(Processes):
    """One of eight processes, of which the others have nothing; adds up what it would send."""

    rank, size = 0, 8

    def __init__(self):
        self.__dict__["sent"] = 0

    def sum(self, counts):
        self.__dict__["sent"] += counts.nbytes
        return counts


class Peak(TorchDispatchMode):
    """The most bytes that were in use beyond those of some tensors."""

    def __init__(self, *known):
        super().__init__()
        self.known = {StorageWeakRef(tensor.untyped_storage()) for tensor in known}
        self.live, self.bytes = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.live[StorageWeakRef(leaf.untyped_storage())] = leaf.untyped_storage().nbytes()
        self.live = {ref: size for ref, size in self.live.items() if not ref.expired() and ref not in self.known}
        self.bytes = max(self.bytes, sum(self.live.values()))
        return out


@pytest.mark.slow
def test_the_document_has_the_tables_that_the_script_computes(scale):
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert all(table in text for table in scale.tables().values())


def test_what_each_weight_needs_is_what_it_has(scale):
    net, each = network(), scale.Bytes()
    sizes = scale.sizes_of(net)
    assert sizes.layers == [WIDTH * WIDTH] * 2
    assert sizes.others == 2 * WIDTH
    found, before = [], held_bytes()
    packnet = PackNet(net)

    def more():
        nonlocal before
        now = held_bytes()
        found.append((now - before) / sizes.parameters)
        before = now

    packnet.begin_task("a")
    more()
    packnet.prune(0.75)
    more()
    packnet.finish_task()
    more()
    packnet.begin_task("b")
    more()
    optimizer = optim.Adam(net.parameters())
    net(torch.ones(1, WIDTH)).sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    more()
    optimizer.step()
    more()
    del gradients
    expected = [each.owners, each.masks, -each.masks, each.masks + each.frozen, each.gradients, each.moments]
    assert found == pytest.approx(expected, abs=0.05)
    assert each.packs == sum(expected[i] for i in (0, 3, 4, 5)) + each.weights


def test_what_pruning_needs_and_sends(scale):
    each, depth = scale.Bytes(), 4
    weights = [torch.randn(WIDTH, WIDTH) for _ in range(depth)]
    owners = [torch.ones(WIDTH, WIDTH, dtype=torch.uint8) for _ in range(depth)]
    layers = {
        str(index): Units(Candidates("", weight, owner, by_magnitude=True), weight.numel(), weight.numel(), None)
        for index, (weight, owner) in enumerate(zip(weights, owners, strict=True))
    }
    processes = Alone()
    with Peak(*weights, *owners) as peak:
        check_all_finite(dict(enumerate(weights)), processes)
        released = lowest_share_of_all(layers, 0.75, "layer", processes)
    assert sum(int(mask.sum()) for mask in released.values()) == depth * round(0.75 * WIDTH * WIDTH)
    sizes = scale.Sizes([WIDTH * WIDTH] * depth, 0)
    assert processes.sent == scale.counts_sent(sizes)["prune"]
    most = each.released * sizes.weights + each.scratch * WIDTH * WIDTH
    assert 0.8 * most < peak.bytes <= most


@pytest.mark.slow
def test_files_have_the_bytes_that_are_computed(scale, tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.heads = network(), nn.ModuleDict({task: nn.Linear(WIDTH, 2) for task in "abc"})
            self.packnet = PackNet(self.backbone)

    torch.manual_seed(0)
    model = Model()
    sizes = scale.sizes_of(model.backbone)
    for task in "abc":
        model.packnet.begin_task(task, private=[f"heads.{task}"])
        with torch.no_grad():
            for parameter in model.backbone.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.packnet.restore_()
        model.packnet.prune(scale.RATIO)
        model.packnet.finish_task()
    written = save_packed(model, tmp_path / "packed.safetensors", infos={task: TaskInfo(2) for task in "abc"})
    size = sum(written.bytes_below(part) for part in ("values/", "owners/", "shared/"))
    assert size == pytest.approx(scale.packed_bytes(sizes, 3), rel=0.02)

    optimizer = optim.Adam(model.backbone.parameters(), lr=0.0)
    model.backbone(torch.ones(1, WIDTH)).sum().backward()
    optimizer.step()
    moments = {str(key): value for key, value in optimizer.state_dict()["state"].items()}
    content = {"model": model.backbone.state_dict(), "moments": moments, "packnet": sharded_state_dict(model.packnet)}
    dcp.save(content, checkpoint_id=tmp_path / "dcp", no_dist=True)
    size = sum(path.stat().st_size for path in (tmp_path / "dcp").iterdir())
    assert size == pytest.approx(scale.bytes_of(sizes, 1)["checkpoint"], rel=0.02)
