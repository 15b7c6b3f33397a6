"""Every experiment of the paper composes, and runs to its end on tiny data sets in their true layouts."""

import json
import re
import shlex

import hydra
import pytest
import timm
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from packnet_pl import load_packed
from packnet_pl.configuration.components import build_parts
from packnet_pl.configuration.instantiate import bind_targets
from packnet_pl.configuration.run_config import checked
from packnet_pl.configuration.run_plan import build_plan
from packnet_pl.configuration.sequences import add_tasks, expand_tasks
from packnet_pl.configuration.validate import check_config
from packnet_pl.packed import packed_keeping, read_packed
from tests.support import ROOT, warm
from tests.support import published as toys
from tests.support.cases import breadth

FOLDER = ROOT / "conf" / "experiment" / "paper"
FOUR = ["imagenet", "cubs", "cars", "flowers"]
SIX = [*FOUR, "wikiart", "sketch"]
HALF = [0.5, 0.75, 0.75, None]
# Name -> tasks, ratios, network.
SINGLE = {
    "vgg16": (FOUR, HALF, "vgg16"),
    "vgg16_bn": (FOUR, HALF, "vgg16_bn"),
    "resnet50": (FOUR, HALF, "resnet50"),
    "densenet121": (FOUR, HALF, "densenet121"),
    "places365": (["imagenet", "places365"], [0.5, None], "vgg16"),
    "filters": (FOUR, HALF, "vgg16"),
    "biases": (FOUR, HALF, "vgg16"),
    "cpg": (SIX, [0.5, 0.75, 0.75, 0.75, 0.75, None], "resnet50"),
}
SWEEPS = {"orders": 6, "first_ratio": 3}
IMAGES = {  # to train on, as the data sets' own papers say; WikiArt and Sketch from memory
    "imagenet": 1_281_167,
    "places365": 1_803_460,
    "cubs": 5_994,
    "cars": 8_144,
    "flowers": 2_040,
    "wikiart": 42_129,
    "sketch": 16_000,
}
WITHOUT_WEIGHTS = ["arch.pretrained=false", "arch.width=0.1", "sequence.tasks.imagenet.head=new"]
SMALLEST = ["arch=timm/test_resnet", "arch.pretrained=false", "sequence.tasks.imagenet.head=new"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return toys.all_of_them(tmp_path_factory.mktemp("all data"))


def small(root, name, *more):
    """The words of an experiment on the tiny data."""
    counted = [f"sequence.tasks.{task}.data.subset=true" for task in [*FOUR, "places365"]]
    sizes = ["arch.image_size=32", "optim.num_workers=0", "debug.max_epochs=1", "logger=none"]
    return [f"experiment=paper/{name}", f"sequence.root='{root}'", *sizes, *counted, *more]


def compose(*words):
    with hydra.initialize_config_module("packnet_pl.conf", version_base="1.3"):
        composed = hydra.compose("train", list(words), return_hydra_config=True)
    params = OmegaConf.to_container(composed.hydra.sweeper.params) if composed.hydra.sweeper.params else {}
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    return add_tasks(expand_tasks(composed), []), params


def check(config):
    check_config(config)
    bind_targets(OmegaConf.to_container(config, resolve=True))


def head_of(name):
    """The comment that a file begins with, one long line for a command over several."""
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").split("\ndefaults:")[0].splitlines()
    assert all(line.startswith("#") for line in lines)
    return re.sub(r"\\\n\s*", "", "\n".join(line.removeprefix("#") for line in lines))


def commands_of(name):
    return [shlex.split(line) for line in re.findall(r"^ {5}(packnet-train .*)$", head_of(name), flags=re.MULTILINE)]


def jobs_of(name):
    """What each job of a sweep is given."""
    _, params = compose(f"experiment=paper/{name}", "sequence.root=/data")
    ((key, choices),) = params.items()
    sweep = OverridesParser.create().parse_override(f"{key}={choices}")
    return [f"{key}={value}" for value in sweep.sweep_string_iterator()]


def results(folder):
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert found["complete"]
    assert found["outputs_unchanged"] == [True] * len(found["tasks"])
    return found


def test_no_experiment_is_left_out():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted([*SINGLE, *SWEEPS])


@pytest.mark.parametrize("name", [*SINGLE, *SWEEPS])
def test_the_head_has_commands_that_compose_hardware_and_published_figures(name):
    commands = commands_of(name)
    assert any(f"experiment=paper/{name}" in command for command in commands)
    assert all(("-m" in command) == (name in SWEEPS) for command in commands if f"experiment=paper/{name}" in command)
    for command in commands:
        words = [word for word in command[1:] if word != "-m"]
        assert {"sequence.root=/data", "trainer=gpu"} <= set(words)
        check(compose(*words)[0])
    assert "Hardware, by arithmetic and not measured" in head_of(name)
    assert re.search(r"^ Published (top-1 error in %|figure: not in our notes)", head_of(name), flags=re.MULTILINE)


@pytest.mark.parametrize("name", [*SINGLE, *SWEEPS])
def test_all_have_the_papers_recipe(name):
    config, _ = compose(f"experiment=paper/{name}", "sequence.root=/data")
    assert (config.optim.batch_size, config.optim.gradient_clip, config.prune.last) == (32, None, False)
    assert dict(config.optim.optimizer) == {
        "_target_": "torch.optim.SGD",
        "_partial_": True,
        "momentum": 0.9,
        "weight_decay": 0.0,
    }
    assert config.arch.pretrained == "IMAGENET1K_V1"
    assert all(task.data.val_fraction == 0 for task in config.sequence.tasks.values())
    assert (config.sequence.tasks.imagenet.head, config.sequence.tasks.imagenet.train.epochs) == ("pretrained", 0)


def test_the_sweeps_have_all_orders_and_all_first_ratios():
    orders = [compose("experiment=paper/orders", "sequence.root=/data", job)[0] for job in jobs_of("orders")]
    for config in orders:
        check(config)
        assert config.sequence.order[0] == "imagenet"
        assert sorted(config.sequence.order) == sorted(FOUR)
    assert len({tuple(config.sequence.order) for config in orders}) == len(orders) == SWEEPS["orders"]
    ratios = [compose("experiment=paper/first_ratio", "sequence.root=/data", job)[0] for job in jobs_of("first_ratio")]
    for config in ratios:
        check(config)
    assert [list(config.prune.ratio) for config in ratios] == [[first, 0.75, 0.75, 0.75] for first in (0.5, 0.75, 0.9)]


def test_the_document_has_every_experiment_its_commands_and_its_images():
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for name in [*SINGLE, *SWEEPS]:
        assert f"| `paper/{name}`" in text
        assert f"experiment=paper/{name} sequence.root=/data trainer=gpu" in text
        config, _ = compose(f"experiment=paper/{name}", "sequence.root=/data")
        trained = sum(
            IMAGES[task.name] * phase.epochs for task in check_config(config) for phase in task.phases.values()
        )
        assert re.search(rf"^\|[^|]*`paper/{name}`.*\b{trained:,} ?[|;]", text, flags=re.MULTILINE)
        assert re.search(rf"\b{trained:,} images are trained on", head_of(name))
    for line in re.findall(r"^packnet-(?:train|plan) +(.*)$", text, flags=re.MULTILINE):
        words = shlex.split(line, comments=True)
        check(compose(*(re.sub(r"^(method=\w+),.*", r"\1", word) for word in words if word != "-m"))[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", breadth(SINGLE, "vgg16"))
def test_it_runs_on_miniature_data(root, tmp_path, name):
    done = warm.run("packnet-train", *small(root, name, *WITHOUT_WEIGHTS, "hydra.run.dir=r"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, (tasks, ratios, arch) = results(tmp_path / "r"), SINGLE[name]
    assert [task["name"] for task in found["tasks"]] == tasks
    assert [task["prune_ratio"] for task in found["tasks"]] == ratios
    assert (found["arch"], found["free"], found["forgetting"]) == (arch, 0, [0.0] * len(tasks))
    assert "imagenet, train: 0 epochs, nothing is trained" in done.stderr
    packed = tmp_path / "r" / "packed.safetensors"
    owners = [owner.flatten(1) for owner in load_packed(packed).packnet.owners.values()]
    assert all((owner == owner[:, :1]).all() for owner in owners) == (name == "filters")
    assert packed_keeping(read_packed(packed)) == ("shared", "per_task" if name == "biases" else "shared")


@pytest.mark.slow
def test_the_classifier_of_the_weights_is_the_first_head_and_other_ratios_are_one_word(root, tmp_path):
    torch.manual_seed(0)
    full = timm.create_model("test_resnet", num_classes=len(toys.WNIDS))
    torch.save(full.state_dict(), tmp_path / "weights.pth")
    words = ["arch=timm/test_resnet", f"arch.pretrained='{tmp_path}/weights.pth'", "prune.ratio=0.75"]
    done = warm.run("packnet-train", *small(root, "resnet50", *words, "hydra.run.dir=r"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [task["prune_ratio"] for task in results(tmp_path / "r")["tasks"]] == [0.75, 0.75, 0.75, None]
    # The released weights are the smallest ones of the file: nothing was trained before.
    owner = load_packed(tmp_path / "r" / "packed.safetensors").packnet.owners["conv1.0.weight"]
    before = full.state_dict()["conv1.0.weight"].abs()
    assert before[owner == 1].min() >= before[owner != 1].max()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_job_of_the_sweep_over_first_ratios_runs(root, tmp_path):
    one = "hydra.sweeper.params={prune.ratio: '[0.9,0.75,0.75,0.75]'}"
    words = small(root, "first_ratio", *SMALLEST, one, "hydra.sweep.dir=s")
    done = warm.run("packnet-train", "-m", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = results(tmp_path / "s" / "0")["tasks"][0]
    assert (first["prune_ratio"], first["owned"]) == (0.9, pytest.approx(0.1, abs=0.001))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_orders_go_on_from_one_imagenet(root, tmp_path):
    alone = ["sequence.order=[imagenet]", "prune.ratio=0.5", "prune.last=true", "hydra.run.dir=i"]
    done = warm.run("packnet-train", *small(root, "vgg16", *SMALLEST, *alone), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two = "hydra.sweeper.params={sequence.add: '[cubs,cars,flowers],[flowers,cubs,cars]'}"
    sweep = ["-m", *small(root, "orders", *SMALLEST, "packed=i/packed.safetensors", two, "hydra.sweep.dir=s")]
    done = warm.run("packnet-train", *sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "'sequence.add=[flowers,cubs,cars]'" in next(line for line in done.stderr.splitlines() if "[1] " in line)
    found = [json.loads((tmp_path / "s" / job / "results.json").read_text()) for job in "01"]
    assert [[task["name"] for task in one["tasks"]] for one in found] == [FOUR, ["imagenet", "flowers", "cubs", "cars"]]
    for one in found:
        assert [task["prune_ratio"] for task in one["tasks"]] == HALF
        # ImageNet's images were put aside by the run that trained it.
        assert (one["complete"], one["outputs_unchanged"]) == (True, [None, True, True, True])
    # A job that begins with ImageNet itself ends with the same network.
    words = ["sequence.add=[flowers,cubs,cars]", "hydra.run.dir=r"]
    done = warm.run("packnet-train", *small(root, "orders", *SMALLEST, *words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "r")["accuracy"] == found[1]["accuracy"]
    here, there = (load_packed(tmp_path / run / "packed.safetensors").state_dict() for run in ("r", "s/1"))
    assert all(torch.equal(here[name], value) for name, value in there.items())
    # Jobs are told apart by their tasks.
    other = "hydra.sweeper.params={sequence.add: '[cars,cubs,flowers]'}"
    done = warm.run("packnet-train", *sweep, other, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / 's' / '0'} holds a run of other settings" in done.stderr


@pytest.mark.slow
def test_the_plan_of_the_main_table_is_that_of_the_paper(root, tmp_path):
    done = warm.run("packnet-plan", *small(root, "vgg16", *WITHOUT_WEIGHTS, "debug.max_epochs=null"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in done.stdout.splitlines() if line.strip()}
    assert re.search(r"^3 9 / 3 / 6 0\.5 .* 0 \+ 10 10$", rows["imagenet"]), rows
    assert re.search(r" 0\.75 .* 20 \+ 10 30$", rows["cubs"])
    assert re.search(r" 0\.75 .* 20 \+ 10 30$", rows["cars"])
    assert re.search(r" - [\d,]+ 0 20 20$", rows["flowers"])


def test_the_rate_falls_to_a_tenth_half_way_where_the_paper_has_it(root, tmp_path):
    config, tasks = checked(compose(*small(root, "vgg16", *WITHOUT_WEIGHTS))[0], tmp_path)
    plan = build_plan(config, tmp_path, "vgg16", build_parts(config, tasks, tmp_path))
    rates = {}
    for task in plan.tasks:
        for phase, recipe in task.recipes.items():
            optimizer = recipe.optimizer([torch.nn.Parameter(torch.zeros(1))])
            schedule = recipe.scheduler(optimizer, total_steps=20) if recipe.scheduler else None
            found = []
            for _ in range(20):
                found.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                if schedule:
                    schedule.step()
            rates[task.name, phase] = found
    falls, stays = pytest.approx([1e-3] * 10 + [1e-4] * 10), pytest.approx([1e-4] * 20)
    assert rates["imagenet", "retrain"] == rates["cubs", "train"] == rates["flowers", "train"] == falls
    assert rates["cubs", "retrain"] == rates["cars", "retrain"] == stays
    assert ("flowers", "retrain") not in rates
