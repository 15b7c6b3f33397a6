"""Tasks that use a learned subset of earlier tasks' weights, in the packed file and in the network that is read."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from packnet_pl import load_packed, save_packed
from packnet_pl.core.packed_bits import pack_mask
from packnet_pl.packed import read_packed
from packnet_pl.packed.export import export_task
from packnet_pl.packed.weights import code_mask, decode_mask
from tests.support import independent_reader as independent
from tests.support.independent_reader import reseal
from tests.support.packed_models import MASK, TASKS, images, packed_model, same_bits, trained

FIRST, SECOND, THIRD = TASKS


@pytest.fixture(scope="module", params=["shared", "per_task"])
def model(request):
    torch.manual_seed(3)  # with others, nothing comes through the ReLUs of so small a network
    model = packed_model(norm=request.param, mask=MASK)
    assert set(model.packnet.unused) == {SECOND, THIRD}, "no mask: there would be nothing to test"
    return model


@pytest.fixture
def path(model, tmp_path):
    save_packed(model, tmp_path / "packed.safetensors")
    return tmp_path / "packed.safetensors"


def test_logits_come_back_to_the_bit_whatever_was_asked_before(model, path):
    net = load_packed(path)
    for task in (THIRD, FIRST, SECOND, THIRD, SECOND, FIRST, FIRST):
        assert same_bits(net(images(), task=task), model(images(), task=task)), task
        assert same_bits(net.standalone(task)(images()), model(images(), task=task)), task
    mixed = net(images(2), task=[SECOND, THIRD])
    assert same_bits(mixed[1], net(images(2)[1:], task=THIRD)[0])
    for task, mask in model.packnet.unused.items():
        assert all(torch.equal(entries, net.packnet.unused[task][name]) for name, entries in mask.items())
    net.packnet.verify()


def test_a_mask_matters(model):
    """Without it, the logits are others: the tests above would not notice a mask that is always empty."""
    whole = deepcopy(model)
    object.__setattr__(whole.packnet.state, "masks", {})
    assert not same_bits(whole(images(), task=THIRD), model(images(), task=THIRD))


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_a_reader_made_from_the_document_alone_finds_the_same_network(model, tmp_path, dtype):
    save_packed(model, tmp_path / "packed.safetensors", dtype=dtype)
    net = load_packed(tmp_path / "packed.safetensors")
    header, arrays = independent.read(tmp_path / "packed.safetensors")
    assert header["format"] == 4
    for task in net.tasks:
        found = independent.subnetwork(header, arrays, task)
        with net.packnet.subnetwork(task):
            for name, value in net.backbone.state_dict().items():
                assert np.array_equal(found[name], value.numpy()), (task, name)


def test_files_without_masks_are_of_the_format_before(tmp_path):
    save_packed(packed_model(), tmp_path / "packed.safetensors")
    packed = read_packed(tmp_path / "packed.safetensors")
    assert packed.header["format"] == 3
    assert all(set(layer) == {"shape", "dtype", "counts"} for layer in packed.header["weights"].values())


def test_a_loaded_network_saves_to_the_same_bytes_and_learns_another_task(path, tmp_path):
    net = load_packed(path)
    save_packed(net, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    before = {task: net(images(), task=task) for task in TASKS}
    masks = {task: dict(mask) for task, mask in net.packnet.unused.items()}
    net.heads.add("new", net.info(FIRST))
    net.packnet.begin_task("new")
    net.packnet.learn_mask(MASK)
    for parameter in [*net.backbone.parameters(), *net.heads.parameters()]:
        parameter.requires_grad_(True)
    trained(net.packnet, net.heads["new"])
    net.packnet.prune(0.5)
    trained(net.packnet, net.heads["new"])
    net.packnet.finish_task()
    assert net.packnet.unused.keys() == {SECOND, THIRD, "new"}
    for task in TASKS:
        assert same_bits(net(images(), task=task), before[task])
        for name, entries in masks.get(task, {}).items():
            assert torch.equal(entries, net.packnet.unused[task][name])


def test_an_export_is_of_the_task_with_its_mask(path, tmp_path):
    net = load_packed(path)
    assert export_task(net, THIRD, tmp_path / "task.pt", "torch") == 0
    state = torch.load(tmp_path / "task.pt", weights_only=True)
    name, entries = next(iter(net.packnet.unused[THIRD].items()))
    assert not state[f"backbone.{name}"][entries].any()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_mask_is_coded_over_what_earlier_tasks_own(data):
    number = data.draw(st.integers(2, 5), label="number of the task")
    owners = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=60), label="owners")
    owner = torch.tensor(owners, dtype=torch.uint8)
    frozen = (owner > 0) & (owner < number)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(owners), max_size=len(owners)), label="unused")
    unused = torch.tensor(chosen) & frozen
    count = int(unused.sum())
    coded = code_mask(pack_mask(unused), owner, number, count)
    assert torch.equal(decode_mask(coded, owner, number, count), pack_mask(unused))


@pytest.mark.parametrize(("share", "most"), [(0.5, 1.01), (0.3, 1.01), (0.1, 1.03), (0.03, 1.2)])
def test_masks_are_coded_near_their_entropy(share, most):
    """A Huffman code over bytes spends at least an eighth of a bit: rare entries cost more than they are worth."""
    generator = torch.Generator().manual_seed(0)
    owner = torch.randint(0, 3, (1 << 20,), generator=generator, dtype=torch.uint8)
    unused = (torch.rand(owner.shape, generator=generator) < share) & (owner == 1)
    count, frozen = int(unused.sum()), int((owner == 1).sum())
    part = count / frozen
    entropy = -part * math.log2(part) - (1 - part) * math.log2(1 - part)
    coded = code_mask(pack_mask(unused), owner, 2, count)
    assert 8 * coded.numel() / frozen <= most * entropy


def _too_many(header):
    next(iter(header["weights"].values()))["unused"][1] = 1 << 30


def _of_the_first_task(header):
    next(iter(header["weights"].values()))["unused"][0] = 1


def _one_number_less(header):
    next(iter(header["weights"].values()))["unused"].pop()


def _absent(header):
    del next(iter(header["weights"].values()))["unused"]


def _other_count(header):
    layer = next(layer for layer in header["weights"].values() if layer["unused"][1] > 1)
    layer["unused"][1] -= 1


def _in_the_state(header):
    header["packnet"]["masks"] = {}


def _of_the_format_before(header):
    header["format"] = 3


@pytest.mark.parametrize(
    "damage",
    [_too_many, _of_the_first_task, _one_number_less, _absent, _other_count, _in_the_state, _of_the_format_before],
)
def test_a_damaged_header_is_refused_in_one_line(path, damage):
    reseal(path, header=lambda header: damage(header))
    with pytest.raises(ValueError, match=r"packed\.safetensors") as error:
        load_packed(path)
    assert "\n" not in str(error.value)


def test_a_mask_that_is_missing_or_too_much_is_refused(path, tmp_path):
    name = next(name for name in read_packed(path).stored if name.startswith("masks/"))

    def without(tensors):
        del tensors[name]

    def with_another(tensors):
        tensors[name.replace("masks/", "masks/0")] = tensors[name].clone()

    for number, change in enumerate((without, with_another)):
        target = tmp_path / f"{number}.safetensors"
        reseal(path, tensors=change, target=target)
        with pytest.raises(ValueError, match="masks"):
            load_packed(target)
