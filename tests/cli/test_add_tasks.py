"""Further tasks for a network that was trained before: in its run directory, and from its packed file alone."""

import json
import shutil

import pytest

from tests.support import warm
from tests.support.commands import last_line
from tests.support.packed_files import rewritten

pytestmark = pytest.mark.slow

SMALL = ["debug=tiny", "debug.fraction=0.02", "logger=none"]


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def done_well(program, *words, cwd):
    done = warm.run(program, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long ago")
    done_well("packnet-train", *SMALL, "sequence.order=[digits,greek]", "hydra.run.dir=run", cwd=folder)
    return folder / "run"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """What a run of three tasks leaves that knew of all of them from the start."""
    folder = tmp_path_factory.mktemp("three")
    done_well("packnet-train", *SMALL, "sequence.order=[digits,greek,latin]", "hydra.run.dir=run", cwd=folder)
    return warm.outcome(folder / "run")


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def test_a_task_added_later_gives_what_it_had_given_from_the_start(copy, three):
    done = done_well("packnet-resume", copy, "sequence.add=[latin]", cwd=copy.parent)
    assert "digits, train" not in done.stderr
    warm.assert_same(copy, three)


@pytest.mark.exhaustive
def test_tasks_added_one_by_one_and_after_a_kill(copy, three):
    process = warm.Process("packnet-resume", copy, "sequence.add=[latin]", cwd=copy.parent)
    assert warm.kill_after(process, (copy / "tasks/latin/train/last.ckpt").exists)
    again = done_well("packnet-resume", copy, cwd=copy.parent)
    assert "'sequence.add=[latin]'" in again.stderr.splitlines()[0]
    warm.assert_same(copy, three)
    done_well("packnet-resume", copy, "sequence.add=[cyrillic]", cwd=copy.parent)
    found = results(copy)
    assert [task["name"] for task in found["tasks"]] == ["digits", "greek", "latin", "cyrillic"]
    assert found["complete"]
    assert found["outputs_unchanged"] == [True] * 4
    assert found["forgetting"] == [0.0] * 4
    done_well("packnet-eval", copy, cwd=copy.parent)


def test_a_folder_of_images_is_added(copy, tmp_path):
    from PIL import Image

    for number, name in enumerate(("robin", "wren")):
        for split in ("train", "test"):
            (tmp_path / "my birds" / split / name).mkdir(parents=True)
            for index in range(4):
                image = Image.new("L", (30, 24), 60 + 90 * number + index)
                image.save(tmp_path / "my birds" / split / name / f"{index}.png")
    word = f"sequence.add={{birds: '{tmp_path / 'my birds'}'}}"
    done = warm.run("packnet-resume", copy, word, "optim.num_workers=0", cwd=copy.parent)
    assert done.returncode == 0, done.stderr
    found = results(copy)
    assert [task["name"] for task in found["tasks"]] == ["digits", "greek", "birds"]
    assert found["tasks"][2]["class_names"] == ["robin", "wren"]
    assert found["outputs_unchanged"] == [True] * 3


def test_a_packed_file_alone_learns_a_further_task(run, three, tmp_path):
    shutil.copy(run / "packed.safetensors", tmp_path / "old.safetensors")
    # Epochs and the share of the data follow from the file.
    words = ["packed=old.safetensors", "sequence.add=[latin]", "logger=none", "hydra.run.dir=new"]
    done_well("packnet-train", *words, cwd=tmp_path)
    found = results(tmp_path / "new")
    old = results(run)
    assert [task["name"] for task in found["tasks"]] == ["digits", "greek", "latin"]
    assert found["accuracy"][:2] == old["accuracy"]
    assert found["accuracy"][2][:2] == old["accuracy"][1]  # checked again: their data are at hand
    assert found["outputs_unchanged"] == [None, None, True]
    assert found["accuracy"] == three["results.json"]["accuracy"]
    packed = (tmp_path / "new" / "packed.safetensors").read_bytes()
    assert len(packed) == pytest.approx(len(three["packed.safetensors"]), rel=0.01)
    done_well("packnet-eval", "new", cwd=tmp_path)


def test_a_packed_file_of_folders_that_are_gone_carries_its_results_over(run, tmp_path):
    """Tasks that the command line does not know have no data here."""
    path = run / "packed.safetensors"

    def renamed(header, _):
        # Its recipe still tells how digits are drawn, and nothing of numerals.
        return header.replace('"digits"', '"numerals"').replace('"numerals": {"data"', '"digits": {"data"')

    rewritten(path, tmp_path / "old.safetensors", renamed)
    words = [*SMALL, "packed=old.safetensors", "sequence.add=[latin]", "hydra.run.dir=new"]
    process = warm.Process("packnet-train", *words, cwd=tmp_path)
    assert warm.kill_after(process, (tmp_path / "new/tasks/latin/train/last.ckpt").exists)
    (tmp_path / "old.safetensors").unlink()
    done_well("packnet-resume", "new", cwd=tmp_path)
    found, old = results(tmp_path / "new"), results(run)
    assert [task["name"] for task in found["tasks"]] == ["numerals", "greek", "latin"]
    assert found["accuracy"][2][:2] == old["accuracy"][1]
    done = done_well("packnet-eval", "new", cwd=tmp_path)
    assert " - " in done.stdout
    assert (done.stdout.count("not compared"), done.stdout.count(" yes ")) == (1, 2)
    assert "packnet-eval: not compared: numerals (neither their images nor" in done.stderr


def refused(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return last_line(done.stderr)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["packed=nowhere.safetensors", "sequence.add=[latin]"], "packed=nowhere.safetensors: there is no such file"),
        (
            ["packed=text.safetensors", "sequence.add=[latin]"],
            "packed=text.safetensors: there is no such file, or it is",
        ),
        (["packed=old.safetensors"], "packed=old.safetensors holds the tasks ['digits', 'greek']; say which to add: "),
        (["packed=old.safetensors", "sequence.add=[greek]"], "sequence.add names 'greek', which is there already"),
        (["packed=old.safetensors", "sequence.add=[latinn]"], "sequence.add names 'latinn'; did you mean latin?"),
    ],
)
def test_what_cannot_be_added_to_a_packed_file(run, tmp_path, words, reason):
    shutil.copy(run / "packed.safetensors", tmp_path / "old.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    done = warm.run("packnet-train", *SMALL, *words, "hydra.run.dir=new", cwd=tmp_path)
    assert reason in refused(done)
    assert not (tmp_path / "new").exists()


def test_without_a_free_weight_it_says_how_many_are_needed(tmp_path):
    words = [*SMALL, "sequence.order=[digits]", "prune.last=false", "hydra.run.dir=run"]
    done_well("packnet-train", *words, cwd=tmp_path)
    before = (tmp_path / "run" / "packed.safetensors").read_bytes()
    for done in (
        warm.run("packnet-resume", "run", "sequence.add=[greek]", cwd=tmp_path),
        warm.run(
            "packnet-train",
            *SMALL,
            "packed=run/packed.safetensors",
            "sequence.add=[greek]",
            "hydra.run.dir=n",
            cwd=tmp_path,
        ),
    ):
        said = refused(done)
        assert "no weight is free for task 'greek': all " in said
        assert "It needs at least one in each of the 6 layers, 6 in all" in said
        assert "prune.last=true" in said
    assert (tmp_path / "run" / "packed.safetensors").read_bytes() == before
    assert not (tmp_path / "n").exists()
