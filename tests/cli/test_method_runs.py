"""The methods that PackNet is compared with, through the commands."""

import json
import shutil
import signal

import pytest
import torch
from PIL import Image

from packnet_pl import load_packed
from packnet_pl.core.bits import same_bits
from packnet_pl.packed import read_packed
from tests.support import ROOT, warm
from tests.support.cases import breadth
from tests.support.commands import last_line
from tests.support.process_families import Family

pytestmark = pytest.mark.slow

NAMES = ["digits", "greek", "latin"]
SMALL = ["debug=tiny", "debug.fraction=0.03", "debug.max_epochs=2", "optim.batch_size=16", "logger=none"]
THREE = [*SMALL, "sequence.order=[digits,greek,latin]"]
METHODS = breadth(["individual", "classifier_only", "lwf", "joint", "finetune"], "individual", "lwf", "finetune")
SETTINGS = {
    "individual": {"start": "first_task"},
    "lwf": {"weight": 1.0, "temperature": 2.0, "norms": "trained"},
}
# Whether earlier tasks answer as they did; those of joint training are all finished at the end.
UNCHANGED = {"individual": True, "classifier_only": True, "lwf": False, "joint": True, "finetune": False}


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def done_well(program, *words, cwd):
    done = warm.run(program, *words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Gives the directory of a whole run of a method, which is made once."""
    made = {}

    def get(method):
        if method not in made:
            made[method] = tmp_path_factory.mktemp(method) / "run"
            words = [*THREE, f"method={method}", "hydra.run.dir=run"]
            done_well("packnet-train", *words, cwd=made[method].parent)
        return made[method]

    return get


# What a run leaves.


@pytest.mark.parametrize("method", METHODS)
def test_results_are_what_is_promised(run_of, method):
    found = results(run_of(method))
    assert (found["method"], found["complete"]) == (method, True)
    assert found["settings"] == {**SETTINGS.get(method, {}), "later_lr": 1.0}
    assert [task["name"] for task in found["tasks"]] == NAMES
    for task in found["tasks"]:
        assert (task["prune_ratio"], task["owned"]) == (None, None)
        assert 0 <= task["val_accuracy"]["dense"] <= 1
        assert (task["val_accuracy"]["pruned"], task["val_accuracy"]["retrained"]) == (None, None)
    rows = [3] if method == "joint" else [1, 2, 3]
    assert [len(row) for row in found["accuracy"]] == rows
    assert all(0 <= value <= 1 for row in found["accuracy"] for value in row)
    assert found["outputs_unchanged"] == [*[UNCHANGED[method]] * 2, True]
    if method == "joint":
        assert found["forgetting"] == [None] * 3
    elif UNCHANGED[method]:
        assert found["forgetting"] == [0.0] * 3
    else:
        assert found["forgetting"][-1] == 0.0
        assert all(abs(value) <= 1 for value in found["forgetting"])
    assert len(found["val_now"]) == 3
    dense = [task["val_accuracy"]["dense"] for task in found["tasks"]]
    if UNCHANGED[method]:
        assert found["val_now"] == dense
    else:
        assert found["val_now"][-1] == dense[-1]
        assert found["val_now"] != dense
    assert found["free"] is None
    storage = found["storage"]
    assert storage["networks"] == (3 if method == "individual" else 1)
    assert (storage["packed_bytes"] > storage["dense_bytes"]) == (method == "individual")
    assert storage["packed_bytes"] == (run_of(method) / "packed.safetensors").stat().st_size
    assert storage["owner_bits_per_weight"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_packed_file_asked_in_another_process_agrees(run_of, method):
    done = done_well("packnet-eval", run_of(method), cwd=run_of(method).parent)
    rows = [line for line in done.stdout.splitlines() if any(f" {name} " in line for name in NAMES)]
    assert len(rows) == 3
    assert all(" yes " in row for row in rows)


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_tells_epochs_and_storage_of_it(tmp_path, method):
    done = done_well("packnet-plan", *THREE, f"method={method}", "debug.max_epochs=1", cwd=tmp_path)
    assert "0 of them prunable" in done.stdout
    packed, separate = (
        float(part.split(" MB")[0].split()[-1].replace(",", "")) for part in done.stdout.split("storage:")[1].split(";")
    )
    assert (packed == separate) == (method == "individual")
    assert packed <= separate


def test_individual_networks_are_asked_exported_and_shown_like_any_other(run_of, tmp_path):
    folder = run_of("individual")
    packed = read_packed(folder / "packed.safetensors")
    done = done_well("packnet-inspect", folder, cwd=tmp_path)
    assert "what single tasks have of their own" in done.stdout
    assert "other shared tensors" not in done.stdout
    done_well("packnet-export", folder, "--task", "greek", "--format", "torch", cwd=tmp_path)
    exported = torch.load(tmp_path / "greek.pt", weights_only=True)
    own = {name: value for name, value in packed.tensors.items() if name.startswith("copies/1/")}
    assert own
    for name, value in own.items():
        assert torch.equal(exported[name.replace("copies/1/", "backbone.")], value)
    Image.new("L", (30, 30), 90).save(tmp_path / "grey.png")
    words = ("--task", "greek", "--json", "grey.png")
    done = done_well("packnet-predict", folder / "packed.safetensors", *words, cwd=tmp_path)
    assert json.loads(done.stdout)["task"] == "greek"
    done = warm.run("packnet-export", folder, "--format", "packed", "--dtype", "bf16", cwd=tmp_path)
    assert "no task owns any weights" in refused(done)


@pytest.mark.parametrize("method", breadth(["individual", "classifier_only"], "individual"))
def test_answers_keep_their_bits_in_mixed_precision_too(tmp_path, method):
    words = [*SMALL, "sequence.order=[digits,greek]", f"method={method}", "trainer.precision=bf16-mixed"]
    done_well("packnet-train", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert results(tmp_path / "run")["outputs_unchanged"] == [True, True]


# Broken off and gone on with.


def killed(folder, method, task):
    """A run that was killed when the first of two epochs of ``task`` was done."""
    process = warm.Process(
        "packnet-train", *THREE, f"method={method}", f"hydra.run.dir={folder.name}", cwd=folder.parent
    )
    assert warm.kill_after(process, (folder / f"tasks/{task}/train/last.ckpt").exists)
    assert not (folder / f"tasks/{task}/finished.json").exists()


@pytest.mark.parametrize("method", breadth(["individual", "classifier_only", "lwf"], "lwf"))
def test_killed_in_the_second_task_it_ends_as_if_it_had_not_been(run_of, tmp_path, method):
    expected = warm.outcome(run_of(method))
    killed(tmp_path / "run", method, "greek")
    shutil.copytree(tmp_path / "run", tmp_path / "damaged")
    done = done_well("packnet-resume", "run", cwd=tmp_path)
    assert "digits, train" not in done.stderr
    warm.assert_same(tmp_path / "run", expected)
    # Without the packed file all that is known of the first task is in the second one's checkpoint.
    (tmp_path / "damaged/packed.safetensors").write_bytes(b"damaged")
    done = done_well("packnet-resume", "damaged", cwd=tmp_path)
    assert "is not a packed file, or is damaged" in done.stderr
    assert "digits, train" not in done.stderr
    warm.assert_same(tmp_path / "damaged", expected)


@pytest.mark.exhaustive
def test_joint_training_that_was_killed_ends_as_if_it_had_not_been(run_of, tmp_path):
    killed(tmp_path / "run", "joint", "latin")
    said = refused(warm.run("packnet-resume", "run", "sequence.add=[cyrillic]", cwd=tmp_path))
    assert "method=joint learns all tasks at once, and its training has begun" in said
    process = warm.Process("packnet-resume", "run", cwd=tmp_path)
    warm.kill_after(process, lambda: "digits+greek+latin, train: 2 epochs" in process.stderr)
    done_well("packnet-resume", "run", cwd=tmp_path)
    warm.assert_same(tmp_path / "run", warm.outcome(run_of("joint")))


@pytest.mark.parametrize(
    ("method", "moment"), [("lwf", "greek"), pytest.param("joint", "latin", marks=pytest.mark.exhaustive)]
)
def test_asked_to_stop_it_goes_on_where_it_was(run_of, tmp_path, method, moment):
    words = [*THREE, f"method={method}", "checkpoint.every_n_steps=1", "hydra.run.dir=run"]
    process = warm.Process("packnet-train", *words, cwd=tmp_path)
    while not (tmp_path / f"run/tasks/{moment}/train/last.ckpt").exists():
        assert process.running, process.stderr
    process.signal(signal.SIGTERM)
    assert process.wait().returncode == 128 + signal.SIGTERM
    done_well("packnet-resume", "run", cwd=tmp_path)
    warm.assert_same(tmp_path / "run", warm.outcome(run_of(method)))


# Further tasks.


@pytest.mark.parametrize("method", breadth(["individual", "lwf"], "lwf"))
def test_a_task_added_later_gives_what_it_had_given_from_the_start(run_of, tmp_path, method):
    words = [*SMALL, "sequence.order=[digits,greek]", f"method={method}", "hydra.run.dir=run"]
    done_well("packnet-train", *words, cwd=tmp_path)
    before = load_packed(tmp_path / "run/packed.safetensors")
    done_well("packnet-resume", "run", "sequence.add=[latin]", cwd=tmp_path)
    warm.assert_same(tmp_path / "run", warm.outcome(run_of(method)))
    if method == "individual":
        after = load_packed(tmp_path / "run/packed.safetensors")
        for task, network in before.networks.items():
            assert all(torch.equal(after.networks[task][name], value) for name, value in network.items())


def refused(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return last_line(done.stderr)


def test_nothing_is_added_to_a_finished_joint_run(run_of, tmp_path):
    folder = shutil.copytree(run_of("joint"), tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    done = warm.run("packnet-resume", folder, "sequence.add=[cyrillic]", cwd=tmp_path)
    said = refused(done)
    assert "method=joint learns all tasks at once, and ['digits', 'greek', 'latin'] are finished: start a new" in said
    assert {path: path.read_bytes() for path in folder.rglob("*.safetensors")} == before
    done = done_well("packnet-resume", folder, cwd=tmp_path)
    assert "is complete: 3 tasks" in done.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["method=lwf", "norm=per_task"], "norm=per_task was given, but method=lwf packs nothing; leave it out"),
        (["method=individual", "bias=per_task"], "bias=per_task was given, but method=individual packs nothing"),
        (["method=joint", "packed=old.safetensors", "sequence.add=[cyrillic]"], "method=joint packs nothing"),
        (["method=lwf", "method.classifier.norms=wrong"], "norms is 'wrong'; allowed are 'trained' and 'frozen'"),
        (["method=lwf", "method.classifier.weight=-1"], "weight is -1; allowed is a finite number, 0 or more"),
        (["method=lwf", "method.classifier.weight=much"], "weight is 'much'; allowed"),
        (["method=lwf", "method.classifier.temperature=0"], "temperature is 0; allowed is a finite number above 0"),
        (["method=lwf", "+method.classifier.wieght=2"], "no such argument; did you mean weight?"),
        (["method=individual", "method.classifier.start=scratch"], "start is 'scratch'; allowed are 'first_task'"),
        (["method=lwf", "sweep.objective=[val_accuracy,free]"], "method=lwf packs nothing; leave free out"),
        (["method=lwff"], "lwff"),
        (["optim.later_lr=0"], "optim.later_lr is 0.0; allowed is a number above 0"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(run_of, tmp_path, words, reason):
    shutil.copy(run_of("finetune") / "packed.safetensors", tmp_path / "old.safetensors")
    done = warm.run("packnet-train", *THREE, *words, "hydra.run.dir=run", cwd=tmp_path)
    assert reason in refused(done)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


# Several processes.


@pytest.mark.parametrize("method", breadth(["joint", "lwf", "classifier_only"], "lwf"))
def test_two_processes_train_it_and_one_that_asks_again_gets_the_same(tmp_path, method):
    """DDP waits for each gradient; statistics that each process gathered by itself become the first's."""
    words = [*SMALL, "sequence.order=[digits,greek]", f"method={method}", "trainer=ddp", "trainer.devices=2"]
    words += ["method.fit._target_=tests.support.ddp_fit.unpruned", "hydra.run.dir=run"]
    family = Family("packnet-train", *words, cwd=tmp_path, SEEN=tmp_path, PYTHONPATH=ROOT)
    assert family.wait() == 0, family.stderr
    assert family.left() == {}
    for fit in ["digits+greek"] if method == "joint" else ["digits", "greek"]:
        one, other = (torch.load(tmp_path / f"{fit}.{rank}.pt", weights_only=True) for rank in range(2))
        assert any(name.endswith("running_mean") for name in one)
        assert all(same_bits(value, other[name]) for name, value in one.items())
    assert results(tmp_path / "run")["outputs_unchanged"] == [method != "lwf", True]
    done_well("packnet-eval", "run", cwd=tmp_path)
