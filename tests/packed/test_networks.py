"""Files of tasks that share nothing: a whole network each."""

import numpy as np
import pytest
import torch

from packnet_pl import load_packed, save_packed
from packnet_pl.methods import IndividualNetworks
from packnet_pl.models import vgg_small
from packnet_pl.packed import packed_networks, read_packed, unpack_into
from tests.support import independent_reader as independent
from tests.support.independent_reader import reseal
from tests.support.packed_models import TASKS, TINY, Tied, images, packed_model, same_bits


def individual(make=lambda: vgg_small(**TINY), tasks=TASKS):
    """An IndividualNetworks whose tasks have random networks, statistics too."""
    torch.manual_seed(0)
    model = IndividualNetworks(make())
    for number, (task, classes) in enumerate(tasks.items()):
        model.add_task(task, num_classes=classes, input_shape=(1, 8, 8), mean=(0.1,), std=(0.3,))
        torch.manual_seed(number + 1)
        with torch.no_grad():
            for value in model.backbone.state_dict().values():
                value.copy_(value + number + 1 if value.dtype == torch.int64 else value + 0.3 * torch.rand_like(value))
        model.on_fit_end()
    return model


@pytest.fixture
def model():
    return individual()


@pytest.fixture
def path(model, tmp_path):
    save_packed(model, tmp_path / "packed.safetensors")
    return tmp_path / "packed.safetensors"


def test_every_network_comes_back_to_the_bit(model, path):
    net = load_packed(path)
    assert net.tasks == list(net.networks) == list(TASKS)
    assert net.packnet is None
    for task, expected in model.networks.items():
        assert net.networks[task].keys() == expected.keys()
        assert all(same_bits(net.networks[task][name], value) for name, value in expected.items())
        alone = net.standalone(task)
        assert all(same_bits(alone.backbone.state_dict()[name], value) for name, value in expected.items())
        assert all(same_bits(alone.head.state_dict()[n], v) for n, v in model.heads[task].state_dict().items())


def test_questions_in_any_order_get_the_answer_of_their_own_network(model, path):
    net = load_packed(path)
    expected = {task: model(images(), task=task).detach() for task in TASKS}
    for task in [*TASKS, *reversed(TASKS), "latin", "latin", "кириллица", "latin"]:
        assert same_bits(net(images(), task=task), expected[task])
        assert same_bits(net.standalone(task)(images()), expected[task])
        shown = net.show(task).state_dict()
        assert all(same_bits(shown[name], value) for name, value in model.networks[task].items())


def test_a_batch_of_several_tasks_is_answered_in_its_order(path):
    net = load_packed(path)
    names = ["кириллица", "latin", "latin", "caltech 256 v1.5", "кириллица", "latin"]
    batch = images(len(names))
    answers = net(batch, task=names)
    for place, (name, answer) in enumerate(zip(names, answers, strict=True)):
        of_task = [at for at, other in enumerate(names) if other == name]
        assert same_bits(answer, net(batch[of_task], task=name)[of_task.index(place)])


def test_a_single_task_alone_can_be_changed_without_a_trace(path):
    net = load_packed(path)
    before = net(images(), task="latin")
    with torch.no_grad():
        for parameter in net.standalone("latin").parameters():
            parameter.fill_(7)
        for parameter in net.show("latin").parameters():
            parameter.fill_(7)
    net(images(), task="кириллица")
    assert same_bits(net(images(), task="latin"), before)


def test_a_network_that_was_converted_answers_in_the_new_type(path):
    net = load_packed(path).double()
    for task in TASKS:
        assert net(images().double(), task=task).dtype == torch.float64


