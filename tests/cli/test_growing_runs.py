"""Runs whose network grows: finished tasks stay the same bits, whenever the run is killed, and whoever goes on."""

import json
import shutil

import pytest

from packnet_pl.container import open_packed
from tests.support import warm
from tests.support.commands import last_line
from tests.support.process_families import Family

pytestmark = pytest.mark.slow

SMALL = ["debug=tiny", "debug.fraction=0.02", "optim.batch_size=16", "logger=none", "prune.ratio=0.2"]
GROW = ["grow=1.25", "norm=per_task", "optim=adamw"]
WORDS = [*SMALL, *GROW, "sequence.order=[digits,greek,latin,cyrillic]"]


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def done_well(program, *words, cwd):
    done = warm.run(program, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


def hidden(folder):
    return open_packed(folder / "packed.safetensors").header["backbone"]["arguments"]["hidden"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown")
    done = done_well("packnet-train", *WORDS, "hydra.run.dir=run", cwd=folder)
    return folder / "run", done, warm.outcome(folder / "run")


@pytest.mark.exhaustive
def test_a_network_grows_where_too_little_is_free(run):
    folder, done, _ = run
    assert (
        "the network grows for 'latin': 5,720 of 142,992 weights were free, and now 86,108 of 223,380 are"
        in done.stderr
    )
    assert done.stderr.count("the network grows") == 2
    found = results(folder)
    assert found["outputs_unchanged"] == [True] * 4
    assert found["forgetting"] == [0.0] * 4
    assert (found["settings"]["grow"], found["settings"]["grow_below"]) == (1.25, 0.1)
    assert sum(task["owned"] for task in found["tasks"]) + found["free"] == pytest.approx(1)
    packed = open_packed(folder / "packed.safetensors")
    assert packed.header["backbone"]["arguments"]["hidden"] == 200
    # Separate networks would each be as wide as the one that a task was learned in.
    wide = packed.header["parameters"]
    assert found["storage"]["dense_bytes"] < 4 * 4 * wide
    done_well("packnet-eval", folder, cwd=folder.parent)
    shown = done_well("packnet-inspect", folder, cwd=folder.parent).stdout
    assert "greek is computed as it was finished, with 142,992 of the" in shown
    done_well("packnet-report", folder, cwd=folder.parent)


def test_the_plan_says_when_the_network_will_grow(tmp_path):
    shown = done_well("packnet-plan", *WORDS, cwd=tmp_path).stdout
    assert (
        "grows for latin: vgg_small(in_channels=1, image_size=24, stages=[[20], [40, 40], [80, 80]], hidden=160)"
        in shown
    )
    assert "grows for cyrillic: vgg_small(" in shown
    assert shown.count("grows for") == 2


EVENTS = ["greek/finished.json", "latin/train/last.ckpt", "latin/retrain/last.ckpt", "cyrillic/train/last.ckpt"]


@pytest.mark.exhaustive
def test_a_run_that_is_killed_around_its_growth_ends_with_the_same_bits(run, tmp_path):
    folder, kills = tmp_path / "run", 0
    process = warm.Process("packnet-train", *WORDS, "hydra.run.dir=run", cwd=tmp_path)
    for event in EVENTS:
        kills += warm.kill_after(process, (folder / "tasks" / event).exists)
        process = warm.Process("packnet-resume", folder, cwd=tmp_path)
    done = process.wait()
    assert done.returncode == 0, done.stderr
    assert kills >= len(EVENTS) - 1
    warm.assert_same(folder, run[2])


@pytest.mark.exhaustive
def test_without_its_packed_file_a_run_goes_on_from_a_checkpoint_of_the_wider_network(run, tmp_path):
    folder = tmp_path / "run"
    process = warm.Process("packnet-train", *WORDS, "hydra.run.dir=run", cwd=tmp_path)
    warm.kill_after(process, (folder / "tasks/latin/retrain/last.ckpt").exists)
    (folder / "packed.safetensors").write_bytes(b"damaged")
    done_well("packnet-resume", folder, cwd=tmp_path)
    warm.assert_same(folder, run[2])


@pytest.mark.exhaustive
def test_tasks_that_a_full_network_has_no_room_for_are_added_while_it_grows(tmp_path):
    words = [*SMALL, "prune.last=false", "sequence.order=[digits,greek]", "hydra.run.dir=run"]
    done_well("packnet-train", *words, cwd=tmp_path)
    folder, packed = tmp_path / "run", tmp_path / "packed.safetensors"
    shutil.copy(folder / "packed.safetensors", packed)
    done = warm.run("packnet-resume", folder, "sequence.add=[latin]", cwd=tmp_path)
    assert done.returncode == 2
    assert "no weight is free for task 'latin'" in last_line(done.stderr)
    assert "or let the network grow: grow=1.25" in last_line(done.stderr)
    done_well("packnet-resume", folder, "sequence.add=[latin]", "grow=1.25", cwd=tmp_path)
    done_well("packnet-resume", folder, "sequence.add=[cyrillic]", cwd=tmp_path)
    assert results(folder)["outputs_unchanged"] == [True] * 4
    assert hidden(folder) == 200
    done_well(
        "packnet-train", f"packed={packed}", "sequence.add=[latin]", "grow=1.5", "hydra.run.dir=other", cwd=tmp_path
    )
    other = tmp_path / "other"
    assert results(other)["forgetting"] == [0.0] * 3
    assert hidden(other) == 192
    # A run that goes on from the file that this one leaves has its recipe, which lets it grow again.
    words = [f"packed={other / 'packed.safetensors'}", "sequence.add=[cyrillic]", "hydra.run.dir=last", "logger=none"]
    done_well("packnet-train", *words, cwd=tmp_path)
    assert hidden(tmp_path / "last") == 288
    done_well("packnet-eval", "last", cwd=tmp_path)
    done_well("packnet-export", "last", "--task", "digits", "--format", "torch", cwd=tmp_path)


def test_a_sequence_without_pruning_ends_after_a_task_and_goes_on_where_the_network_grows(tmp_path):
    words = [*SMALL, "prune.ratio=0", "sequence.order=[digits,greek,latin]"]
    done = warm.run("packnet-plan", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "or let the network grow: grow=1.25" in last_line(done.stderr)
    shown = done_well("packnet-plan", *words, "grow=1.25", cwd=tmp_path).stdout
    assert shown.count("grows for") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["grow=1"], "grow is 1.0; allowed is a number above 1, up to 4"),
        (["grow=125"], "grow is 125.0; allowed is a number above 1, up to 4"),
        (["grow=1.25", "grow_below=1"], "grow_below is 1.0; allowed is a fraction in [0, 1)"),
        (["grow=1.25", "prune.granularity=filter"], "grow is 1.25, and prune.granularity is filter: "),
        (["grow=1.25", "method=joint"], "grow is 1.25, but method=joint packs nothing; leave it out"),
        (["grow=1.25", "arch=densenet121", "arch.width=0.25"], "grow is 1.25: torchvision's densenet121 cannot grow; "),
    ],
)
def test_what_cannot_grow_is_refused_before_anything_is_trained(tmp_path, words, said):
    done = warm.run("packnet-train", *SMALL, *words, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in last_line(done.stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
def test_the_task_that_is_open_begins_anew_where_the_network_would_grow_otherwise(run, tmp_path):
    folder = tmp_path / "run"
    process = warm.Process("packnet-train", *WORDS, "hydra.run.dir=run", cwd=tmp_path)
    assert warm.kill_after(process, (folder / "tasks/latin/train/last.ckpt").exists)
    done_well("packnet-resume", folder, "grow=1.5", cwd=tmp_path)
    assert (folder / "tasks/latin/train/replaced.ckpt").exists()
    assert hidden(folder) == 192
    assert results(folder)["outputs_unchanged"] == [True] * 4


@pytest.mark.exhaustive
def test_two_processes_grow_alike(tmp_path):
    words = [*SMALL, "grow=1.25", "sequence.order=[digits,greek,latin]", "trainer=ddp", "trainer.devices=2"]
    family = Family("packnet-train", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert family.wait() == 0, family.stderr
    assert results(tmp_path / "run")["outputs_unchanged"] == [True] * 3
    assert hidden(tmp_path / "run") == 160
    done_well("packnet-eval", tmp_path / "run", cwd=tmp_path)
