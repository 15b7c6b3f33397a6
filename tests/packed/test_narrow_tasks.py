"""Packed files of networks that have grown: each task is computed at its own width, to the bit, however it is asked."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from packnet_pl import TaskClassifier, load_packed, save_packed
from packnet_pl.models import resnet20, torchvision_backbone
from tests.packed.test_hostile import VALUES, places, refused
from tests.support import independent_reader as independent
from tests.support.independent_reader import reseal
from tests.support.packed_models import images, packed_model, same_bits

OWN = {"norm": "per_task", "bias": "per_task"}


def trained(packnet, head):
    optimizer = torch.optim.AdamW([*packnet.module.parameters(), *head.parameters()], 1e-3)
    packnet.module.train()
    for _ in range(2):
        optimizer.zero_grad()
        head(packnet.module(images())).square().sum().backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


def learn(model, task):
    """Takes a task from begin to finish; returns its logits right before it is finished, from the live network."""
    model.add_task(task, num_classes=3, input_shape=(1, 8, 8))
    packnet = model.packnet
    packnet.begin_task(task, private=model.private_modules(task), root=model)
    trained(packnet, model.heads[task])
    packnet.prune(0.5)
    trained(packnet, model.heads[task])
    with model.predicting(task) as predict, torch.no_grad():
        logits = predict(images())
    packnet.finish_task(model)
    return logits


def grown(**keeping):
    """A classifier whose tasks "a" (and the two of ``packed_model``) are narrower than "b", and that than "c"."""
    model = packed_model(tasks={"latin": 3, "greek": 2}, **keeping)
    with torch.no_grad():
        then = {task: model(images(), task=task) for task in ("latin", "greek")}
    model.grow(1.5)
    then["b"] = learn(model, "b")
    model.grow(1.3)
    then["c"] = learn(model, "c")
    return model, then


@pytest.fixture(scope="module", params=[{}, OWN], ids=["shared", "per task"])
def case(request, tmp_path_factory):
    torch.manual_seed(0)
    model, then = grown(**request.param)
    path = tmp_path_factory.mktemp("grown") / "packed.safetensors"
    save_packed(model, path)
    return model, then, path


def test_a_network_that_is_read_back_switches_between_tasks_of_several_widths(case):
    model, then, path = case
    net = load_packed(path)
    for task in ("latin", "c", "greek", "b", "b", "latin", "c"):
        assert same_bits(net(images(), task=task), then[task]), task
        with torch.no_grad():
            assert same_bits(model(images(), task=task), then[task]), task
    mixed = net(images(), task=["latin", "c", "b", "latin", "c"])
    assert [len(logits) for logits in mixed] == [3, 3, 3, 3, 3]
    net.packnet.verify()
    net.backbone.to(torch.float64)
    assert net.show("latin").features[0].weight.dtype == torch.float64


def test_a_reader_made_from_the_document_alone_finds_what_each_task_computes_with(case):
    _, then, path = case
    header, arrays = independent.read(path)
    assert header["format"] == 5
    assert set(header["packnet"]["shapes"]) == {"latin", "greek", "b"}
    net = load_packed(path)
    for number, task in enumerate(net.tasks):
        alone, found = net.standalone(task), independent.subnetwork(header, arrays, task)
        expected = alone.backbone.state_dict()
        assert {name: value.shape for name, value in found.items()} == {n: tuple(v.shape) for n, v in expected.items()}
        head = {name: arrays[f"heads/{number}/{name}"] for name in alone.head.state_dict()}
        with torch.no_grad():
            for parameter in alone.parameters():
                parameter.fill_(torch.nan)
        alone.backbone.load_state_dict({name: torch.tensor(value) for name, value in found.items()})
        alone.head.load_state_dict({name: torch.tensor(value) for name, value in head.items()})
        with torch.no_grad():
            assert same_bits(alone(images()), then[task]), task


def test_what_changes_in_the_shared_part_shows_in_a_narrower_copy_too(case):
    _, then, path = case
    net = load_packed(path)
    assert same_bits(net(images(), task="latin"), then["latin"])
    weight = net.backbone.classifier[0].weight
    with torch.no_grad():
        before = weight.clone()
        weight.mul_(2)
    assert not same_bits(net(images(), task="latin"), then["latin"])
    with torch.no_grad():
        weight.copy_(before)
    assert same_bits(net(images(), task="latin"), then["latin"])


def test_a_network_for_one_task_is_as_wide_as_that_task(case):
    _, then, path = case
    net = load_packed(path)
    widths = {}
    for task in ("latin", "b", "c"):
        alone = net.standalone(task)
        with torch.no_grad():
            assert same_bits(alone(images()), then[task])
        first, hidden = alone.backbone.features[0], alone.backbone.classifier[0]
        assert (first.out_channels, hidden.out_features) == (first.weight.shape[0], hidden.weight.shape[0])
        assert alone.backbone.num_features == alone.head.in_features == hidden.out_features
        widths[task] = first.out_channels
    assert widths == {"latin": 4, "b": 6, "c": 8}


def test_a_file_written_again_is_the_same(case, tmp_path):
    _, _, path = case
    net = load_packed(path)
    save_packed(net, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_half_precision_is_read_back(case, tmp_path):
    model, then, _ = case
    save_packed(model, tmp_path / "half.safetensors", dtype="bf16")
    net = load_packed(tmp_path / "half.safetensors")
    for task, logits in then.items():
        assert torch.allclose(net(images(), task=task), logits, atol=0.1)


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["packnet_pl"])


def test_only_a_file_of_a_network_that_has_grown_has_another_format(case, tmp_path):
    save_packed(packed_model(), tmp_path / "plain.safetensors")
    assert header_of(tmp_path / "plain.safetensors")["format"] == 3
    header = header_of(case[2])
    assert header["format"] == 5
    assert header["packnet"]["shapes"].keys() == {"latin", "greek", "b"}


@pytest.mark.parametrize("make", [lambda: resnet20(in_channels=1, width=0.25), None], ids=["resnet20", "torchvision"])
def test_other_networks_that_can_grow(make, tmp_path):
    if make is None:
        model = TaskClassifier(torchvision_backbone("resnet18", in_channels=1, image_size=8, width=0.125))
    else:
        model = TaskClassifier(make(), **OWN)
    then = {"a": learn(model, "a")}
    model.grow(1.5)
    then["b"] = learn(model, "b")
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    for task in ("b", "a"):
        assert same_bits(net(images(), task=task), then[task])
        alone = net.standalone(task)
        with torch.no_grad():
            assert same_bits(alone(images()), then[task])


class OwnNet(nn.Module):
    """Of no builder."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(8, width), nn.Linear(width, width)
        self.num_features = width

    def forward(self, x):
        return self.second(torch.relu(self.first(x[:, 0, 0])))


