"""Runs in true half and double precision: what is not Lightning's own pass takes images in the network's type, too."""

import shutil

import pytest
import torch
from PIL import Image

from packnet_pl import TaskClassifier, load_packed, save_packed
from packnet_pl.cli.evaluate import evaluate
from packnet_pl.models import resnet20
from packnet_pl.packed.export import export_task
from packnet_pl.packed.predict import predict_images
from packnet_pl.run.probe import load_probe
from tests.support import warm
from tests.support.commands import last_line

TYPES = {"bf16-true": torch.bfloat16, "64-true": torch.float64}
SMALL = ["debug=tiny", "debug.fraction=0.02", "logger=none"]
TWO = ["sequence.order=[digits,greek]", "prune.last=true"]


def refused(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return last_line(done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "words"),
    [
        pytest.param("bf16-true", ["norm=per_task"], id="bf16-true"),
        pytest.param("64-true", ["method=lwf"], id="64-true", marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_in_true_precision_is_measured_packed_asked_again_resumed_and_gone_on_from(tmp_path, precision, words):
    run, kind = tmp_path / "r", TYPES[precision]
    words = [*SMALL, *TWO, f"trainer.precision={precision}", *words]
    done = warm.run("packnet-train", *words, "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert evaluate(run)
    network = load_packed(run / "packed.safetensors")
    images, logits = load_probe(run / "tasks/greek/probe.safetensors")
    assert logits.dtype == kind
    assert torch.equal(network(images, task="greek"), logits)
    Image.new("L", (24, 24), 128).save(tmp_path / "x.png")
    (answer,) = predict_images(network, [str(tmp_path / "x.png")], ["digits"], top=1, batch_size=1)
    assert answer.task == "digits"

    begun = shutil.copytree(run, tmp_path / "begun")
    for name in ("results.json", "packed.safetensors", "tasks/greek/finished.json"):
        (begun / name).unlink()
    shutil.rmtree(begun / "tasks" / "greek" / "retrain", ignore_errors=True)
    done = warm.run("packnet-resume", begun, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "greek goes on from" in done.stderr
    warm.assert_same(begun, warm.outcome(run))
    if precision == "64-true":
        return

    more = [*SMALL, f"packed={run}/packed.safetensors", "sequence.add=[latin]", "hydra.run.dir=more"]
    done = warm.run("packnet-train", *more, "trainer.precision=64-true", cwd=tmp_path)
    said = "were trained in bfloat16 and would answer otherwise in float64: give trainer.precision=bf16-true"
    assert said in refused(done)
    done = warm.run("packnet-train", *more, "trainer.precision=bf16-true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = warm.outcome(tmp_path / "more")["results.json"]
    assert found["outputs_unchanged"] == [None, None, True]
    assert found["accuracy"][2][:2] == warm.outcome(run)["results.json"]["accuracy"][1]


@pytest.mark.slow
def test_a_plan_counts_the_bytes_of_the_precision(tmp_path):
    done = warm.run("packnet-plan", *SMALL, *TWO, "trainer.precision=64-true", cwd=tmp_path)
    assert "2.3 MB as 2 separate networks" in done.stdout


@pytest.fixture
def network(tmp_path):
    """Returns the packed network, with the task "t", of a type."""

    def build(kind):
        torch.manual_seed(0)
        model = TaskClassifier(resnet20(in_channels=1, width=0.25))
        model.to(kind).add_task("t", num_classes=3, input_shape=(1, 16, 16))
        model.packnet.begin_task("t")
        model.packnet.finish_task()
        save_packed(model, tmp_path / "packed.safetensors")
        return load_packed(tmp_path / "packed.safetensors")

    return build


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_what_onnx_files_cannot_hold_is_refused_before_anything_is_written(network, tmp_path, kind):
    with pytest.raises(ValueError, match=f"computes in {str(kind)[6:]}, and ONNX files are written for float32 and"):
        export_task(network(kind), "t", tmp_path / "out" / "t.onnx", "onnx")
    assert not (tmp_path / "out").exists()
    assert export_task(network(kind), "t", tmp_path / "out" / "t.pt", "torch") == 0


def test_a_network_too_large_for_one_onnx_file_is_refused_before_anything_is_written(network, tmp_path, monkeypatch):
    monkeypatch.setattr("packnet_pl.packed.export._LARGEST_ONNX", 10_000)
    with pytest.raises(ValueError, match=r"holds at most 10,000 bytes of weights, and the network has \d"):
        export_task(network(torch.float32), "t", tmp_path / "out" / "t.onnx", "onnx")
    assert not (tmp_path / "out").exists()


def test_weights_that_torch_writes_beside_an_onnx_file_after_all_are_not_left_there(network, tmp_path, monkeypatch):
    from torch.onnx._internal.exporter import _onnx_program

    monkeypatch.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 10_000)
    with pytest.raises(ValueError, match=r"one ONNX file holds at most 1,500,000,000 bytes .* has more than that"):
        export_task(network(torch.float32), "t", tmp_path / "out" / "t.onnx", "onnx")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_half_precision_is_exported_to_onnx_though_it_is_computed_in_single(network, tmp_path):
    packed = network(torch.float16)
    for head in packed.heads.children():
        head.weight.data.mul_(4)  # logits as large as a trained network's
    assert 1e-3 < export_task(packed, "t", tmp_path / "t.onnx", "onnx") < 0.2
