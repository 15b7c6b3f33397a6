"""The network of a packed file: one copy that stands ready, batches of several tasks, and single tasks on their own."""

import gc
from copy import deepcopy

import pytest
import timm
import torch
from torch import nn
from torchvision import models as torchvision_models

from packnet_pl import TaskClassifier, load_packed, save_packed
from packnet_pl.core import loops
from packnet_pl.models import build_backbone, vgg_small
from packnet_pl.packed.task_writer import TaskWriter
from tests.support.cases import breadth
from tests.support.packed_models import TASKS, TINY, images, packed_model, same_bits, trained


@pytest.fixture(params=["shared", "per_task"])
def net(request, tmp_path):
    model = packed_model(norm=request.param, bias=request.param)
    save_packed(model, tmp_path / "packed.safetensors")
    return load_packed(tmp_path / "packed.safetensors")


def expected(net, task, batch=None):
    """What the shared part itself answers, shown in place."""
    with net.packnet.subnetwork(task), torch.no_grad():
        return net.heads[task](net.backbone(images() if batch is None else batch))


def test_any_order_of_questions_gets_the_right_answers(net):
    for task in [*TASKS, *reversed(TASKS), "latin", "latin", "кириллица", "latin"]:
        assert same_bits(net(images(), task=task), expected(net, task))


def test_nothing_is_written_while_the_task_stays(net, monkeypatch):
    copy = net.show("latin")
    before = [(tensor.data_ptr(), tensor._version) for tensor in copy.state_dict().values()]
    values = {name: value.clone() for name, value in copy.state_dict().items()}
    with monkeypatch.context() as patch:
        patch.setattr(TaskWriter, "write_", lambda *_: pytest.fail("weights were written"))
        for _ in range(3):
            net(images(), task="latin")
    assert [(tensor.data_ptr(), tensor._version) for tensor in copy.state_dict().values()] == before
    assert net.show("кириллица") is copy
    assert [tensor.data_ptr() for tensor in copy.state_dict().values()] == [place for place, _ in before]
    assert not all(same_bits(value, values[name]) for name, value in copy.state_dict().items())


def test_a_write_that_fails_half_way_is_made_good_by_the_next(net, monkeypatch):
    net.show("кириллица")
    for task in ("latin", "caltech 256 v1.5"):
        with monkeypatch.context() as patch:
            patch.setattr(TaskWriter, "write_", lambda half, _: half._pieces[0][0].fill(0) / "x")
            with pytest.raises(TypeError):
                net(images(), task=task)
        assert same_bits(net(images(), task=task), expected(net, task))


def test_a_layer_that_was_replaced_shows_in_the_next_answer(net):
    net(images(), task="latin")
    net.backbone.features[0] = deepcopy(net.backbone.features[0])
    with torch.no_grad():
        net.backbone.features[0].weight.mul_(2)
    for task in ("latin", "кириллица"):
        assert same_bits(net(images(), task=task), expected(net, task))


def test_the_copy_is_the_only_further_memory_and_in_no_state_dict(net):
    names = list(net.state_dict())
    for task in TASKS:
        net(images(), task=task)
    assert list(net.state_dict()) == names
    assert len(list(net.modules())) == len(list(net.backbone.modules())) + len(list(net.heads.modules())) + 1


def tensors():
    """All tensors that the garbage collector knows of in this process, other tests' among them."""
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]


def test_memory_is_one_network_its_owners_and_the_weights_of_one_task(tmp_path):
    save_packed(packed_model(), tmp_path / "packed.safetensors")
    before = tensors()  # kept: so that none of the new ones takes over an identity
    net = load_packed(tmp_path / "packed.safetensors")
    for task in TASKS:
        net(images(), task=task)
    known = {id(tensor) for tensor in before}
    storages = [tensor.untyped_storage() for tensor in tensors() if id(tensor) not in known]
    taken = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    dense = sum(tensor.nbytes for tensor in net.backbone.state_dict().values())
    heads = sum(tensor.nbytes for tensor in net.heads.state_dict().values())
    owners = sum(owner.numel() for owner in net.packnet.owners.values())
    assert 2 * dense < taken <= 2 * dense + owners + heads


