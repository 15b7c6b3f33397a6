"""``packnet-export``, ``packnet-predict`` and ``packnet-inspect`` on a packed file that lies by itself."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from packnet_pl import TaskClassifier, load_packed, save_packed
from packnet_pl.cli.predict import _print_lines
from packnet_pl.data import image_folder
from packnet_pl.models import Preparation, vgg_small
from packnet_pl.packed import TaskFigures
from packnet_pl.packed.predict import Prediction, image_reader
from tests.support.commands import last_line, run_installed
from tests.support.warm import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A packed file of two tasks, and the folder of images that the first is about, of other sizes than it takes."""
    folder = tmp_path_factory.mktemp("packed commands")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("bright", "dark"):
            (folder / "images" / split / label).mkdir(parents=True)
            for number in range(5):
                pixels = rng.integers(0, 256, (30 + number, 41, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{number}.png")
    torch.manual_seed(0)
    model = TaskClassifier(vgg_small(image_size=16, stages=((4,), (6,)), hidden=8))
    data = image_folder(folder / "images", image_size=16, resize=20, channels=1)
    for task, names in {"light": data.class_names, "letters [x]": ("a", "b", "c", "d")}.items():
        model.add_task(
            task,
            num_classes=len(names),
            class_names=names,
            input_shape=data.input_shape,
            mean=data.mean,
            std=data.std,
            preparation=data.preparation,
        )
        model.packnet.begin_task(task, private=model.private_modules(task))
        with torch.no_grad():
            model.backbone.classifier[0].weight.add_(0.05)
        model.packnet.restore_()
        model.packnet.prune(0.5)
        model.packnet.finish_task()
    figures = {"light": TaskFigures(0.5, 0.75)}
    save_packed(model, folder / "packed.safetensors", figures=figures)
    return folder


def refused(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return last_line(done.stderr)


# Prediction.


def test_images_are_answered_as_in_the_test_split(folder, tmp_path):
    words = ("--task", "light", "--json", "--batch-size", 10, folder / "images" / "test")
    done = run("packnet-predict", folder / "packed.safetensors", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    data = image_folder(folder / "images", image_size=16, resize=20, channels=1)
    logits = load_packed(folder / "packed.safetensors")(torch.stack([item[0] for item in data.test]), task="light")
    expected = logits.double().softmax(dim=1)
    assert len(lines) == 10
    for line, shares in zip(lines, expected, strict=True):
        order = shares.argsort(descending=True)
        assert [found["name"] for found in line["classes"]] == [data.class_names[place] for place in order]
        assert [found["probability"] for found in line["classes"]] == [round(float(shares[p]), 6) for p in order]
        assert line["task"] == "light"
        assert "lead" not in line


def test_the_size_of_batches_and_the_number_of_classes_are_free(folder, tmp_path):
    outputs = [
        run("packnet-predict", folder / "packed.safetensors", "--task", "letters [x]", "--json", "--top", top,
            "--batch-size", size, folder / "images", cwd=tmp_path).stdout
        for size, top in ((3, 2), (64, 2), (64, 99))
    ]  # fmt: skip
    assert [len(json.loads(line)["classes"]) for line in outputs[1].splitlines()] == [2] * 20
    assert [len(json.loads(line)["classes"]) for line in outputs[2].splitlines()] == [4] * 20
    for one, other in zip(outputs[0].splitlines(), outputs[1].splitlines(), strict=True):
        assert json.loads(one)["picture"] == json.loads(other)["picture"]
        assert json.loads(one)["classes"][0]["probability"] == pytest.approx(
            json.loads(other)["classes"][0]["probability"], abs=1e-5
        )


def test_lines_are_json_also_where_a_network_answers_nan(capsys):
    nan = float("nan")
    answers = [Prediction("a.png", "auto", (("crane", nan), ("ox", float("inf"))), nan, nan)]
    assert _print_lines(answers) == 0

    def refuse(constant):
        raise AssertionError(constant)

    classes = [{"name": "crane", "probability": None}, {"name": "ox", "probability": None}]
    expected = {"picture": "a.png", "task": "auto", "classes": classes, "entropy": None, "lead": None}
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == expected


def test_a_task_called_auto_is_meant_by_its_name(folder, tmp_path):
    net = load_packed(folder / "packed.safetensors")
    net.heads.infos = {"auto" if name == "light" else name: info for name, info in net.heads.infos.items()}
    net.packnet = None
    save_packed(net, tmp_path / "packed.safetensors")
    found = tmp_path / "packed.safetensors", folder / "images" / "test" / "dark" / "0.png"
    done = run("packnet-predict", *found, "--task", "auto", "--json", cwd=tmp_path)
    assert json.loads(done.stdout).keys() == {"picture", "task", "classes", "entropy"}


def test_a_backbone_with_a_name_in_markup_is_shown_as_it_is(folder, tmp_path):
    net = load_packed(folder / "packed.safetensors")
    net.backbone.builder = {"name": "[/red]", "arguments": {"[bold]": [1, 2]}}
    save_packed(net, tmp_path / "packed.safetensors")
    done = run("packnet-inspect", tmp_path / "packed.safetensors", cwd=tmp_path)
    assert done.stdout.splitlines()[0] == "backbone: [/red]([bold]=[1, 2])"


def test_a_table_names_images_classes_and_probabilities(folder, tmp_path):
    image = folder / "images" / "test" / "dark" / "0.png"
    done = run("packnet-predict", folder / "packed.safetensors", "--task", "letters [x]", image, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "classes, %" in done.stdout
    assert all(f"{name} " in done.stdout for name in "abcd"[:1])
    assert done.stderr == ""


def test_auto_takes_the_task_of_the_lowest_entropy_and_says_its_lead(folder, tmp_path):
    lines = {}
    for task in ("light", "letters [x]", "auto"):
        done = run("packnet-predict", folder / "packed.safetensors", "--task", task, "--json", folder / "images",
                   cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines[task] = [json.loads(line) for line in done.stdout.splitlines()]
    for light, letters, auto in zip(*lines.values(), strict=True):
        best, other = sorted((light, letters), key=lambda line: line["entropy"])
        assert {key: auto[key] for key in best} == best
        assert auto["lead"] == pytest.approx(other["entropy"] - best["entropy"], abs=2e-6)
        assert 0 <= best["entropy"] <= 1
    done = run("packnet-predict", folder / "packed.safetensors", "--task", "auto", folder / "images", cwd=tmp_path)
    assert "lead" in done.stdout


def test_a_box_is_cut_out_first_and_what_the_test_split_had_otherwise_is_said(folder, tmp_path):
    torch.manual_seed(0)
    model = TaskClassifier(vgg_small(image_size=16, stages=((4,), (6,)), hidden=8))
    known = {"input_shape": (1, 16, 16), "mean": (0.5,), "std": (0.25,)}
    model.add_task("birds", num_classes=2, preparation=Preparation("L", (16, 16), boxes=True), **known)
    model.add_task("any", num_classes=2, **known)
    for task in model.tasks:
        model.packnet.begin_task(task)
        model.packnet.prune(0.5)
        model.packnet.finish_task()
    save_packed(model, tmp_path / "packed.safetensors")
    image = folder / "images" / "test" / "dark" / "0.png"
    with Image.open(image) as pixels:
        pixels.crop((3, 4, 21, 24)).save(tmp_path / "cut.png")
    words = ("packnet-predict", "packed.safetensors", "--json", "--task")
    boxed = run(*words, "birds", "--box", "3,4,21,24", image, cwd=tmp_path)
    cut = run(*words, "auto", "cut.png", cwd=tmp_path)
    assert (boxed.returncode, boxed.stderr, cut.returncode) == (0, "", 0)
    network = load_packed(tmp_path / "packed.safetensors")
    answer = network(image_reader(network.info("birds"))(str(tmp_path / "cut.png")).unsqueeze(0), task="birds")
    likeliest = json.loads(boxed.stdout)["classes"][0]["probability"]
    assert likeliest == round(float(answer.double().softmax(1).max()), 6)
    assert "birds: its test images were cut out by boxes; without --box an image counts as cut out" in cut.stderr
    assert "any: the file does not say how its images were prepared; 256 / 224" in cut.stderr


def test_a_file_that_is_no_image_is_named_and_the_others_are_answered(folder, tmp_path):
    good = folder / "images" / "test" / "dark" / "0.png"
    (tmp_path / "bad.png").write_bytes(good.read_bytes()[:50])
    words = ("packnet-predict", folder / "packed.safetensors", "--task", "light", tmp_path / "bad.png", good)
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot be read as an image" in last_line(done.stderr)
    assert "0.png" in done.stdout
    done = run(*words, "--json", cwd=tmp_path)
    assert done.returncode == 1
    bad, answered = map(json.loads, done.stdout.splitlines())
    assert "cannot be read" in bad["error"]
    assert answered["picture"] == str(good)


def test_wrong_words_get_one_line(folder, tmp_path):
    file, images = folder / "packed.safetensors", folder / "images"
    (tmp_path / "empty").mkdir()
    for words, said in {
        (file, "--task", "greek", images): "--task is 'greek'; the file has the tasks ['light', 'letters [x]']",
        ("nowhere", "--task", "light", images): "there is no packed file nowhere",
        (tmp_path, "--task", "light", images): "packed.safetensors; name one, or the directory of a run",
        (file, "--task", "light", "nothing.png"): "there is no image or folder nothing.png",
        (file, "--task", "light", tmp_path / "empty"): "holds no image; files that end in one of",
        (file, "--task", "light", "--top", 0, images): "--top is 0; allowed is 1 or more",
        (file, "--task", "light", "--box", "0,0,9,9", images): "--box is of one image, and 20 were given",
        (file, "--task", "light", "--box", "9,0,9,9", images): "--box is '9,0,9,9'; allowed are the left, top, right",
        (images / "test/dark/0.png", "--task", "light", images): "0.png is not a packed file, or is damaged",
    }.items():
        done = run("packnet-predict", *words, cwd=tmp_path)
        assert said in refused(done)
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


# Export.


@pytest.mark.parametrize(("format", "ending"), [("torch", "pt"), ("torch_export", "pt2"), ("onnx", "onnx")])
def test_an_exported_task_answers_as_the_packed_network_does(folder, tmp_path, format, ending):
    done = run("packnet-export", folder, "--task", "light", "--format", format, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"light.{ending}: ")
    assert [path.name for path in tmp_path.iterdir()] == [f"light.{ending}"]
    path = tmp_path / f"light.{ending}"
    network = load_packed(folder / "packed.safetensors")
    for size in (1, 2, 7):
        images = torch.randn(size, 1, 16, 16)
        expected = network(images, task="light")
        if format == "torch":
            alone = network.standalone("letters [x]")
            alone.head = torch.nn.Linear(8, 2)
            alone.load_state_dict(torch.load(path, weights_only=True), strict=True)
            with torch.no_grad():
                assert torch.equal(alone(images), expected)
        elif format == "torch_export":
            extra = {"packnet_pl.json": ""}
            program = torch.export.load(path, extra_files=extra)
            assert torch.allclose(program.module()(images), expected, atol=1e-6)
            assert json.loads(extra["packnet_pl.json"])["class_names"] == ["bright", "dark"]
            assert json.loads(extra["packnet_pl.json"])["preparation"]["shorter_side"] == 20
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            (found,) = session.run(["logits"], {"pictures": images.numpy()})
            assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)
            about = session.get_modelmeta().custom_metadata_map["packnet_pl"]
            assert json.loads(about)["mean"] == [0.5]
            assert json.loads(about)["preparation"] == network.info("light").preparation.dump()


def test_a_file_that_answers_otherwise_is_not_left(folder, tmp_path, monkeypatch):
    from packnet_pl.packed import export

    network = load_packed(folder / "packed.safetensors")
    (tmp_path / "light.pt").write_text("what was there before")
    honest = network.standalone

    def wrong(task):
        module = honest(task)
        with torch.no_grad():
            module.head.bias[0] += 1
        return module

    monkeypatch.setattr(network, "standalone", wrong)
    with pytest.raises(ValueError, match="the torch file answers otherwise than the network, by 1: not written"):
        export.export_task(network, "light", tmp_path / "light.pt", "torch")
    assert (tmp_path / "light.pt").read_text() == "what was there before"
    assert len(list(tmp_path.iterdir())) == 1


def test_another_precision_tells_what_it_changes(folder, tmp_path):
    words = ("packnet-export", folder / "packed.safetensors", "--format", "packed", "--dtype", "bf16")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "packed_bf16.safetensors: " in done.stdout
    assert "largest change" in done.stdout
    assert load_packed(tmp_path / "packed_bf16.safetensors").tasks == ["light", "letters [x]"]
    shutil.copy(folder / "packed.safetensors", tmp_path / "own.safetensors")
    done = run("packnet-export", "own.safetensors", "--format", "packed", "--dtype", "bf16", "--output",
               "own.safetensors", cwd=tmp_path)  # fmt: skip
    assert "the file itself, whose full precision would be lost" in refused(done)


def test_another_precision_of_a_run_is_measured_on_its_test_splits(tiny_run, tmp_path):
    done = run("packnet-export", tiny_run[0], "--format", "packed", "--dtype", "fp16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = json.loads((tiny_run[0] / "results.json").read_text())["accuracy"][-1]
    for name, before in zip(("latin", "greek", "cyrillic", "digits"), accuracy, strict=True):
        (row,) = [line for line in done.stdout.splitlines() if line.startswith(f" {name} ")]
        assert row.split()[1] == f"{100 * before:.2f}"
        assert len(row.split()) == 6


def test_wrong_exports_get_one_line(folder, tmp_path):
    for words, said in {
        (folder, "--task", "greek", "--format", "onnx"): "--task is 'greek'; the file has the tasks ['light',",
        (folder, "--format", "onnx"): "--task is missing; the file has the tasks",
        ("nowhere", "--task", "light", "--format", "onnx"): "there is no packed file nowhere",
        (folder, "--task", "light", "--format", "onnx", "--output", "no/such/file"): "a folder that is there",
        (folder, "--task", "light", "--format", "onnx", "--dtype", "bf16"): "go together",
        (folder, "--task", "light", "--format", "packed", "--dtype", "bf16"): "leave --task out",
    }.items():
        done = run("packnet-export", *words, cwd=tmp_path)
        assert said in refused(done)
        assert len(done.stderr.splitlines()) == 1
    assert "invalid choice: 'keras'" in refused(run("packnet-export", folder, "--format", "keras", cwd=tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".out", ".err")]


def hide_onnx():
    sys.modules["onnxruntime"] = None


def test_a_missing_extra_is_said_in_one_line(folder, tmp_path):
    done = run("packnet-export", folder, "--task", "light", "--format", "onnx", cwd=tmp_path, before=hide_onnx)
    assert "--format onnx needs the package onnxruntime: install packnet-pl[export]" in refused(done)
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


# Inspection.


def test_inspection_tells_tasks_owners_sizes_and_room(folder, tmp_path):
    done = run("packnet-inspect", folder, "--ratio", 0.5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "vgg_small(in_channels=1, image_size=16" in text
    (row,) = [line for line in text.splitlines() if line.startswith(" light ")]
    assert row.split() == ["light", "2", "1", "x", "16", "x", "16", "0.5", "75.00", "510", "50.00"]
    assert "letters [x]" in text
    (row,) = [line for line in text.splitlines() if line.startswith(" classifier.0.weight ")]
    assert row.split() == ["classifier.0.weight", "768", "50.00", "25.00", "25.00"]
    assert f" {(folder / 'packed.safetensors').stat().st_size:,} " in text
    assert "further tasks would fit at ratio 0.5, and own 12.55, 6.18" in text
    for ratio in ("1", "-0.5", "75"):
        assert f"--ratio is {float(ratio)}; allowed is a fraction in [0, 1)" in refused(
            run("packnet-inspect", folder, f"--ratio={ratio}", cwd=tmp_path)
        )


# A file on its own.


def test_the_file_alone_predicts_in_another_folder(folder, tmp_path):
    """The installed command, as a user starts it, in an empty folder with nothing but the file and an image."""
    shutil.copy(folder / "packed.safetensors", tmp_path / "copied.safetensors")
    shutil.copy(folder / "images" / "test" / "dark" / "0.png", tmp_path / "image.png")
    done = run_installed(
        "packnet-predict", "copied.safetensors", "--task", "light", "image.png", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert {found["name"] for found in json.loads(done.stdout)["classes"]} == {"bright", "dark"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied.safetensors", "image.png"]
