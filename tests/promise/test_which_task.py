"""What finds the task of an image is, to the bit, what it was when its task was finished: features and statistics."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from packnet_pl import load_packed, save_packed
from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.packed import fit_statistics
from tests.support import warm
from tests.support.packed_models import MASK, packed_model, trained
from tests.support.promise.checker import bits

pytestmark = pytest.mark.promise("Finding the task of an image")

SETTINGS = {"all shared": {}, "norms and biases per task": {"norm": "per_task", "bias": "per_task"}}
RUN = ["debug=tiny", "debug.fraction=0.05", "logger=none", "sequence.order=[digits,greek]"]


def features_of(model, number):
    """Features that the first task's network has for some images of a task, whose number is their seed."""
    data = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(number))
    with in_eval_mode(model.backbone.modules()), model.finished_view("a"), torch.no_grad():
        return model.backbone(data)


def fitted(model, number):
    features = features_of(model, number)
    return fit_statistics(features, torch.arange(24) % 3, features[:5])


def learn(model, task, mask):
    model.add_task(task, num_classes=3, input_shape=(1, 8, 8), mean=(0.1,), std=(0.3,))
    packnet = model.packnet
    packnet.begin_task(task, private=model.private_modules(task))
    if mask is not None:
        packnet.learn_mask(mask)
    trained(packnet, model.heads[task])
    packnet.prune(0.5)
    trained(packnet, model.heads[task])
    packnet.finish_task()


def assert_same_bits(one, other, what):
    for part, value in one.tensors().items():
        assert torch.equal(bits(value), bits(other.tensors()[part])), f"{what}: {part}"


@pytest.mark.promise("Finding the task of an image", label="later tasks train, and files are packed and read")
@pytest.mark.parametrize("mask", [None, MASK], ids=["all earlier weights", "learned masks"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_statistics_stay(setting, mask, tmp_path):
    torch.manual_seed(3)
    model = packed_model(tasks={"a": 3}, **SETTINGS[setting])
    stored = {"a": fitted(model, 0)}
    for number, task in enumerate(("b", "c"), start=1):
        learn(model, task, mask)
        for earlier, name in enumerate(stored):
            assert_same_bits(stored[name], fitted(model, earlier), f"{name} after {task}")
        stored[task] = fitted(model, number)
        save_packed(model, tmp_path / "packed.safetensors", statistics=stored)
        net = load_packed(tmp_path / "packed.safetensors")
        assert list(net.statistics) == list(stored)
        for other, name in enumerate(stored):
            assert_same_bits(stored[name], net.statistics[name], f"{name} in the file after {task}")
            asked = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(other))
            with torch.no_grad(), net.packnet.subnetwork("a"):
                features = net.eval().backbone(asked)
            assert torch.equal(bits(features), bits(features_of(model, other))), f"features for images of {name}"
        save_packed(net, tmp_path / "again.safetensors", statistics=net.statistics)
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "packed.safetensors").read_bytes()
    assert bool(model.packnet.unused) == (mask is not None)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.promise("Finding the task of an image", label="a run that is killed in the second task, and resumed")
def test_a_run_that_is_killed(tmp_path):
    words = [*RUN, "which_task=features"]
    done = warm.run("packnet-train", *words, "hydra.run.dir=whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    process = warm.Process("packnet-train", *words, "hydra.run.dir=killed", cwd=tmp_path)
    assert warm.kill_after(process, (tmp_path / "killed/tasks/greek/train/last.ckpt").exists)
    shutil.copy(tmp_path / "killed/packed.safetensors", tmp_path / "then.safetensors")
    done = warm.run("packnet-resume", "killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    then = load_file(tmp_path / "then.safetensors")
    whole, now = (load_file(tmp_path / folder / "packed.safetensors") for folder in ("whole", "killed"))
    names = [name for name in whole if name.startswith("which/")]
    assert len(names) == 8
    for name in names:
        assert torch.equal(bits(now[name]), bits(whole[name])), name
        assert name.startswith("which/1/") or torch.equal(bits(now[name]), bits(then[name])), name
    results = [json.loads((tmp_path / folder / "results.json").read_text()) for folder in ("whole", "killed")]
    assert results[0]["accuracy"] == results[1]["accuracy"]