def test_weights_that_are_changed_or_converted_show_in_the_next_answer(net):
    net(images(), task="latin")
    with torch.no_grad():
        net.backbone.features[0].weight.mul_(2)
    assert same_bits(net(images(), task="latin"), expected(net, "latin"))
    net.double()
    assert same_bits(net(images().double(), task="latin"), expected(net, "latin", images().double()))
    with torch.no_grad():
        net._copy._copy.features[0].weight.zero_()  # by hand: nobody should, and it is put right all the same
    assert same_bits(net(images().double(), task="latin"), expected(net, "latin", images().double()))


def test_free_weights_that_somebody_filled_stay_hidden(net):
    with torch.no_grad():
        for name, owner in net.packnet.owners.items():
            net.backbone.get_parameter(name)[owner == 0] = 7
    for task in TASKS:
        assert same_bits(net(images(), task=task), expected(net, task))


def test_it_answers_while_a_further_task_is_trained_in_it(net):
    known = {task: net(images(), task=task) for task in TASKS}
    net.requires_grad_(True)
    head = net.heads.add("later", net.info("latin"))
    net.packnet.begin_task("later")
    trained(net.packnet, head)
    for task, answer in known.items():
        assert same_bits(net(images(), task=task), answer)
    net.packnet.finish_task()
    assert same_bits(net(images(), task="later"), expected(net, "later"))


def test_autocast_does_not_remember_the_task_before(net):
    with torch.autocast("cpu", torch.bfloat16):
        for task in TASKS:
            found = net(images(), task=task)
            torch.clear_autocast_cache()
            assert same_bits(found, expected(net, task))


def test_a_layer_that_writes_to_its_buffers_answers_the_same_each_time(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), Counting(), nn.Linear(64, 8))
        net.num_features = 8
        return net

    model = packed_model(make(), tasks={"a": 2})
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors", backbone=make())
    first = net(images(), task="a")
    assert same_bits(net(images(), task="a"), first)
    assert same_bits(first, model(images(), task="a"))


# A batch of several tasks.


def test_a_batch_of_several_tasks_is_answered_in_its_order(net):
    names = ["кириллица", "latin", "latin", "caltech 256 v1.5", "кириллица", "latin"]
    batch = images(len(names))
    answers = net(batch, task=names)
    for place, (name, answer) in enumerate(zip(names, answers, strict=True)):
        assert answer.shape == (TASKS[name],)
        of_task = [at for at, other in enumerate(names) if other == name]
        assert same_bits(answer, net(batch[of_task], task=name)[of_task.index(place)])


def test_each_task_of_a_batch_is_shown_once_and_the_last_one_first(net, monkeypatch):
    net(images(), task="кириллица")
    shown = []
    show = net._copy.show
    monkeypatch.setattr(net._copy, "show", lambda task: shown.append(task) or show(task))
    net(images(4), task=("latin", "кириллица", "latin", "кириллица"))
    assert shown == ["кириллица", "latin"]


def test_wrong_lists_of_tasks_are_refused(net):
    with pytest.raises(ValueError, match="2 tasks given for 5 images; give one per image"):
        net(images(5), task=["latin", "latin"])
    with pytest.raises(ValueError, match="task 'greek' has no head"):
        net(images(2), task=["latin", "greek"])
    assert net(images(0), task=[]) == []


# Writing what a task sees.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("threads", "compile_above"), [(1, 0), (2, 0), (1, 1 << 40), (2, 1 << 40)])
def test_what_a_task_sees_is_written_bit_for_bit(dtype, layout, threads, compile_above):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        owners = [torch.randint(0, 5, (60, 50, 7, 7), dtype=torch.uint8) for _ in range(5)]
        sources = [torch.randn(owner.shape).to(dtype).contiguous(memory_format=layout) for owner in owners]
        for source in sources:
            source[0, 0] = -0.0
            source[0, 1], source[0, 2] = float("nan"), -float("inf")  # may be another task's: still zero, not NaN
        targets = [torch.full_like(source, float("nan")) for source in sources]
        written = TaskWriter(zip(targets, sources, owners, strict=True), compile_above=compile_above)
        for task in (4, 1, 3, 255):
            written.write_(task)
            for target, source, owner in zip(targets, sources, owners, strict=True):
                hidden = (owner == 0) | (owner > task)
                assert same_bits(target, torch.where(hidden, torch.zeros((), dtype=dtype), source))
    finally:
        torch.set_num_threads(before)


