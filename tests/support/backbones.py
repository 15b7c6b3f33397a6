"""What every backbone must do, whatever its name."""

import json
from dataclasses import dataclass

import torch

from packnet_pl import PackNet, load_packed, save_packed
from packnet_pl.models import Heads, TaskInfo, build_backbone


@dataclass
class Model:
    backbone: torch.nn.Module
    heads: Heads
    packnet: PackNet | None


def images(size, channels=3, count=2):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def check_features_and_gradients(net, images):
    """Features have the promised length and every parameter gets a finite gradient."""
    features = net.train()(images)
    assert features.shape == (len(images), net.num_features)
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    net.zero_grad()


def check_rebuilt(net, images):
    """The builder is JSON and builds the same network."""
    again = build_backbone(json.loads(json.dumps(net.builder)))
    assert "pretrained" not in net.builder["arguments"]
    assert again.builder == net.builder
    assert again.num_features == net.num_features
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net.eval()(images), again.eval()(images))


def check_packing(net, images, path, lr=0.01):
    """Two tasks go in, and both come out of a file to the bit, built by name."""
    packnet = PackNet(net)
    assert packnet.summary().refused == {}
    model = Model(net, Heads(net.num_features), packnet)
    expected = {}
    for number, task in enumerate(("latin", "greek")):
        head = model.heads.add(task, TaskInfo(number + 2))
        packnet.begin_task(task)
        step(packnet, head, images, lr)
        packnet.prune(0.5)
        step(packnet, head, images, lr)
        packnet.finish_task()
        with torch.no_grad():
            expected[task] = head(net.eval()(images))
    packnet.verify()
    save_packed(model, path)
    loaded = load_packed(path)
    assert loaded.backbone.builder == net.builder
    with torch.no_grad(), loaded.packnet.subnetwork("latin"):
        assert torch.equal(loaded.heads["latin"](loaded.backbone.eval()(images)), expected["latin"])
    with torch.no_grad():
        assert torch.equal(loaded.heads["greek"](loaded.backbone.eval()(images)), expected["greek"])


def step(packnet, head, images, lr):
    optimizer = torch.optim.SGD([*packnet.module.parameters(), *head.parameters()], lr=lr)
    optimizer.zero_grad()
    head(packnet.module.train()(images)).square().mean().backward()
    packnet.mask_gradients_()
    optimizer.step()
    packnet.restore_()
