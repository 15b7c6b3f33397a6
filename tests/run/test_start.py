"""Where a run goes on, from what lies in its directory."""

import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch

from packnet_pl.packed import read_packed, save_packed
from packnet_pl.results import TaskResult
from packnet_pl.run import Stage
from packnet_pl.run.checkpointing import SaveState
from packnet_pl.run.metrics import Scores
from packnet_pl.run.resume_point import Start, adopt_packed, find_start
from packnet_pl.run.signals import StopRequest
from packnet_pl.run.task_record import TaskRecord, read_task_record
from packnet_pl.run_directory import checkpoint_path, journal_path, packed_path
from tests.support.run_fits import assert_same_bits, fit, new_model

NAMES = ["a", "b", "c"]


def plan(folder, names=NAMES, packs=True):
    tasks = [SimpleNamespace(name=name) for name in names]
    stages = [Stage((task,)) for task in tasks]
    return SimpleNamespace(folder=folder, packs=packs, tasks=tasks, stages=stages)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder after the training of "a" and "b", with the packed file of "a" alone."""
    folder = tmp_path_factory.mktemp("run")
    model = new_model()
    for name in NAMES[:2]:

        def saving(phase, name=name):
            return [SaveState(checkpoint_path(folder, name, phase), every_n_steps=None, stop=StopRequest())]

        fit(model, name, callbacks=saving, epochs=1)
        if name == "a":
            save_packed(model, packed_path(folder))
    return folder


@pytest.fixture
def run(files, tmp_path):
    return shutil.copytree(files, tmp_path / "run")


def test_an_empty_folder_is_the_beginning(tmp_path):
    model = new_model()
    assert find_start(plan(tmp_path), model) == Start(0)
    assert model.tasks == []


def test_finished_tasks_are_loaded_and_the_newest_checkpoint_is_taken(run):
    model = new_model()
    assert find_start(plan(run), model) == Start(1, ("retrain", checkpoint_path(run, "b", "retrain")))
    assert model.packnet.tasks == ["a"]
    before = new_model()
    fit(before, "a", epochs=1)
    assert_same_bits(model, before)


def test_training_comes_before_retraining(run):
    checkpoint_path(run, "b", "retrain").unlink()
    assert find_start(plan(run), new_model()) == Start(1, ("train", checkpoint_path(run, "b", "train")))
    checkpoint_path(run, "b", "train").unlink()
    assert find_start(plan(run), new_model()) == Start(1)


def test_all_finished(run):
    assert find_start(plan(run, ["a"]), new_model()) == Start(1)


def truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("hello")


def foreign(path):
    torch.save({"state_dict": {}}, path)


def a_number(path):
    torch.save(3, path)


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def bomb(path):
    torch.save({"tasks": Bomb()}, path)


def old_bomb(path):
    path.write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize(
    "damage", [truncated, empty, text, foreign, a_number, bomb, old_bomb], ids=lambda damage: damage.__name__
)
def test_a_checkpoint_that_cannot_be_read_is_named_and_passed_over(run, caplog, monkeypatch, damage):
    monkeypatch.chdir(run)
    path = checkpoint_path(run, "b", "retrain")
    damage(path)
    assert find_start(plan(run), new_model()) == Start(1, ("train", checkpoint_path(run, "b", "train")))
    assert f"{path} is damaged or something else" in caplog.text
    assert not (run / "exploded").exists()


def test_a_checkpoint_of_another_task_or_phase_is_passed_over(run, caplog):
    shutil.copy(checkpoint_path(run, "a", "retrain"), checkpoint_path(run, "b", "retrain"))
    shutil.copy(checkpoint_path(run, "a", "train"), checkpoint_path(run, "b", "train"))
    assert find_start(plan(run), new_model()) == Start(1)
    assert caplog.text.count("it is passed over") == 2


@pytest.mark.parametrize("damage", [truncated, empty, text])
def test_without_a_packed_file_the_checkpoints_hold_the_finished_tasks(run, caplog, damage):
    damage(packed_path(run))
    model = new_model()
    assert find_start(plan(run), model) == Start(1, ("retrain", checkpoint_path(run, "b", "retrain")))
    assert f"{packed_path(run)} is not a packed file, or is damaged" in caplog.text
    resumed, reference = find_start(plan(run), new_model()), new_model()
    for name in NAMES[:2]:
        fit(reference, name, epochs=1)
    model = new_model()
    model.add_task("a", num_classes=3)
    fit(model, "b", resume=resumed.resume, epochs=1)
    assert_same_bits(model, reference)


def test_a_packed_file_of_another_sequence_is_refused(run):
    with pytest.raises(ValueError, match=r"holds the tasks \['a'\], but the sequence is \['b', 'a'\]"):
        find_start(plan(run, ["b", "a"]), new_model())


def entry(name):
    task = TaskResult(name, 3, ["x", "y", "z"], 0.5, 0.5, None, 9, {"dense": 0.5})
    return TaskRecord(task, {name: Scores((1, 1, 1), None, (3, 3, 3))}, [True], {name: 0.5})


def test_a_packed_file_is_adopted_once(files, tmp_path):
    model = new_model("a")
    save_packed(model, tmp_path / "old.safetensors", history=[entry("a").dump()])
    packed = read_packed(tmp_path / "old.safetensors")
    folder = tmp_path / "run"
    adopt_packed(folder, packed)
    assert packed_path(folder).read_bytes() == (tmp_path / "old.safetensors").read_bytes()
    assert read_task_record(folder, "a") == entry("a")
    assert find_start(plan(folder), new_model()) == Start(1)
    journal_path(folder, "a").write_text("mine")
    adopt_packed(folder, packed)
    assert journal_path(folder, "a").read_text() == "mine"


@pytest.mark.parametrize("history", [[], ["b"], ["a", "b"]])
def test_a_packed_file_without_what_was_measured_is_not_adopted(tmp_path, history):
    save_packed(new_model("a"), tmp_path / "old.safetensors", history=[entry(name).dump() for name in history])
    with pytest.raises(ValueError, match=r"does not tell what was measured of its tasks \['a'\]"):
        adopt_packed(tmp_path / "run", read_packed(tmp_path / "old.safetensors"))
    assert not packed_path(tmp_path / "run").exists()
