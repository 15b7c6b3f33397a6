"""A packed file alone goes on as its run directory does: network, image size, channels and recipe follow from it."""

import json
import logging
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from packnet_pl import TaskClassifier, save_packed
from packnet_pl.configuration.components import _packed as read_source
from packnet_pl.configuration.compose import compose
from packnet_pl.configuration.packed_recipe import recipe_of, with_recipe
from packnet_pl.configuration.packed_source import arch_name, packed_header, report_recipe
from packnet_pl.configuration.run_config import checked
from packnet_pl.errors import UsageError
from packnet_pl.models import resnet20
from packnet_pl.packed import read_packed
from tests.support import MADE_AT_5B152F2, warm
from tests.support.commands import last_line

MADE = MADE_AT_5B152F2 / "packed"
ADD = "sequence.add={objects: objects}"
# Everything other than the defaults.
WORDS = [
    "sequence=folders", "sequence.folders={cats: cats}", "arch=resnet20", "arch.width=0.25", "norm=per_task",
    "sequence.task.data.image_size=16", "sequence.task.train.epochs=2", "sequence.task.retrain.lr=0.003",
    "sequence.task.retrain.epochs=1", "optim=adamw", "optim.batch_size=8", "prune.ratio=0.6", "prune.scope=global",
    "seed=3", "logger=none",
]  # fmt: skip


def configured(folder, *words, main="train", config_dir=None):
    """The configuration that these words make in ``folder``, as a run has it."""
    arguments = Namespace(config_dir=config_dir, config_name=main)
    composed = compose(arguments, [*words, f"hydra.run.dir={folder}/new"])
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    return checked(composed, folder / "new", words, main)[0]