def test_a_large_weight_is_written_in_pieces(monkeypatch):
    monkeypatch.setattr(loops, "_PIECE", 7)
    owner = torch.randint(0, 4, (5, 9), dtype=torch.uint8)
    source = torch.randn(5, 9)
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        target = torch.full_like(source, float("nan"))
        TaskWriter([(target, source, owner)]).write_(2)
        assert same_bits(target, source.masked_fill((owner == 0) | (owner > 2), 0))


# One task on its own.


def finished(builder, classes=5):
    """A TaskClassifier whose tasks "first" and "second" own weights; nothing is trained."""
    torch.manual_seed(0)
    model = TaskClassifier(build_backbone(builder))
    for task in ("first", "second"):
        model.add_task(task, num_classes=classes)
        model.packnet.begin_task(task, private=model.private_modules(task))
        model.packnet.prune(0.5)
        if task == "first":
            weights = dict(model.backbone.named_parameters())
            with torch.no_grad():
                for name, owner in model.packnet.owners.items():
                    weights[name].add_(0.01 * (owner == 0))
        model.packnet.finish_task()
    return model


WHOLE = {"resnet18": "torchvision", "test_resnet": "timm", "test_vit": "timm", "mobilenetv3_small_050": "timm"}


@pytest.mark.slow
@pytest.mark.parametrize("name", breadth(WHOLE, "mobilenetv3_small_050", "test_resnet", "test_vit"))
def test_a_single_task_loads_into_its_library(name, tmp_path):
    size = 160 if name == "test_vit" else 224
    model = finished({"name": WHOLE[name], "arguments": {"name": name, "image_size": size}})
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    state = net.standalone("first").state_dict()
    make = timm.create_model if WHOLE[name] == "timm" else torchvision_models.get_model
    original = make(name, num_classes=5)
    original.load_state_dict(state, strict=True)
    batch = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(original.eval()(batch), net(batch, task="first"))
    for key, owner in net.packnet.owners.items():
        assert not state[key][owner != 1].any()
    assert net.packnet.tasks == ["first", "second"]
    assert not hasattr(net.standalone("first"), "packnet")


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "equal"), [("dla46x_c", True), ("deit_tiny_distilled_patch16_224", False)])
def test_a_single_task_answers_with_the_same_bits_or_is_of_those_that_are_close_only(name, equal, tmp_path):
    save_packed(
        finished({"name": "timm", "arguments": {"name": name, "image_size": 64}}), tmp_path / "packed.safetensors"
    )
    net = load_packed(tmp_path / "packed.safetensors")
    alone, batch = net.standalone("second"), torch.randn(5, 3, 64, 64)
    original = timm.create_model(name, num_classes=5, **({} if equal else {"img_size": 64})).eval()
    original.load_state_dict(alone.state_dict(), strict=True)
    with torch.no_grad():
        expected = net(batch, task="second")
        assert torch.equal(alone(batch), expected) or not equal
        for whole in (alone, original):
            assert torch.allclose(whole(batch), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", breadth(["vgg11", "densenet121", "vit_b_32", "convnext_tiny", "resnet34"], "vit_b_32"))
def test_a_single_task_of_a_narrow_network_has_the_names_of_its_library(name, tmp_path):
    model = finished({"name": "torchvision", "arguments": {"name": name, "image_size": 64, "width": 0.1}})
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    alone, batch = net.standalone("second"), torch.randn(2, 3, 64, 64)
    with torch.device("meta"):
        original = torchvision_models.get_model(name, num_classes=5)
    assert list(alone.state_dict()) == list(original.state_dict())
    with torch.no_grad():
        assert torch.equal(alone(batch), net(batch, task="second"))


def test_a_network_of_no_library_comes_with_its_head(tmp_path):
    model = finished({"name": "vgg_small", "arguments": TINY})
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    alone = net.standalone("second")
    assert [name for name, _ in alone.named_children()] == ["backbone", "head"]
    assert same_bits(alone(images()), net(images(), task="second"))
    plain = nn.Sequential()
    plain.add_module("backbone", vgg_small(**TINY))
    plain.add_module("head", nn.Linear(8, 5))
    plain.load_state_dict(alone.state_dict(), strict=True)
