"""A run that goes on, or is asked again, with other images than it began with says so, and refuses unless allowed."""

import json
import os
import shutil

import pytest

from tests.support import warm
from tests.support.commands import last_line
from tests.support.photographs import photographs

pytestmark = pytest.mark.slow

TINY = [
    "debug=tiny",
    "debug.fraction=1",
    "optim.batch_size=4",
    "logger=none",
    "arch.stages=[[4],[8]]",
    "arch.hidden=16",
]


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    photographs(home / "cats", ["tabby", "tom"], count=6)
    for split in ("train", "test"):  # names of files may be any bytes
        folder = home / "cats" / split / "tom"
        (folder / "photo 5.JPG").rename(folder / os.fsdecode(b"caf\xe9.JPG"))
    words = ["sequence=folders", "sequence.folders={cats: cats}", "prune.last=true"]
    done = warm.run("packnet-train", *TINY, *words, "hydra.run.dir=r", cwd=home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(complete, tmp_path):
    copy = shutil.copytree(complete, tmp_path / "home")
    run = copy / "r" / "run.yaml"
    run.write_text(run.read_text().replace(str(complete), str(copy)))
    return copy


def stopped(home):
    """Makes the complete run one that was killed while it retrained."""
    for name in ("results.json", "packed.safetensors", "tasks/cats/finished.json"):
        (home / "r" / name).unlink()
    shutil.rmtree(home / "r" / "tasks" / "cats" / "retrain")
    return home


def refused(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return last_line(done.stderr)


def test_training_images_removed_between_stop_and_resume_are_named_and_refused(home):
    gone = stopped(home) / "cats" / "train" / "tabby" / "photo 2.JPG"
    aside = gone.rename(home / "aside")
    line = refused(warm.run("packnet-resume", "r", cwd=home))
    assert "the data of task 'cats' are not those that it began with: train has 9 images instead of 10" in line
    assert "gone: 1, the first is train/tabby/photo 2.JPG" in line
    assert line.endswith("changed_data=accept")
    accepted = warm.run("packnet-resume", "r", "changed_data=accept", cwd=home)
    assert accepted.returncode == 0, accepted.stderr
    assert "the data of task 'cats' are others by now: train has 9 images instead of 10" in accepted.stderr
    # It was said of that change only, not of the next one.
    aside.rename(gone)
    assert "train has 10 images instead of 9" in refused(warm.run("packnet-resume", stopped(home) / "r", cwd=home))


def test_a_run_whose_data_moved_goes_on_and_ends_as_if_it_had_not(home, complete):
    stopped(home)
    (home / "cats").rename(home / "tomcats")
    done = warm.run("packnet-resume", "r", "sequence.folders={cats: tomcats}", cwd=home)
    assert done.returncode == 0, done.stderr
    warm.assert_same(home / "r", warm.outcome(complete / "r"))


def test_test_images_added_before_a_task_are_named_and_make_no_forgetting(home):
    shutil.copy(home / "cats" / "train" / "tom" / "photo 0.JPG", home / "cats" / "test" / "tabby" / "a.JPG")
    evaluated = warm.run("packnet-eval", "r", cwd=home)
    said = "the data of task 'cats' are not those that it was finished with: test has 13 images instead of 12"
    assert f"packnet-eval: {said}" in evaluated.stderr
    assert "new: 1, the first is test/tabby/a.JPG" in evaluated.stderr
    words = ["sequence.add={dogs: dogs}"]
    photographs(home / "dogs", ["pug", "husky"], count=3, seed=2)
    line = refused(warm.run("packnet-resume", "r", *words, cwd=home))
    assert said in line
    done = warm.run("packnet-resume", "r", *words, "changed_data=accept", cwd=home)
    assert done.returncode == 0, done.stderr
    found = json.loads((home / "r" / "results.json").read_text())
    assert (found["forgetting"], found["data_changed"]) == ([None, 0.0], [True, False])
    assert found["outputs_unchanged"] == [True, True]
    # Also from the packed file alone, where it knows what the tasks were tested on.
    words = [*TINY, "sequence=folders", "sequence.folders={cats: cats}", "packed=r/packed.safetensors"]
    shutil.rmtree(home / "cats" / "test" / "tabby")
    photographs(home / "new", ["tabby", "b"], count=2)
    shutil.copytree(home / "new" / "test" / "tabby", home / "cats" / "test" / "tabby")
    line = refused(warm.run("packnet-train", *words, "sequence.add={new: new}", "hydra.run.dir=s", cwd=home))
    assert "the data of task 'cats' are not those that it was finished with: test has 8 images instead of 13" in line
    assert not (home / "s").exists()


def test_a_run_of_an_earlier_version_goes_on_and_says_once_that_nobody_noted_its_data(home):
    (stopped(home) / "r" / "tasks" / "cats" / "data.json.gz").unlink()
    (home / "cats" / "train" / "tabby" / "photo 2.JPG").unlink()
    done = warm.run("packnet-resume", "r", cwd=home)
    assert done.returncode == 0, done.stderr
    said = "nobody noted what data 'cats' had: an earlier version began this run"
    assert done.stderr.count(said) == 1
    again = warm.run("packnet-resume", stopped(home) / "r", cwd=home)
    assert again.returncode == 0, again.stderr
    assert said not in again.stderr


def test_classes_that_came_or_went_are_refused_whatever_is_accepted(home):
    shutil.copytree(home / "cats" / "train" / "tom", home / "cats" / "train" / "wild")
    shutil.copytree(home / "cats" / "test" / "tom", home / "cats" / "test" / "wild")
    photographs(home / "dogs", ["pug", "husky"], count=3, seed=2)
    words = ["sequence.add={dogs: dogs}", "changed_data=accept"]
    line = refused(warm.run("packnet-resume", "r", *words, cwd=home))
    assert "task 'cats' has 3 classes, and began with 2 (gone: none; new: wild): its head cannot answer others" in line
    evaluated = warm.run("packnet-eval", "r", cwd=home)
    assert "task 'cats' has 3 classes, and began with 2" in refused(evaluated)
