"""All published data sets, tiny and in their exact layouts, through the command line."""

import json

import pytest
import timm
import torch

from packnet_pl import load_packed
from packnet_pl.models import Preparation
from tests.support import published as toys
from tests.support import warm

pytestmark = pytest.mark.slow

ORDER = ["imagenet", "places365", "cubs", "cars", "flowers", "wikiart", "sketch"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = toys.all_of_them(tmp_path_factory.mktemp("all data"))
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), folder / "weights.pth")
    return folder


def words(root, *more):
    parts = [f"sequence.tasks.{name}.data.subset=true" for name in ORDER if name not in ("wikiart", "sketch")]
    return [
        "sequence=paper",
        f"sequence.root='{root}'",
        "arch=timm/test_resnet",
        f"arch.pretrained='{root}/weights.pth'",
        "arch.image_size=32",
        f"sequence.order=[{','.join(ORDER)}]",
        "optim.batch_size=4",
        "debug.max_epochs=1",
        "hydra.run.dir=r",
        *parts,
        *more,
    ]


def test_a_sequence_of_all_of_them(root, tmp_path):
    given = [f"sequence.tasks.{name}.data.interpolation=bicubic" for name in ("wikiart", "cubs")]
    given += ["sequence.tasks.wikiart.data.squash=true", "sequence.tasks.wikiart.data.resize=0.8"]
    done = warm.run("packnet-train", *words(root, *given), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    assert [task["name"] for task in found["tasks"]] == ORDER
    assert [task["num_classes"] for task in found["tasks"]] == [3, 2, 2, 2, 102, 2, 2]
    assert [task["test_size"] for task in found["tasks"]] == [6, 4, 4, 4, 3, 4, 4]
    assert found["outputs_unchanged"] == [True] * 7
    assert found["forgetting"] == [0.0] * 7
    assert "imagenet, train: 0 epochs" in done.stderr
    network = load_packed(tmp_path / "r" / "packed.safetensors")
    info = network.info("cubs")
    assert (info.class_names, info.input_shape) == (("Black footed Albatross", "Laysan Albatross"), (3, 32, 32))
    # timm's metadata of these weights say 0.5, not ImageNet's mean.
    assert info.mean == tuple(timm.get_pretrained_cfg("test_resnet").mean) == (0.5,) * 3
    # Nor that of resizing and cutting; birds are cut out by their boxes.
    assert network.info("flowers").preparation == Preparation("RGB", (32, 32), 33)
    assert network.info("wikiart").preparation == Preparation("RGB", (32, 32), 40, interpolation="bicubic", squash=True)
    assert network.info("cubs").preparation == Preparation("RGB", (32, 32), boxes=True, interpolation="bicubic")
    evaluated = warm.run("packnet-eval", "r", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    # The data may have moved meanwhile.
    (tmp_path / "moved").symlink_to(root)
    again = warm.run("packnet-resume", "r", "sequence.root=moved", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["sequence.tasks.cubs.data.subset=false"], "sequence.tasks.cubs.data: CUB-200-2011 has 200 classes, and "),
        (
            ["sequence.tasks.cars.data.path=nowhere"],
            "/nowhere; Stanford Cars is expected as cars_train/*.jpg, cars_test/*.jpg, devkit/cars_meta.mat, ",
        ),
        (["sequence.root=null"], "home page: https://www.image-net.org"),
        (["sequence.tasks.sketch.data.val_fraction=1"], "sequence.tasks.sketch.data: val_fraction is 1; allowed is"),
        (["sequence.tasks.imagenet.data.read._target_=packnet_pl.data.read_mnist"], "data.read"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(root, tmp_path, more, said):
    done = warm.run("packnet-train", *words(root, *more), cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_all_data_is_asked_for(tmp_path):
    done = warm.run("packnet-train", "sequence=paper", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "sequence.root has no value: give it as sequence.root=/data, the folder of all data sets" in done.stderr


def test_an_image_cut_short_is_named_and_finished_tasks_stay(root, tmp_path):
    toys.cubs(tmp_path / "birds")
    for bad in (tmp_path / "birds" / "images").rglob("*.jpg"):
        if not bad.name.endswith(("_1.jpg", "_4.jpg")):  # the first ones of both splits are looked at at once
            bad.write_bytes(bad.read_bytes()[:300])
    more = [f"sequence.tasks.cubs.data.path={tmp_path}/birds", "sequence.order=[imagenet,cubs]"]
    done = warm.run("packnet-train", *words(root, *more), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"packnet-train: cannot be read as an image: {tmp_path}/birds/images/00")
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    assert ([task["name"] for task in found["tasks"]], found["complete"]) == (["imagenet"], False)