def test_a_loaded_network_saves_to_the_same_bytes(path, tmp_path):
    save_packed(load_packed(path), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_model_that_goes_on_from_the_file_has_all_tasks(model, path):
    found = IndividualNetworks(vgg_small(**TINY))
    packed = read_packed(path)
    unpack_into(found, packed)
    found.networks = packed_networks(packed)
    assert found.tasks == list(TASKS)
    for task in TASKS:
        assert same_bits(found(images(), task=task), model(images(), task=task))


def test_a_reader_made_from_the_document_alone_finds_the_same_networks(model, path):
    header, arrays = independent.read(path)
    assert header["packnet"] is None
    assert not any(name.startswith("shared/") for name in arrays)
    for number, (task, network) in enumerate(model.networks.items()):
        found = independent.subnetwork(header, arrays, task)
        assert found.keys() == network.keys()
        assert all(np.array_equal(found[name], value.numpy()) for name, value in network.items())
        for key, value in model.heads[task].state_dict().items():
            assert np.array_equal(arrays[f"heads/{number}/{key}"], value.numpy())


def test_tied_weights_are_stored_once_for_each_task(tmp_path):
    model = individual(Tied, tasks={"a": 2, "b": 2})
    save_packed(model, tmp_path / "packed.safetensors")
    names = [name for name in read_packed(tmp_path / "packed.safetensors").tensors if "weight" in name]
    assert sorted(names) == ["copies/0/first.weight", "copies/1/first.weight", "heads/0/weight", "heads/1/weight"]
    net = load_packed(tmp_path / "packed.safetensors", backbone=Tied())
    header, arrays = independent.read(tmp_path / "packed.safetensors")
    for task in ("a", "b"):
        assert same_bits(net(images(), task=task), model(images(), task=task))
        found = independent.subnetwork(header, arrays, task)
        assert np.array_equal(found["second.weight"], model.networks[task]["first.weight"].numpy())


# What is refused.


def test_networks_that_are_not_those_of_all_tasks_are_not_saved(model, tmp_path, monkeypatch):
    path = tmp_path / "packed.safetensors"
    network = model.networks["latin"]
    shared = packed_model()
    for other, networks in (
        (model, {"latin": network}),
        (model, dict(reversed(model.networks.items()))),
        (shared, dict.fromkeys(TASKS, network)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(other, "networks", networks, raising=False)
            with pytest.raises(ValueError, match="needs one for each task, in the same order, and no weights that"):
                save_packed(other, path)
    model.add_task("later", num_classes=2)
    with pytest.raises(ValueError, match=r"its heads of .*'later'"):
        save_packed(model, path)
    with pytest.raises(ValueError, match="no task owns any weights"):
        save_packed(individual(), path, dtype="bf16")
    assert not path.exists()


def refused(path, load=load_packed):
    with pytest.raises(ValueError, match=str(path)) as caught:
        load(path)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    return said


def without(prefix):
    def change(tensors):
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return change


def moved(tensors):
    tensors["shared/features.0.weight"] = tensors["copies/0/features.0.weight"].clone()


def reshaped(tensors):
    tensors["copies/1/features.0.weight"] = tensors["copies/1/features.0.weight"].squeeze(1)


def narrowed(tensors):
    for name in [name for name in tensors if name.startswith("heads/") and name.endswith("weight")]:
        tensors[name] = tensors[name][:, :7].clone()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("copies/1/"), "copies/1/classifier.0.bias is not a tensor that each of its tasks has"),
        (without("copies/2/features.0.weight"), "copies/2/features.0.weight is not a tensor that each of its"),
        (without("copies/"), "is missing in the file"),
        (moved, "features.0.weight is shared, and each task has a network of its own"),
        (reshaped, "copies/1/features.0.weight is not of the type and shape that others have"),
        (narrowed, "its heads take 7 features, the backbone has 8"),
    ],
)
@pytest.mark.parametrize("given", [False, True], ids=["a named backbone", "a given backbone"])
def test_a_file_whose_networks_do_not_fit_is_refused_in_one_line(path, change, reason, given):
    reseal(path, tensors=change)

    def load(path):
        return load_packed(path, backbone=vgg_small(**TINY)) if given else load_packed(path)

    assert reason in refused(path, load)


def test_another_name_for_what_is_not_there_is_refused(path):
    def alias(header):
        header["aliases"] = {"features.0.weight": "nothing"}

    reseal(path, header=alias, tensors=without("copies/0/features.0.weight"))
    assert "features.0.weight" in refused(path)


def test_networks_and_owners_in_one_file_are_refused(model, tmp_path):
    path = tmp_path / "packed.safetensors"
    save_packed(packed_model(), path)

    def mix(tensors):
        for number, network in enumerate(model.networks.values()):
            tensors |= {f"copies/{number}/{name}": value.clone() for name, value in network.items()}

    reseal(path, tensors=mix)
    assert refused(path)


def test_a_model_of_another_kind_does_not_take_the_file(path):
    with pytest.raises(ValueError, match="do not agree on whether tasks own weights"):
        unpack_into(packed_model(tasks={}), read_packed(path))