def test_a_module_of_a_users_own(tmp_path):
    model = TaskClassifier(OwnNet(4))
    then = {"a": learn(model, "a")}
    with pytest.raises(ValueError, match=r"^the network says in no builder how it was made.*PackNet.grow"):
        model.grow(1.5)
    model.backbone = model.packnet.grow(OwnNet(7), example=images())
    model.heads.num_features = 7
    then["b"] = learn(model, "b")
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors", backbone=OwnNet(7))
    for task in ("b", "a"):
        assert same_bits(net(images(), task=task), then[task])


def shapes(header):
    return header["packnet"]["shapes"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h.update(format=3), "narrower tasks belong to format 5 alone"),
        (lambda h: h["packnet"].pop("shapes"), "narrower tasks belong to format 5 alone"),
        (lambda h: h["packnet"].update(shapes=[]), "allowed are tasks of"),
        (lambda h: shapes(h).update(nobody=shapes(h)["b"]), "allowed are tasks of"),
        (lambda h: shapes(h).update(latin=None), "each weight has one"),
        (lambda h: shapes(h)["latin"].pop("classifier.0.weight"), "each weight has one"),
        (lambda h: shapes(h)["latin"].update({"classifier.0.weight": [1 << 50, 4]}), "allowed are counts"),
        (lambda h: shapes(h)["latin"].update({"classifier.0.weight": [8]}), "in the network"),
        (lambda h: shapes(h)["latin"].update({"classifier.0.weight": [9999, 24]}), "in the network"),
        (lambda h: shapes(h)["latin"].pop("features.1.bias"), "(shapes of other tensors|others have)"),
        (lambda h: shapes(h)["b"].update({"classifier.0.bias": [3]}), "(do not fit|norms or biases|others have)"),
        (lambda h: shapes(h)["latin"].update({"features.1.weight": [1]}), "(do not fit|norms or biases|others have)"),
        (lambda h: shapes(h).pop("greek"), "(others have|its heads take)"),
    ],
)
def test_shapes_that_contradict_the_rest_of_a_file_are_refused(case, tmp_path, change, said):
    path = tmp_path / "packed.safetensors"
    path.write_bytes(case[2].read_bytes())
    reseal(path, header=lambda header: (change(header), None)[1])
    with pytest.raises(ValueError, match=said):
        load_packed(path)
    assert refused(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_for_a_shape_with_right_checksums_is_read_or_refused(case, tmp_path, data):
    path = tmp_path / "packed.safetensors"
    path.write_bytes(case[2].read_bytes())

    def change(header):
        at = data.draw(st.sampled_from(list(places(shapes(header)))), label="place")
        parent = shapes(header)
        for key in at[:-1]:
            parent = parent[key]
        parent[at[-1]] = data.draw(VALUES, label="value")

    reseal(path, header=change)
    if refused(path) is None:
        net = load_packed(path)
        for task in net.tasks:
            net(images(), task=task)
