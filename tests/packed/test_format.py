"""What is in the file: as docs/format.md says, and as the version before wrote it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from packnet_pl import load_packed, save_packed
from packnet_pl.methods import FineTuning
from packnet_pl.models import vgg_small
from packnet_pl.packed import TaskFigures, read_packed
from tests.support import MADE_AT_5B152F2
from tests.support import independent_reader as independent
from tests.support.independent_reader import reseal
from tests.support.packed_models import TASKS, TINY, images, packed_model, same_bits

MADE = MADE_AT_5B152F2 / "packed"


@pytest.fixture(scope="module", params=["shared", "per_task"])
def model(request):
    torch.manual_seed(0)
    return packed_model(norm=request.param, bias=request.param)


@pytest.mark.parametrize("dtype", [None, "bf16", "fp16"])
def test_a_reader_made_from_the_document_alone_finds_the_same_network(model, tmp_path, dtype):
    path = tmp_path / "packed.safetensors"
    save_packed(model, path, dtype=dtype)
    header, arrays = independent.read(path)
    net = load_packed(path)
    assert [task["name"] for task in header["tasks"]] == net.tasks
    for number, task in enumerate(net.tasks):
        with net.packnet.subnetwork(task):
            expected = net.backbone.state_dict()
            found = independent.subnetwork(header, arrays, task)
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert np.array_equal(found[name], value.numpy()), name
        for key, value in net.heads[task].state_dict().items():
            assert np.array_equal(arrays[f"heads/{number}/{key}"], value.numpy())
        entry = header["tasks"][number]
        assert (entry["num_classes"], entry["input_shape"], entry["mean"]) == (TASKS[task], [1, 8, 8], [0.1])


def test_only_owned_weights_are_in_the_file(model, tmp_path):
    save_packed(model, tmp_path / "packed.safetensors")
    packed = read_packed(tmp_path / "packed.safetensors")
    for name, owner in model.packnet.owners.items():
        weight = model.backbone.get_parameter(name)
        assert same_bits(packed.tensors[f"values/{name}"], weight[owner != 0])
        assert f"shared/{name}" not in packed.tensors
        assert packed.counts[name] == torch.bincount(owner.flatten(), minlength=len(TASKS) + 1).tolist()
    assert packed.owner_bits_per_weight < 8


def test_figures_and_history_are_in_the_file(model, tmp_path):
    path = tmp_path / "packed.safetensors"
    save_packed(model, path, figures={"latin": TaskFigures(0.5, 0.875)}, history=[{"any": ["thing", 1, None]}])
    packed = read_packed(path)
    assert [(task["ratio"], task["accuracy"]) for task in packed.header["tasks"]] == [(0.5, 0.875), *[(None, None)] * 2]
    assert packed.history == [{"any": ["thing", 1, None]}]
    with pytest.raises(ValueError, match=r"accuracy is 87\.5; allowed is null, or 0 to 1"):
        save_packed(model, path, figures={"latin": TaskFigures(0.5, 87.5)})
    assert read_packed(path).header == packed.header


# Other precisions.


@pytest.mark.parametrize(("dtype", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_the_bytes_give_the_rounded_network(model, tmp_path, dtype, kind):
    path = tmp_path / "packed.safetensors"
    save_packed(model, path, dtype=dtype)
    stored = load_file(path)
    net = load_packed(path)
    for name, owner in model.packnet.owners.items():
        assert stored[f"values/{name}"].dtype == kind
        weight = net.backbone.get_parameter(name)
        assert weight.dtype == torch.float32
        expected = model.backbone.get_parameter(name).to(kind).float()
        assert torch.equal(weight, torch.where(owner == 0, 0, expected))
    for task in TASKS:
        expected = model(images(), task=task)
        found = net(images(), task=task)
        assert not torch.equal(found, expected)
        assert torch.allclose(found, expected, atol=0.05)
        assert torch.equal(net.heads[task].weight, model.heads[task].weight)
    save_packed(net, tmp_path / "again.safetensors", dtype=dtype)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_fp32_of_an_fp32_network_is_the_same_file(model, tmp_path):
    for dtype in (None, "fp32"):
        save_packed(model, tmp_path / f"{dtype}.safetensors", dtype=dtype)
    assert (tmp_path / "None.safetensors").read_bytes() == (tmp_path / "fp32.safetensors").read_bytes()


def test_a_network_in_bfloat16_comes_back_in_bfloat16(tmp_path):
    model = packed_model(vgg_small(**TINY).to(torch.bfloat16), tasks={"a": 2}, method=FineTuning)
    model.heads.to(torch.bfloat16)
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}


def test_a_network_of_two_types_is_not_saved_as_it_could_not_answer(tmp_path):
    model = packed_model(tasks={"a": 2})
    model.heads.double()
    model.packnet.load_state_dict(model.packnet.state_dict() | {"private_fingerprints": {}})
    with pytest.raises(ValueError, match="its tensors are float32 and float64; convert backbone and heads to one type"):
        save_packed(model, tmp_path / "packed.safetensors")


def test_wrong_precisions_are_refused(model, tmp_path):
    path = tmp_path / "packed.safetensors"
    with pytest.raises(ValueError, match=r"dtype is 'int8'; allowed are None and \['fp32', 'bf16', 'fp16'\]"):
        save_packed(model, path, dtype="int8")
    with pytest.raises(ValueError, match="as bf16: no task owns any weights"):
        save_packed(packed_model(method=FineTuning), path, dtype="bf16")
    large = packed_model(tasks={})
    large.add_task("large", num_classes=2)
    large.packnet.begin_task("large")
    with torch.no_grad():
        large.backbone.features[0].weight.mul_(1e7)
    large.packnet.finish_task()
    with pytest.raises(ValueError, match=r"features\.0\.weight has weights up to .*, too large for fp16; choose bf16"):
        save_packed(large, path, dtype="fp16")
    assert not path.exists()


# Files of earlier versions.


@pytest.mark.parametrize("kind", ["finished", "per_task", "individual"])
def test_a_file_of_format_1_answers_with_the_same_bits_and_is_saved_as_format_3(kind, tmp_path):
    path, new = MADE / kind / "packed.safetensors", tmp_path / "new.safetensors"
    old = load_packed(path)
    assert independent.read(path)[0]["format"] == 1
    save_packed(old, new)
    header, arrays = independent.read(new)
    assert header["format"] == 3
    for net in (old, load_packed(new)):
        assert net.tasks == ["digits", "latin"]
        for task in net.tasks:
            probe = load_file(MADE / kind / f"{task}.probe.safetensors")
            assert same_bits(net(probe["pictures"], task=task), probe["logits"])
    for task in old.tasks:
        before = independent.subnetwork(*independent.read(path), task)
        after = independent.subnetwork(header, arrays, task)
        assert before.keys() == after.keys() == old.backbone.state_dict().keys()
        for name, value in old.show(task).state_dict().items():
            assert np.array_equal(before[name], value.numpy())
            assert np.array_equal(after[name], value.numpy())


def test_a_file_of_format_1_keeps_its_history_and_what_it_says_of_its_tasks():
    path = MADE / "finished" / "packed.safetensors"
    written, packed = independent.read(path)[0], read_packed(path)
    assert packed.history == written["history"] != []
    for task, found in zip(written["tasks"], packed.header["tasks"], strict=True):
        side = task.pop("resize")
        assert task.items() <= found.items()
        assert found["preparation"]["shorter_side"] == side == 24


def test_the_keys_of_format_1_are_all_that_a_file_of_format_1_may_have(tmp_path):
    path, target = MADE / "finished" / "packed.safetensors", tmp_path / "packed.safetensors"
    reseal(path, header=lambda header: header.pop("aliases") and None, target=target)
    with pytest.raises(ValueError, match=r"its header has no \['aliases'\]"):
        load_packed(target)
    reseal(path, header=lambda header: header["tasks"][0].update(more=1), target=target)
    with pytest.raises(ValueError, match=r"a task has \['more'\]"):
        load_packed(target)
    reseal(path, header=lambda header: header.update(format=0), target=target)
    with pytest.raises(ValueError, match="it has format 0; this version reads formats 1 to 5"):
        load_packed(target)


# States of a network that are saved, or refused.


def test_a_last_task_that_kept_all_leaves_nothing_free(tmp_path):
    model = packed_model()
    model.add_task("rest", num_classes=2)
    model.packnet.begin_task("rest", private=model.private_modules("rest"))
    model.packnet.finish_task()
    save_packed(model, tmp_path / "packed.safetensors")
    net = load_packed(tmp_path / "packed.safetensors")
    assert all(counts[0] == 0 for counts in read_packed(tmp_path / "packed.safetensors").counts.values())
    for name, value in model.backbone.state_dict().items():
        assert same_bits(net.backbone.state_dict()[name], value)


def test_an_aborted_task_leaves_the_file_as_it_was(tmp_path):
    model = packed_model()
    save_packed(model, tmp_path / "before.safetensors")
    model.packnet.begin_task("tried")
    with torch.no_grad():
        model.backbone.features[0].weight.add_(1)
    model.packnet.restore_()
    model.packnet.abort_task()
    save_packed(model, tmp_path / "after.safetensors")
    assert (tmp_path / "after.safetensors").read_bytes() == (tmp_path / "before.safetensors").read_bytes()


def test_an_open_task_and_none_at_all_are_refused(tmp_path):
    model = packed_model()
    model.packnet.begin_task("open")
    with pytest.raises(ValueError, match=r"tasks \['open'\] are not finished"):
        save_packed(model, tmp_path / "packed.safetensors")
    with pytest.raises(ValueError, match="there is no task yet"):
        save_packed(packed_model(tasks={}), tmp_path / "packed.safetensors")
    assert not list(tmp_path.iterdir())


def test_loading_leaves_the_random_numbers_and_inference_mode_alone(tmp_path):
    save_packed(packed_model(), tmp_path / "packed.safetensors")
    before = torch.get_rng_state()
    with torch.inference_mode():
        net = load_packed(tmp_path / "packed.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(tensor.is_inference() for tensor in net.state_dict().values())
