"""Modules of a user's own are packed, or it is said what is missing."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from packnet_pl import PackNet, load_packed, save_packed
from packnet_pl.core.bits import as_integers as bits
from packnet_pl.models import TaskInfo, vgg_small

TASKS = {"cats": 12, "cars": 20}


def features():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 64))


class MyModel(nn.Module):
    """As in the README."""

    def __init__(self, backbone=None, size=64, heads=None, **packnet):
        super().__init__()
        self.trunk = backbone or features()
        self.heads = nn.ModuleDict(heads or {task: nn.Linear(size, classes) for task, classes in TASKS.items()})
        self.packnet = PackNet(self.trunk, **packnet)

    def forward(self, images, task):
        return self.heads[task](self.trunk(images))


def trained(model, tasks=tuple(TASKS), channels=3, private="heads.{}"):
    """Takes tasks from begin to finish with a few steps of a loop."""
    images = torch.randn(4, channels, 8 if channels == 3 else 24, 8 if channels == 3 else 24)
    for task in tasks:
        model.packnet.begin_task(task, private=[private.format(task)], root=model)
        optimizer = torch.optim.SGD([*model.trunk.parameters(), *model.heads[task].parameters()], lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            model.heads[task](model.trunk(images)).square().mean().backward()
            model.packnet.mask_gradients_()
            optimizer.step()
            model.packnet.restore_()
        model.packnet.prune(0.5)
        model.packnet.finish_task(model)
    return model.eval()


def answers(model, task, images):
    with model.packnet.subnetwork(task), torch.no_grad():
        return model(images, task)


def test_the_readme_s_module_is_packed_as_it_is_and_answers_with_the_same_bits(tmp_path):
    model = trained(MyModel())
    drawn = torch.get_rng_state()
    save_packed(model, tmp_path / "own.safetensors")
    assert torch.equal(torch.get_rng_state(), drawn)
    with pytest.raises(ValueError, match=r"names no backbone: give the module as load_packed\(path, backbone=...\)"):
        load_packed(tmp_path / "own.safetensors")
    network = load_packed(tmp_path / "own.safetensors", backbone=features())
    assert network.tasks == ["cats", "cars"]
    images = torch.randn(5, 3, 8, 8)
    for task in TASKS:
        wanted = answers(model, task, images)
        assert torch.equal(bits(network(images, task=task)), bits(wanted))
        with torch.no_grad():
            assert torch.equal(bits(network.standalone(task)(images)), bits(wanted))
    save_packed(network, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "own.safetensors").read_bytes()


def test_a_backbone_of_a_builder_needs_none_to_be_given_and_what_is_known_of_a_task_is_kept(tmp_path):
    backbone = vgg_small(stages=((4,), (6,)), hidden=8)
    model = trained(MyModel(backbone, size=8), channels=1)
    info = TaskInfo(12, class_names=tuple(map(str, range(12))), input_shape=(1, 24, 24), mean=(0.5,), std=(0.25,))
    save_packed(model, tmp_path / "own.safetensors", infos={"cats": info})
    network = load_packed(tmp_path / "own.safetensors")
    assert network.info("cats") == info
    assert network.info("cars") == TaskInfo(20)
    images = torch.randn(3, 1, 24, 24)
    assert torch.equal(bits(network(images, task="cars")), bits(answers(model, "cars", images)))


def test_a_head_inside_a_private_module_can_be_named(tmp_path):
    model = trained(MyModel(heads={"cats": nn.Sequential(nn.Linear(64, 12))}), ["cats"])
    with pytest.raises(
        ValueError, match=r"its own are \[heads.cats: Sequential\].*heads=\{'cats': ...\} names another"
    ):
        save_packed(model, tmp_path / "own.safetensors")
    save_packed(model, tmp_path / "own.safetensors", heads={"cats": model.heads["cats"][0]})
    network, images = load_packed(tmp_path / "own.safetensors", backbone=features()), torch.randn(5, 3, 8, 8)
    assert torch.equal(bits(network(images, task="cats")), bits(answers(model, "cats", images)))


def test_double_precision_stays(tmp_path):
    model = MyModel(heads={"cats": nn.Linear(64, 12)}).double().eval()
    model.packnet.begin_task("cats", private=["heads.cats"], root=model)
    model.packnet.finish_task(model)
    save_packed(model, tmp_path / "own.safetensors")
    network, images = load_packed(tmp_path / "own.safetensors", backbone=features()), torch.randn(5, 3, 8, 8).double()
    assert torch.equal(network(images, task="cats"), answers(model, "cats", images))


def test_what_the_file_does_not_hold_is_named_in_a_warning(tmp_path):
    model = trained(MyModel(), ["cats"])
    with pytest.warns(UserWarning, match=r"it has no heads\.cars\.weight and 1 tensors more of MyModel"):
        save_packed(model, tmp_path / "own.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_packed(trained(model, ["cars"]), tmp_path / "own.safetensors")
    model.register_buffer("mean", torch.zeros(3), persistent=False)
    with pytest.warns(UserWarning, match=r"it has no mean of MyModel"):
        save_packed(model, tmp_path / "own.safetensors")


REFUSED = {
    "no packnet": (lambda: nn.Linear(2, 2), {}, "Linear is no module with a PackNet as its attribute packnet"),
    "no module": (lambda: SimpleNamespace(packnet=PackNet(features())), {}, "SimpleNamespace is no module with a"),
    "no task": (MyModel, {}, "there is no task yet"),
    "an open task": (lambda: opened(MyModel()), {}, r"tasks \['cats'\] are not finished"),
    "a deeper head": (
        lambda: trained(MyModel(heads={"cats": nn.Sequential(nn.Linear(64, 9), nn.Linear(9, 12))}), ["cats"]),
        {},
        "of task 'cats' it holds one nn.Linear with a bias",
    ),
    "no bias": (lambda: trained(MyModel(heads={"cats": nn.Linear(64, 12, bias=False)}), ["cats"]), {}, "with a bias"),
    "an unknown task": (MyModel, {"heads": {"dogs": nn.Linear(64, 2)}}, "task 'dogs' was given, and finished are"),
}


def opened(model):
    model.packnet.begin_task("cats", private=["heads.cats"], root=model)
    return model


@pytest.mark.parametrize(("make", "given", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_missing_is_said_in_one_line_and_nothing_is_written(tmp_path, make, given, said):
    with pytest.raises(ValueError, match=said) as refused:
        save_packed(make(), tmp_path / "own.safetensors", **given)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