def packed(path, recipe):
    """The file of a run of ``WORDS``, as far as the configuration sees it."""
    torch.manual_seed(0)
    model = TaskClassifier(resnet20(width=0.25), norm="per_task")
    model.add_task("cats", num_classes=2, input_shape=(3, 16, 16))
    model.packnet.begin_task("cats", private=model.private_modules("cats"))
    model.packnet.prune(0.5)
    model.packnet.finish_task()
    save_packed(model, path, recipe=recipe)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The configuration of the run, and the folder with its file."""
    folder = tmp_path_factory.mktemp("begun")
    config = configured(folder, *WORDS)
    packed(folder / "f.safetensors", recipe_of(config, "resnet20", None))
    return config, folder


@pytest.fixture(scope="module")
def composed():
    return compose(Namespace(config_dir=None, config_name="train"), [])


def from_file(folder, *words, **kwargs):
    return configured(folder, f"packed={folder}/f.safetensors", ADD, *words, **kwargs)


def test_what_decides_the_training_of_a_new_task_follows_from_the_file(begun):
    was, folder = begun
    now = from_file(folder)
    for key in ("seed", "norm", "bias", "arch", "prune", "method", "debug"):
        assert now[key] == was[key], key
    for key in set(was.optim) - {"num_workers"}:
        assert now.optim[key] == was.optim[key], key
    task = OmegaConf.to_container(now.sequence.tasks.objects)
    assert task == {**OmegaConf.to_container(was.sequence.tasks.cats), "data": {
        **OmegaConf.to_container(was.sequence.tasks.cats.data), "path": "objects"
    }}  # fmt: skip
    assert (task["data"]["image_size"], task["data"]["channels"], task["retrain"]["lr"]) == (16, 3, 0.003)
    assert list(now.sequence.order) == ["cats", "objects"]
    assert arch_name(packed_header(folder / "f.safetensors")) == "resnet20"


def test_what_the_command_line_says_goes_before_the_recipe(begun):
    _, folder = begun
    words = ["optim.batch_size=64", "seed=0", "prune.ratio=0.5", "sequence.tasks.objects.train.lr=0.5"]
    # Also where it is what would be there without the file.
    now = from_file(folder, *(f"++{word}" if "tasks" in word else word for word in words))
    assert (now.optim.batch_size, now.seed, now.prune.ratio, now.sequence.tasks.objects.train.lr) == (64, 0, 0.5, 0.5)
    assert now.optim.optimizer._target_ == "torch.optim.AdamW"
    assert (now.prune.scope, now.method.fit.rule.scope) == ("global", "global")
    now = from_file(folder, "optim=sgd", "prune.scope=layer", "trainer=gpu")
    assert now.optim.optimizer == {
        "_target_": "torch.optim.SGD", "_partial_": True, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0
    }  # fmt: skip
    assert (now.optim.batch_size, now.method.fit.rule.scope, now.trainer.accelerator) == (64, "layer", "gpu")
    # What is chosen as a whole has no need of a recipe, but the network is the file's.
    now = from_file(folder, "experiment=embedded/packnet_75")
    assert (now.arch.width, now.norm, now.optim.batch_size, now.prune.ratio) == (0.25, "per_task", 64, 0.75)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["arch=vgg_small"],
            "arch is packnet_pl.models.vgg_small, and the network in .* has packnet_pl.models.resnet20",
        ),
        (["arch=resnet20"], "arch.width is 1.0, and the network in .* has 0.25: leave arch out"),
        (["arch.in_channels=1"], "arch.in_channels is 1, and the network in .* has 3: leave arch out"),
        (["arch.width=0.5"], "arch.width is 0.5, and the network in .* has 0.25: leave arch out"),
        (["arch.depth=3"], "there is no option arch.depth; .*; packed= brings its own network: leave arch out"),
        (["arch=timm", "arch.pretrained=true"], "arch is packnet_pl.models.timm_backbone, and the network"),
        (["experiment=paper/vgg16", "sequence.root=/"], "arch is packnet_pl.models.torchvision_backbone, and the"),
        (["norm=shared"], "norm is shared, and the network in .* has per_task: leave norm out"),
        (["bias=per_task"], "bias is per_task, and the network in .* has shared: leave bias out"),
    ],
)
def test_what_contradicts_the_file_is_refused_and_not_ignored(begun, words, reason):
    with pytest.raises(UsageError, match=reason):
        from_file(begun[1], *words)


def test_what_agrees_with_the_file_may_be_said(begun):
    now = from_file(begun[1], "arch=resnet20", "arch.width=0.25", "norm=per_task", "bias=shared")
    assert now.arch == {"_target_": "packnet_pl.models.resnet20", "in_channels": 3, "width": 0.25}


GLYPHS = "packnet_pl.data.glyphs"
HOSTILE = {
    "an optimizer of someone's": (
        lambda r: r["optim"]["optimizer"].update(_target_="os.system"),
        "recipe has optim.optimizer._target_='os.system', and a file may choose only torch.optim.ASGD, .*; if you "
        "trust it, say so: optim.optimizer._target_=os.system",
    ),
    "a class at another place": (
        lambda r: r["method"]["fit"].update(_target_="packnet_pl.data.image_folder"),
        "method.fit._target_='packnet_pl.data.image_folder', and a file may choose only packnet_pl.training.fit_task",
    ),
    "a class where none belongs": (
        lambda r: r["optim"].update(batch_size={"_target_": "builtins.print"}),
        "optim.batch_size._target_='builtins.print', and a file may choose only none",
    ),
    "a class inside of another": (
        lambda r: r["optim"]["optimizer"].update(momentum=[{"_target_": "builtins.print"}]),
        r"optim.optimizer.momentum.0._target_='builtins.print'",
    ),
    "data of a new task": (
        lambda r: r["sequence"]["task"]["data"].update(_target_="shutil.rmtree"),
        "sequence.task.data._target_='shutil.rmtree', and a file may choose only packnet_pl.data.image_folder",
    ),
    "data of a known task": (
        lambda r: r["sequence"]["tasks"].update(latin={"data": {"_target_": "shutil.rmtree"}}),
        "sequence.tasks.latin.data._target_='shutil.rmtree', and a file may choose only packnet_pl.data.glyphs",
    ),
    "an environment variable": (lambda r: r["optim"].update(later_lr="${oc.env:HOME}"), "damaged .*later_lr is '"),
    "another key of Hydra's": (lambda r: r["optim"]["optimizer"].update(_args_=[1]), "damaged .* has '_args_'"),
    "no optimizer": (lambda r: r.pop("optim"), "its recipe is damaged .KeyError: 'optim'"),
    "a list": (lambda r: r.update(optim=[1]), "its recipe is damaged"),
    "a cache elsewhere": (
        lambda r: r["sequence"]["tasks"].update(latin={"data": {"_target_": GLYPHS, "cache_dir": "/etc"}}),
        "its data have cache_dir, which is the reader's to choose",
    ),
    "a folder": (lambda r: r["sequence"]["task"]["data"].update(path="/etc"), "its data have path, which is the read"),
    "workers": (lambda r: r["optim"].update(num_workers=5000), "optim has num_workers, which is the reader's"),
    "thousands of values": (lambda r: r["prune"].update(ratio=[0.5] * 3000), "it has more than 2000 values"),
    "a key with marks": (lambda r: r["optim"].update({"a\x1b[2Jb\u202e": 1}), r"recipe.optim has 'a\\x1b\[2Jb\\u202e'"),
    "a long key": (lambda r: r["optim"].update({"k" * 900: 1}), r"recipe.optim has 'kkk.{1,50}'"),
    "a long text": (lambda r: r["trainer"].update(precision="p" * 900), r"recipe.trainer.precision is 'ppp.{1,50}'"),
    "depth": (lambda r: r.update(optim={"optimizer": [[[[[[[[[1]]]]]]]]]}), "nested too deeply"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_names_no_class_that_is_not_in_a_closed_list(begun, composed, name):
    change, reason = HOSTILE[name]
    recipe = recipe_of(begun[0], "resnet20", None)
    change(recipe)
    with pytest.raises(UsageError, match=reason):
        with_recipe(composed, recipe, ["packed", "sequence.add"], ["cats"], "f.safetensors")


@pytest.mark.parametrize(
    "inputs",
    [{"mean": {"_target_": "logging.FileHandler", "filename": "x"}}, {"path": "/etc"}, {"std": ["${seed}"]}, [1], "x"],
)
@pytest.mark.parametrize("words", [(), ("experiment=embedded/packnet_75",)])
def test_what_a_file_says_of_inputs_is_numbers_and_nothing_else(begun, tmp_path, inputs, words):
    """Also where the command line chooses a whole configuration, which has no need of the recipe otherwise."""
    recipe = recipe_of(begun[0], "resnet20", None)
    packed(tmp_path / "f.safetensors", {**recipe, "inputs": inputs})
    with pytest.raises(UsageError, match=r"its recipe|the recipe of the packed file has the inputs"):
        from_file(tmp_path, *words)


def test_a_name_of_a_network_that_cannot_be_shown_is_not_taken_over(begun):
    header = {"backbone": {"name": "resnet20", "arguments": {}}, "recipe": {"arch": "a\x1b[2J"}}
    assert arch_name(header) == "resnet20"


@pytest.mark.parametrize("history", [[None], ["x"], [{"task": 1}], []])
def test_a_file_whose_history_is_none_is_refused_before_a_run_begins(tmp_path, history):
    model = TaskClassifier(resnet20(width=0.25))
    model.add_task("cats", num_classes=2)
    model.packnet.begin_task("cats")
    model.packnet.prune(0.5)
    model.packnet.finish_task()
    save_packed(model, tmp_path / "f.safetensors", history=history)
    with pytest.raises(UsageError, match="does not tell how well its tasks"):
        read_source(tmp_path, OmegaConf.create({"packed": str(tmp_path / "f.safetensors"), "resume": False}))


def test_arguments_of_a_network_name_no_class_either(begun, tmp_path):
    from tests.support.packed_files import rewritten

    def change(header, _):
        return header.replace('"width": 0.25', '"width": 0.25, "_target_": "shutil.rmtree"')

    rewritten(begun[1] / "f.safetensors", tmp_path / "f.safetensors", change)
    assert from_file(tmp_path).arch._target_ == "packnet_pl.models.vgg_small"  # and the file is refused when it is read


def test_what_the_user_says_may_be_of_any_class(begun, tmp_path):
    recipe = recipe_of(begun[0], "resnet20", None)
    recipe["optim"]["optimizer"]["_target_"] = "somewhere.Lion"
    packed(tmp_path / "f.safetensors", recipe)
    now = from_file(tmp_path, "optim.optimizer._target_=torch.optim.Adam")
    assert (now.optim.optimizer._target_, now.optim.batch_size) == ("torch.optim.Adam", 8)


def test_a_known_task_is_added_with_the_rates_of_its_own_sequence(tmp_path):
    was = configured(
        tmp_path, "sequence=far", "sequence.order=[latin,digits]", "sequence.tasks.latin.data.test_per_class=2"
    )
    recipe = recipe_of(was, "vgg_small", None, "far")
    packed(tmp_path / "f.safetensors", recipe)
    now = configured(tmp_path, f"packed={tmp_path}/f.safetensors", "sequence.add=[digits,spectro]")
    assert list(now.sequence.order) == ["cats", "digits", "spectro"]
    assert (now.sequence.tasks.digits.train.lr, now.sequence.tasks.latin.data.test_per_class) == (0.05, 2)
    assert now.sequence.tasks.spectro == was.sequence.tasks.spectro
    # What a run says of tasks that it does not have is no part of what it leaves.
    words = ["sequence=far", "sequence.order=[latin,digits]", "sequence.tasks.spectro.train.epochs=1"]
    other = recipe_of(configured(tmp_path, *words), "vgg_small", None, "far")
    assert other["sequence"]["tasks"].keys() == {"latin", "digits"}
    assert "spectro" not in json.dumps(other)


def test_a_recipe_has_no_folders_in_it(begun):
    recipe = json.dumps(recipe_of(begun[0], "resnet20", None))
    assert "path" not in recipe
    assert "cache_" not in recipe
    assert read_packed(begun[1] / "f.safetensors").header["recipe"] == json.loads(recipe)


def test_a_file_names_its_pruning_score_if_it_is_not_the_papers_and_chooses_none(begun, tmp_path):
    config = begun[0].copy()
    assert list(recipe_of(config, "resnet20", None)["prune"]) == ["ratio", "last", "scope", "granularity"]
    config.prune.rule.score._target_ = "operator.neg"
    packed(tmp_path / "f.safetensors", recipe_of(config, "resnet20", None))
    with pytest.raises(UsageError, match=r"prune\.rule\.score\._target_='operator\.neg', and a file may choose only"):
        from_file(tmp_path)
    now = from_file(tmp_path, "prune.rule.score._target_=operator.neg", "prune.scope=layer")
    assert (now.method.fit.rule.score._target_, now.method.fit.rule.scope) == ("operator.neg", "layer")


def test_a_file_of_format_1_brings_its_network_and_sizes_and_says_that_it_has_no_recipe(tmp_path, caplog):
    shutil.copy(MADE / "finished" / "packed.safetensors", tmp_path / "f.safetensors")
    now = from_file(tmp_path)
    assert now.arch.stages == [[4], [8], [8]]
    assert (now.sequence.tasks.objects.data.image_size, now.sequence.tasks.objects.data.channels) == (24, 1)
    assert (now.optim.batch_size, now.sequence.tasks.objects.train.lr) == (64, 0.04)
    with caplog.at_level(logging.INFO):
        report_recipe(now, packed_header(tmp_path / "f.safetensors"), [], Path("f"), main="train")
    assert (
        "f has no recipe: epochs, rates, optimizer, batch size and pruning are the command line's (SGD" in caplog.text
    )
    shutil.copy(MADE / "per_task" / "packed.safetensors", tmp_path / "f.safetensors")
    assert (from_file(tmp_path).norm, from_file(tmp_path).bias) == ("per_task", "per_task")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for task in ("cats", "objects"):
        for split, count in (("train", 9), ("test", 3)):
            for label in range(2):
                (folder / task / split / str(label)).mkdir(parents=True)
                for number in range(count):
                    pixels = rng.integers(0, 150, (20, 26, 3), np.uint8) + 100 * label
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / task / split / str(label) / f"{number}.png")
    return folder


@pytest.mark.slow
def test_the_packed_file_alone_ends_with_the_bits_of_its_run_directory(photographs, tmp_path):
    def done(program, *words):
        found = warm.run(program, *words, cwd=photographs)
        assert found.returncode == 0, found.stderr
        return found

    done("packnet-train", *WORDS, f"hydra.run.dir={tmp_path}/run")
    shutil.copy(tmp_path / "run" / "packed.safetensors", tmp_path / "f.safetensors")
    done("packnet-resume", tmp_path / "run", ADD)
    alone = done(
        "packnet-train", f"packed={tmp_path}/f.safetensors", ADD, "logger=none", f"hydra.run.dir={tmp_path}/new"
    )
    assert f"the network and recipe of {tmp_path}/f.safetensors are used" in alone.stderr
    here, there = (read_packed(tmp_path / name / "packed.safetensors") for name in ("run", "new"))
    assert here.tensors.keys() == there.tensors.keys()
    assert all(torch.equal(value, there.tensors[name]) for name, value in here.tensors.items())
    assert here.header["packnet"] == there.header["packnet"]
    found = [json.loads((tmp_path / name / "results.json").read_text(encoding="utf-8")) for name in ("run", "new")]
    assert [one["arch"] for one in found] == ["resnet20", "resnet20"]
    assert found[0]["accuracy"] == found[1]["accuracy"]
    refused = warm.run("packnet-train", f"packed={tmp_path}/f.safetensors", ADD, "arch=vgg_small", cwd=photographs)
    assert refused.returncode == 2
    assert "leave arch out, the file brings its network" in last_line(refused.stderr)
