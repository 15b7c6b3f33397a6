"""One file with all tasks."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from packnet_pl import CapacityError, PackNet, load_packed, save_packed
from packnet_pl.methods import FineTuning
from packnet_pl.models import Heads, TaskInfo, vgg_small
from tests.support.independent_reader import reseal
from tests.support.packed_models import TASKS, TINY, Tied, images, packed_model, same_bits, trained


@pytest.fixture(scope="module")
def _saved(tmp_path_factory):
    torch.manual_seed(0)
    model, path = packed_model(), tmp_path_factory.mktemp("packed") / "packed.safetensors"
    save_packed(model, path)
    return model, path.read_bytes()


@pytest.fixture
def model(_saved):
    return deepcopy(_saved[0])


@pytest.fixture
def path(_saved, tmp_path):
    (tmp_path / "packed.safetensors").write_bytes(_saved[1])
    return tmp_path / "packed.safetensors"


def test_what_was_saved_comes_back_to_the_bit(model, path):
    net = load_packed(path)
    assert net.tasks == model.tasks == list(TASKS)
    expected, found = model.backbone.state_dict(), net.backbone.state_dict()
    assert list(found) == list(expected)
    assert all(same_bits(found[name], value) for name, value in expected.items())
    assert net.packnet.tasks == model.packnet.tasks
    assert net.packnet.private == model.packnet.private
    assert net.packnet.owners.keys() == model.packnet.owners.keys()
    for name, owner in model.packnet.owners.items():
        assert torch.equal(net.packnet.owners[name], owner)
    for task in TASKS:
        for name, value in model.heads[task].state_dict().items():
            assert same_bits(net.heads[task].state_dict()[name], value)
        assert net.info(task) == model.heads.infos[task]
        assert net.info(task).class_names[1] == f"{task} 1"
    assert net.backbone.builder == model.backbone.builder


def test_two_saves_give_the_same_bytes(model, path, tmp_path):
    save_packed(model, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_loaded_network_saves_to_the_same_bytes(path, tmp_path):
    save_packed(load_packed(path), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_saving_changes_nothing_in_the_model(model, tmp_path):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_packed(model, str(tmp_path / "packed.safetensors"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.backbone.training


@pytest.mark.parametrize("task", TASKS)
def test_it_answers_as_the_model_does(model, path, task):
    net = load_packed(path)
    expected = model(images(), task=task)
    assert same_bits(net(images(), task=task), expected)
    assert same_bits(net(images(), task=task), expected)


@pytest.mark.parametrize("task", TASKS)
def test_standalone_answers_the_same_without_the_other_tasks(path, task):
    net = load_packed(path)
    alone = net.standalone(task)
    assert isinstance(alone.backbone, nn.Module)
    assert not alone.training
    assert same_bits(alone(images()), net(images(), task=task))
    number = list(TASKS).index(task) + 1
    for name, owner in net.packnet.owners.items():
        assert not alone.backbone.get_parameter(name)[(owner == 0) | (owner > number)].any()
    shared = {id(parameter) for parameter in net.parameters()}
    assert not any(id(parameter) in shared for parameter in alone.parameters())


def test_standalone_changes_nothing_in_the_network(path):
    net = load_packed(path)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        for parameter in net.standalone("latin").parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("task", TASKS)
def test_in_train_mode_it_answers_the_same_and_stays_in_it(path, task):
    net = load_packed(path)
    expected = net(images(), task=task)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    assert same_bits(net(images(), task=task), expected)
    assert all(layer.training for layer in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_it_is_for_inference(path):
    net = load_packed(path)
    assert not net.training
    assert not net(images(), task="latin").requires_grad


def test_an_unknown_task_is_refused(path):
    net = load_packed(path)
    for ask in (net.info, net.standalone, lambda task: net(images(), task=task)):
        with pytest.raises(ValueError, match=r"task 'greek' has no head; there are \['latin'"):
            ask("greek")


def test_tasks_can_be_added_to_a_network_that_was_packed_long_ago(model, path):
    net = load_packed(path)
    expected = {task: net(images(), task=task) for task in TASKS}
    net.requires_grad_(True)
    head = net.heads.add("later", TaskInfo(2))
    net.packnet.begin_task("later")
    trained(net.packnet, head)
    net.packnet.finish_task()
    assert net.tasks == [*TASKS, "later"]
    for task in TASKS:
        assert same_bits(net(images(), task=task), expected[task])
    with pytest.raises(CapacityError):
        net.packnet.begin_task("too late")


def test_a_network_of_a_users_own_can_be_packed_too(tmp_path):
    @dataclass
    class Own:
        backbone: nn.Module
        heads: Heads
        packnet: PackNet | None

    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    own = Own(backbone, Heads(4), PackNet(backbone))
    head = own.heads.add("a", TaskInfo(2))
    own.packnet.begin_task("a")
    trained(own.packnet, head)
    own.packnet.finish_task()
    save_packed(own, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"own\.safetensors names no backbone: .*load_packed\(path, backbone=\.\.\.\)"):
        load_packed(tmp_path / "own.safetensors")
    net = load_packed(tmp_path / "own.safetensors", backbone=nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    assert same_bits(net(images(), task="a"), head(backbone(images())))


def test_a_network_in_which_all_tasks_use_all_weights_can_be_packed(tmp_path):
    model = packed_model(method=FineTuning)
    save_packed(model, tmp_path / "plain.safetensors")
    net = load_packed(tmp_path / "plain.safetensors")
    assert net.packnet is None
    for task in TASKS:
        expected = model.eval()(images(), task=task)
        assert same_bits(net(images(), task=task), expected)
        assert same_bits(net.standalone(task)(images()), expected)


def test_tied_and_strided_weights_can_be_packed(tmp_path):
    for make in (Tied, lambda: vgg_small(**TINY).to(memory_format=torch.channels_last)):
        model = packed_model(make(), tasks={"a": 2})
        expected = model(images(), task="a")
        save_packed(model, tmp_path / "packed.safetensors")
        net = load_packed(tmp_path / "packed.safetensors", backbone=make())
        assert torch.equal(net(images(), task="a"), expected)


# What is refused.


def test_an_unfinished_task_is_refused_and_the_old_file_stays(model, path):
    before = path.read_bytes()
    model.add_task("open", num_classes=2)
    with pytest.raises(ValueError, match=r"tasks \['open'\] are not finished"):
        save_packed(model, path)
    model.packnet.begin_task("open")
    with pytest.raises(ValueError, match=r"tasks \['open'\] are not finished"):
        save_packed(model, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_weights_changed_from_outside_are_not_saved(model, path):
    before = path.read_bytes()
    with torch.no_grad():
        model.backbone.features[0].weight.add_(1)
    with pytest.raises(RuntimeError, match=r"features\.0\.weight is not what it was when task 'latin' was finished"):
        save_packed(model, path)
    assert path.read_bytes() == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no packed file .*nowhere\.safetensors"):
        load_packed(tmp_path / "nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no packed file"):
        load_packed(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_truncated_file_is_refused(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"packed\.safetensors is not a packed file, or is damaged"):
        load_packed(path)


@pytest.mark.parametrize("content", [b"hello, this is text\n" * 10, b"\x80\x04pickle" * 10])
def test_another_kind_of_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"packed\.safetensors is not a packed file, or is damaged"):
        load_packed(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_foreign_safetensors_file_is_refused(path, metadata):
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(ValueError, match="is damaged: it is a safetensors file without a 'packnet_pl' header"):
        load_packed(path)


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"format": NaN}', "[" * 100_000, "1" * 5000])
def test_a_header_that_is_not_json_is_refused(path, content):
    save_file({"weight": torch.zeros(3)}, path, metadata={"packnet_pl": content})
    with pytest.raises(ValueError, match=r"packed\.safetensors is not a packed file, or is damaged"):
        load_packed(path)


@pytest.mark.parametrize("version", [6, 8])
def test_a_newer_format_is_refused_by_its_number(path, version):
    reseal(path, header=lambda header: header.update(format=version))
    with pytest.raises(ValueError, match=rf"it has format {version}; this version reads formats 1 to 5: a newer"):
        load_packed(path)


@pytest.mark.parametrize("version", [None, "1", 1.0, True])
def test_a_format_that_is_no_number_is_refused(path, version):
    reseal(path, header=lambda header: header.update(format=version))
    with pytest.raises(ValueError, match="its header names no format"):
        load_packed(path)


NAMES = [
    "shared/classifier.0.bias",
    "shared/features.1.running_mean",
    "values/features.0.weight",
    "owners/classifier.0.weight",
    "heads/1/weight",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_tampered_tensor_is_refused_by_its_name(path, name):
    tensors = load_file(path)
    found = tensors[name].view(-1).view(torch.uint8)
    content = path.read_bytes()
    at = content.index(found.numpy().tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(ValueError, match=f"is damaged: {name} is not what was written: its checksum is another"):
        load_packed(path)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("values/features.0.weight", r"features\.0\.weight is not what it was when task '.*' was finished"),
        ("shared/classifier.0.bias", r"classifier\.0\.bias is not what it was when task 'latin' was finished"),
        ("shared/features.1.running_mean", r"features\.1\.running_mean is not what it was when task 'latin'"),
    ],
)
def test_a_weight_that_was_changed_with_its_checksum_is_refused_by_its_name(path, name, named):
    def change(tensors):
        tensors[name].view(-1)[tensors[name].view(-1).abs().argmax()].mul_(1.0000002)

    reseal(path, tensors=change)
    with pytest.raises(ValueError, match=f"does not fit the backbone or is damaged: {named}"):
        load_packed(path)


def test_a_changed_header_is_refused(path):
    content = path.read_bytes()
    at = content.index(b"0.3]")
    path.write_bytes(content[:at] + b"0.4]" + content[at + 4 :])
    with pytest.raises(ValueError, match="its header is not what was written"):
        load_packed(path)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("values/features.0.weight", r"has no \['values/features\.0\.weight'\]"),
        ("owners/features.0.weight", r"has no \['owners/features\.0\.weight'\]"),
        ("shared/classifier.0.bias", r"classifier\.0\.bias is missing in the file, and \[8\] in the network"),
        ("heads/1/weight", r"has no \['heads/1/weight'\]"),
        ("heads/1/bias", r"has no \['heads/1/bias'\]"),
    ],
)
def test_a_missing_tensor_is_refused(path, name, named):
    reseal(path, tensors=lambda tensors: tensors.pop(name))
    with pytest.raises(ValueError, match=named):
        load_packed(path)


def test_a_tensor_that_belongs_to_nothing_is_refused(path):
    reseal(path, tensors=lambda tensors: tensors.update(more=torch.zeros(3)))
    with pytest.raises(ValueError, match=r"\['more'\] belong to nothing"):
        load_packed(path)


def test_a_backbone_that_this_version_does_not_know_can_be_given(model, path):
    reseal(path, header=lambda header: header["backbone"].update(name="resnet9000"))
    with pytest.raises(ValueError, match=r"backbone is 'resnet9000'; .*backbone="):
        load_packed(path)
    net = load_packed(path, backbone=vgg_small(**TINY))
    for task in TASKS:
        assert same_bits(net(images(), task=task), model(images(), task=task))


def test_a_backbone_that_does_not_fit_is_refused(path):
    with pytest.raises(ValueError, match=r"does not fit the backbone or is damaged: classifier\.0\.bias is \[8\]"):
        load_packed(path, backbone=vgg_small(**{**TINY, "hidden": 9}))


def test_a_file_names_code_in_vain(path):
    reseal(path, header=lambda h: h.update(backbone={"name": "os.system", "arguments": {"command": "true"}}))
    with pytest.raises(ValueError, match=r"backbone is 'os\.system'"):
        load_packed(path)


@pytest.mark.slow
def test_opening_a_file_needs_no_training_library(path):
    script = (
        "import sys; from packnet_pl import load_packed; net = load_packed(sys.argv[1]); "
        "import torch; net(torch.zeros(1, 1, 8, 8), task='latin'); "
        "print([name for name in ('pytorch_lightning', 'hydra', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
