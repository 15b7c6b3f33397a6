"""A first task whose classifier came with the weights: nothing is trained before the first pruning."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from packnet_pl import load_packed
from packnet_pl.data import image_folder
from packnet_pl.models.pretrained_inputs import timm_input
from tests.support import warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    for number, (name, classes) in enumerate({"first": "abc", "second": "de"}.items()):
        for split, count in (("train", 8), ("test", 5)):
            for place, kind in enumerate(classes):
                (folder / name / split / kind).mkdir(parents=True)
                for index in range(count):
                    noise = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8) + np.uint8(40 * place + 7 * number)
                    Image.fromarray(noise).save(folder / name / split / kind / f"{index}.png")
    torch.manual_seed(0)
    full = timm.create_model("test_resnet", num_classes=3)
    torch.save(full.state_dict(), folder / "weights.pth")
    return folder


def words(home, *more):
    return [
        "sequence=folders",
        f"sequence.folders={{first: {home / 'first'}, second: {home / 'second'}}}",
        "arch=timm/test_resnet",
        f"arch.pretrained={home / 'weights.pth'}",
        "arch.image_size=32",
        "sequence.tasks.first.head=pretrained",
        "sequence.tasks.first.train.epochs=0",
        "sequence.tasks.first.retrain.epochs=2",
        "sequence.tasks.second.train.epochs=1",
        "sequence.tasks.second.retrain.epochs=1",
        "optim.batch_size=8",
        "hydra.run.dir=r",
        *more,
    ]


@pytest.fixture(scope="module")
def finished(home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = warm.run("packnet-train", *words(home), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "r", done.stderr


def test_the_weights_answer_before_the_pruning_as_they_did_where_they_came_from(home, finished):
    found = json.loads((finished[0] / "results.json").read_text())
    full = timm.create_model("test_resnet", num_classes=3).eval()
    full.load_state_dict(torch.load(home / "weights.pth", weights_only=True))
    wanted = timm_input("test_resnet", 32)
    assert (wanted.resize, wanted.interpolation) == (33, "bilinear")
    given = {"resize": wanted.resize, "interpolation": wanted.interpolation, "mean": wanted.mean, "std": wanted.std}
    val = image_folder(home / "first", image_size=32, **given).val
    with torch.no_grad():
        right = [int(full(image.unsqueeze(0)).argmax()) == int(label) for image, label in val]
    assert found["tasks"][0]["val_accuracy"]["dense"] == sum(right) / len(right)
    assert all(value is not None for value in found["tasks"][0]["val_accuracy"].values())
    assert found["outputs_unchanged"] == [True, True]
    assert found["tasks"][0]["owned"] == pytest.approx(0.5, abs=0.001)


def test_nothing_was_trained_and_the_largest_weights_stayed(home, finished):
    assert "first, train: 0 epochs, nothing is trained" in finished[1]
    assert not (finished[0] / "tasks" / "first" / "train" / "last.ckpt").exists()
    owner = load_packed(finished[0] / "packed.safetensors").packnet.owners["conv1.0.weight"]
    before = torch.load(home / "weights.pth", weights_only=True)["conv1.0.weight"].abs()
    first = owner == 1
    assert int(first.sum()) == owner.numel() - round(0.5 * owner.numel())
    assert before[first].min() >= before[~first].max()


@pytest.mark.exhaustive
def test_a_run_killed_in_the_first_retraining_ends_the_same(home, finished, tmp_path):
    process = warm.Process("packnet-train", *words(home), cwd=tmp_path)
    checkpoint = tmp_path / "r" / "tasks" / "first" / "retrain" / "last.ckpt"
    assert warm.kill_after(process, checkpoint.exists)
    done = warm.run("packnet-resume", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    warm.assert_same(tmp_path / "r", warm.outcome(finished[0]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["sequence.tasks.second.head=pretrained"],
            "sequence.tasks.second: head='pretrained' was given: the pretrained",
        ),
        (["arch.pretrained=false"], "sequence.tasks.first: head='pretrained' was given, but this ResNet came with no"),
        (["sequence.tasks.first.head=old"], "sequence.tasks.first.head is 'old'; allowed are 'new' and 'pretrained'"),
    ],
)
def test_a_classifier_that_is_not_there_or_does_not_fit_is_said_in_one_line(home, tmp_path, more, message):
    done = warm.run("packnet-train", *words(home, *more), cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "r").exists()


def test_fine_tuning_may_begin_with_the_classifier_too(home, tmp_path):
    done = warm.run("packnet-train", *words(home, "method=finetune"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    assert found["tasks"][0]["val_accuracy"]["dense"] is not None
    assert found["outputs_unchanged"] == [False, True]
