"""Two folders of photographs, one line: as a new user would."""

import json
import re

import pytest
import torch

from packnet_pl import load_packed
from tests.support.cases import breadth
from tests.support.commands import run, train
from tests.support.photographs import photographs

pytestmark = pytest.mark.slow

SMALL = ["debug=tiny", "debug.fraction=1", "optim.batch_size=8"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home of a user")
    photographs(folder / "my cats", ["tabby", "tom"])
    photographs(folder / "cars=new", ["bus", "taxi", "van"], seed=1)
    return folder


def folders(home):
    return f"sequence.folders={{cats: '{home / 'my cats'}', cars: '{home / 'cars=new'}'}}"


@pytest.mark.parametrize(
    "arch",
    breadth(
        [["vgg_small"], ["resnet18", "arch.width=0.25", "arch.image_size=32"], ["timm/test_resnet"]], ["vgg_small"]
    ),
    ids=lambda a: a[0],
)
def test_a_result_and_a_prediction(home, tmp_path, arch):
    done = train(
        "sequence=folders", folders(home), f"arch={arch[0]}", *arch[1:], *SMALL, "hydra.run.dir=r", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    assert found["arch"] == arch[0].removeprefix("timm/")
    assert [(task["name"], task["class_names"]) for task in found["tasks"]] == [
        ("cats", ["tabby", "tom"]),
        ("cars", ["bus", "taxi", "van"]),
    ]
    assert found["complete"] is True
    assert found["outputs_unchanged"] == [True, True]
    assert found["forgetting"] == [0.0, 0.0]
    evaluated = run("packnet-eval", "r", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    network = load_packed(tmp_path / "r" / "packed.safetensors")
    info = network.info("cars")
    assert info.class_names == ("bus", "taxi", "van")
    assert network(torch.zeros(1, *info.input_shape), task="cars").shape == (1, 3)


def test_single_tasks_are_configured_by_name(home, tmp_path):
    words = ["sequence=folders", folders(home), "sequence.order=[cars,cats]", "sequence.tasks.cars.train.epochs=3"]
    done = run("packnet-plan", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.lstrip().startswith(("cars", "cats"))]
    assert [line[0] for line in lines] == ["cars", "cats"]
    assert "3 + 10" in done.stdout
    assert "20 + 10" in done.stdout


def test_a_folder_can_stand_beside_the_embedded_tasks(home, tmp_path):
    words = ["data@sequence.tasks.greek.data=folder", f"sequence.tasks.greek.data.path='{home / 'my cats'}'"]
    done = run("packnet-plan", *words, "sequence.order=[digits,greek]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"greek +2 +\d+ / \d+ / 24 ", done.stdout)


@pytest.mark.parametrize("num_workers", breadth([0, 1], 1))
def test_a_damaged_image_that_training_comes_upon_is_named_and_finished_tasks_stay(home, tmp_path, num_workers):
    photographs(tmp_path / "pets", ["dog", "hen"])
    bad = tmp_path / "pets" / "train" / "hen" / "photo 7.JPG"
    bad.write_bytes(bad.read_bytes()[:200])
    words = f"sequence.folders={{cats: '{home / 'my cats'}', pets: pets}}"
    done = train("sequence=folders", words, *SMALL, f"optim.num_workers={num_workers}", "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("packnet-train: cannot be read as an image: ")
    assert "photo 7.JPG" in last
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    assert [task["name"] for task in found["tasks"]] == ["cats"]
    assert found["complete"] is False


WRONG = {
    "no folders": ([], "sequence.folders has no value: give it as 'sequence.folders={cats: /data/cats"),
    "a list": (["sequence.folders=[a,b]"], "sequence.folders"),
    "no path": (["sequence.folders={cats: null}"], "sequence.folders.cats is None; give the path of a folder"),
    "missing folder": (["sequence.folders={cats: nowhere}"], "nowhere"),
    "no train folder": (["sequence.folders={cats: empty}"], "train"),
    "unknown task": (["sequence.folders={cats: pets}", "sequence.tasks.cast.train.epochs=3"], "did you mean cats?"),
    "misspelt phase key": (
        ["sequence.folders={cats: pets}", "sequence.tasks.cats.train.epoch=3"],
        "sequence.tasks.cats.train.epoch",
    ),
    "misspelt data key": (
        ["sequence.folders={cats: pets}", "sequence.tasks.cats.data.image_sise=32"],
        "sequence.tasks.cats.data.image_sise: packnet_pl.data.image_folder has no such argument; did you mean image_s",
    ),
    "one class only": (["sequence.folders={cats: single}"], "class"),
    "class missing in test": (["sequence.folders={cats: onesided}"], "tom"),
    "order of an unknown task": (
        ["sequence.folders={cats: pets}", "sequence.order=[dogs]"],
        "sequence.order names 'dogs'",
    ),
    "a name with a slash": (["sequence.folders={'a/b': pets}"], "a/b"),
    "unknown backbone": (
        ["sequence.folders={cats: pets}", "arch=resnet19"],
        "there is no arch=resnet19; did you mean resnet18",
    ),
    "unknown timm backbone": (["sequence.folders={cats: pets}", "arch=timm/resnet18x"], "did you mean 'resnet18'"),
    "weights that are not there": (
        ["sequence.folders={cats: pets}", "arch=resnet18", "arch.pretrained=nowhere.pth"],
        "nowhere.pth",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_turn_is_answered_in_one_line(case, tmp_path):
    arguments, message = WRONG[case]
    photographs(tmp_path / "pets", ["tabby", "tom"], count=2)
    photographs(tmp_path / "single", ["tabby"], count=2)
    photographs(tmp_path / "onesided", ["tabby", "tom"], count=2)
    for image in (tmp_path / "onesided" / "test" / "tom").iterdir():
        image.unlink()
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = train("sequence=folders", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
