"""Statistics of features by which images find their task: what a run stores, and what reads it."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from packnet_pl import load_packed
from packnet_pl.container import open_packed
from packnet_pl.data import glyphs
from tests.support import MADE_AT_5B152F2 as MADE
from tests.support import warm

pytestmark = pytest.mark.slow

TINY = ["debug=tiny", "debug.fraction=0.1", "logger=none", "sequence.order=[greek,digits]"]


def ran(program, *words, cwd):
    done = warm.run(program, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two runs, which differ in the option alone, and some letters as files."""
    folder = tmp_path_factory.mktemp("which")
    ran("packnet-train", *TINY, "hydra.run.dir=entropy", cwd=folder)
    ran("packnet-train", *TINY, "which_task=features", "hydra.run.dir=features", cwd=folder)
    counts = {"train_per_class": 1, "val_per_class": 1, "test_per_class": 1}
    images = glyphs("greek", **counts, cache_dir=str(folder)).test.tensors[0]
    (folder / "letters").mkdir()
    for number, image in enumerate(images[:6]):
        pixels = ((image[0] * 0.25 + 0.35) * 255).round().to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / "letters" / f"{number}.png")
    return folder


def tensors_of(folder):
    return load_file(folder / "packed.safetensors")


def test_nothing_but_the_statistics_is_added_to_the_file(home):
    without, added = tensors_of(home / "entropy"), tensors_of(home / "features")
    parts = ("means", "directions", "variances", "scale")
    assert added.keys() - without.keys() == {f"which/{number}/{part}" for number in range(2) for part in parts}
    assert all(torch.equal(added[name], tensor) for name, tensor in without.items() if name != "checksum")
    headers = [dict(open_packed(home / name / "packed.safetensors").header) for name in ("entropy", "features")]
    checksums = [header.pop("checksums") for header in headers]
    assert headers[0] == headers[1]
    assert checksums[0].items() <= checksums[1].items()


def test_results_are_the_same_and_say_the_option_where_it_was_given(home):
    paths = [home / name / "results.json" for name in ("entropy", "features")]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    assert "which_task" not in results[0]["settings"]
    assert results[1]["settings"].pop("which_task") == "features"
    for result in results:
        del result["storage"]["packed_bytes"]
        for task in result["tasks"]:
            del task["seconds"]
    assert results[0] == results[1]


def test_statistics_are_of_the_training_images_of_each_task(home):
    added = tensors_of(home / "features")
    assert [tuple(added[f"which/{number}/means"].shape) for number in range(2)] == [(31, 128), (10, 128)]
    assert added["which/0/directions"].shape == (64, 128)


def test_inspecting_says_what_they_take(home):
    said = ran("packnet-inspect", "features", cwd=home).stdout
    stored = open_packed(home / "features" / "packed.safetensors").bytes_below("which/")
    assert f"{stored:,}" in said
    assert "statistics by which --task auto finds a task" in said
    assert "statistics" not in ran("packnet-inspect", "entropy", cwd=home).stdout


def test_auto_takes_the_task_that_fits_best_and_predicts_with_it(home):
    lines = ran("packnet-predict", "features", "--task", "auto", "--json", "letters", cwd=home).stdout.splitlines()
    network = load_packed(home / "features" / "packed.safetensors")
    for found in map(json.loads, lines):
        assert found["task"] == "greek"
        assert found["lead"] > 0
        named = ran("packnet-predict", "features", "--task", "greek", "--json", found["picture"], cwd=home).stdout
        assert json.loads(named)["classes"] == found["classes"]
    assert len(lines) == 6
    assert network.which_task(torch.zeros(2, 1, 24, 24)) != []


def test_a_file_in_half_precision_keeps_them(home):
    ran("packnet-export", "features", "--format", "packed", "--dtype", "bf16", "--output", "b.safetensors", cwd=home)
    was, now = tensors_of(home / "features"), load_file(home / "b.safetensors")
    assert all(torch.equal(now[name], tensor) for name, tensor in was.items() if name.startswith("which/"))


@pytest.mark.exhaustive
def test_a_task_that_is_added_gets_its_own_and_earlier_ones_are_kept(home, tmp_path):
    packed = home / "features" / "packed.safetensors"
    words = [f"packed={packed}", "sequence.add=[cyrillic]", "debug=tiny", "debug.fraction=0.1", "logger=none"]
    ran("packnet-train", *words, "hydra.run.dir=without", cwd=tmp_path)
    ran("packnet-train", *words, "which_task=features", "hydra.run.dir=with", cwd=tmp_path)
    was, without, added = tensors_of(home / "features"), tensors_of(tmp_path / "without"), tensors_of(tmp_path / "with")
    for name, tensor in was.items():
        if name.startswith("which/"):
            assert torch.equal(without[name], tensor)
            assert torch.equal(added[name], tensor)
    assert not any(name.startswith("which/2/") for name in without)
    assert added["which/2/means"].shape == (32, 128)


def test_it_may_be_chosen_for_the_tasks_that_follow(home, tmp_path):
    packed = home / "entropy" / "packed.safetensors"
    words = [f"packed={packed}", "sequence.add=[cyrillic]", "debug=tiny", "debug.fraction=0.1", "logger=none"]
    ran("packnet-train", *words, "which_task=features", "hydra.run.dir=late", cwd=tmp_path)
    assert list(load_packed(tmp_path / "late" / "packed.safetensors").statistics) == ["cyrillic"]
    letters = home / "letters"
    lines = ran("packnet-predict", "late", "--task", "auto", "--json", letters, cwd=tmp_path).stdout.splitlines()
    assert {json.loads(line)["task"] for line in lines} <= {"greek", "digits", "cyrillic"}


def test_old_files_are_asked_as_before(home, tmp_path):
    lines = ran("packnet-predict", MADE / "finished", "--task", "auto", "--json", home / "letters", cwd=tmp_path)
    tasks = load_packed(MADE / "finished" / "packed.safetensors").tasks
    for found in map(json.loads, lines.stdout.splitlines()):
        assert found["task"] in tasks
        assert 0 <= found["lead"] <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["which_task=gate"], "which_task is 'gate'; allowed are 'entropy' and 'features'"),
        (
            ["which_task=features", "method=finetune"],
            "=features was given, but method=finetune packs nothing",
        ),
    ],
)
def test_what_is_not_allowed_is_refused(tmp_path, words, said):
    done = warm.run("packnet-train", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "run").exists()
