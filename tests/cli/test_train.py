import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from packnet_pl import load_packed
from tests.support.commands import train

pytestmark = pytest.mark.slow

NAMES = ["latin", "greek", "cyrillic", "digits"]


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def without_times(found):
    found.pop("versions")
    for task in found["tasks"]:
        task.pop("seconds")
    return found


def test_results_have_the_pinned_form(tiny_run):
    folder, _ = tiny_run
    found = results(folder)
    assert list(found) == [
        "format",
        "method",
        "arch",
        "seed",
        "complete",
        "versions",
        "tasks",
        "accuracy",
        "outputs_unchanged",
        "data_changed",
        "forgetting",
        "free",
        "storage",
        "settings",
        "val_now",
    ]
    assert (found["format"], found["method"], found["arch"], found["seed"]) == (1, "packnet", "vgg_small", 0)
    assert found["complete"] is True
    assert [task["name"] for task in found["tasks"]] == NAMES
    assert [task["num_classes"] for task in found["tasks"]] == [37, 31, 32, 10]
    assert [task["prune_ratio"] for task in found["tasks"]] == [0.5] * 4
    assert [task["owned"] for task in found["tasks"]] == [0.5, 0.25, 0.125, 0.0625]
    assert found["free"] == 0.0625
    assert [len(row) for row in found["accuracy"]] == [1, 2, 3, 4]
    assert all(0 <= value <= 1 for row in found["accuracy"] for value in row)
    for task in found["tasks"]:
        assert set(task) == {
            "name",
            "num_classes",
            "class_names",
            "prune_ratio",
            "owned",
            "seconds",
            "test_size",
            "val_accuracy",
        }
        assert set(task["val_accuracy"]) == {"dense", "pruned", "retrained"}
        assert all(0 <= value <= 1 for value in task["val_accuracy"].values())
        assert task["seconds"] > 0
    assert [task["test_size"] for task in found["tasks"]] == [185, 155, 160, 120]
    assert set(found["storage"]) == {"dense_bytes", "packed_bytes", "owner_bits_per_weight", "networks"}
    assert found["storage"]["networks"] == 1
    assert found["storage"]["packed_bytes"] == (folder / "packed.safetensors").stat().st_size
    coded = sum(t.numel() for name, t in load_file(folder / "packed.safetensors").items() if name.startswith("owners/"))
    assert found["storage"]["owner_bits_per_weight"] == 8 * coded / 142992
    assert found["storage"]["owner_bits_per_weight"] < 2


def test_nothing_is_forgotten_by_a_real_run(tiny_run):
    folder, _ = tiny_run
    found = results(folder)
    assert found["outputs_unchanged"] == [True] * 4
    assert found["forgetting"] == [0.0] * 4
    for column in range(4):
        assert len({row[column] for row in found["accuracy"][column:]}) == 1


def test_the_run_directory_holds_what_the_readme_says(tiny_run):
    folder, done = tiny_run
    assert (folder / "report" / "ownership.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (folder / ".hydra" / "config.yaml").is_file()
    for name in NAMES:
        for phase in ("train", "retrain"):
            checkpoint = torch.load(folder / "tasks" / name / phase / "last.ckpt", weights_only=True)
            assert checkpoint["packnet"]["open_task"] == name
            assert checkpoint["packnet"]["phase"] == phase
            assert (folder / "tasks" / name / "logs" / phase / "metrics.csv").is_file()
    assert not [path for path in folder.rglob(".*") if path.name not in (".hydra", ".lock")]
    assert str(folder.name) in done.stdout


def test_it_ends_with_a_table_and_shows_its_progress(tiny_run):
    _, done = tiny_run
    for heading in ("task", "classes", "finished", "now", "forgetting", "owned", "free"):
        assert heading in done.stdout
    for name in NAMES:
        assert f" {name} " in done.stdout
        assert f"{name}, train: 1 epoch, validation accuracy" in done.stderr
        assert f"{name}, retrain: 1 epoch, validation accuracy" in done.stderr
    assert "Traceback" not in done.stderr


def test_owners_in_the_packed_file_are_exact_counts(tiny_run):
    folder, _ = tiny_run
    owners = load_packed(folder / "packed.safetensors").packnet.owners
    assert len(owners) == 6
    for owner in owners.values():
        rest = owner.numel()
        expected = []
        for _ in NAMES:
            released = round(0.5 * rest)
            expected.append(rest - released)
            rest = released
        assert torch.bincount(owner.flatten(), minlength=5).tolist() == [rest, *expected]


def test_two_runs_with_one_seed_give_identical_files(tiny_run, tmp_path):
    folder, _ = tiny_run
    done = train("debug=tiny", "hydra.run.dir=b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = tmp_path / "b"
    assert without_times(results(again)) == without_times(results(folder))
    for path in ["packed.safetensors", "report/ownership.png", *(f"tasks/{name}/probe.safetensors" for name in NAMES)]:
        assert (again / path).read_bytes() == (folder / path).read_bytes(), path
    for name in NAMES:
        for phase in ("train", "retrain"):
            path = f"tasks/{name}/logs/{phase}/metrics.csv"
            assert (again / path).read_bytes() == (folder / path).read_bytes(), path


def test_another_seed_gives_other_weights(tiny_run, tmp_path):
    folder, _ = tiny_run
    done = train("debug=tiny", "sequence.order=[digits]", "seed=1", "hydra.run.dir=b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = "values/features.0.weight"
    assert not torch.equal(
        load_file(tmp_path / "b" / "packed.safetensors")[name], load_file(folder / "packed.safetensors")[name]
    )


def test_a_ratio_per_task_another_order_and_an_unpruned_last_task(tmp_path):
    done = train(
        "debug=tiny",
        "sequence.order=[digits,greek]",
        "prune.ratio=[0.75,0.3]",
        "prune.last=false",
        "hydra.run.dir=r",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "r")
    assert [(task["name"], task["prune_ratio"]) for task in found["tasks"]] == [("digits", 0.75), ("greek", None)]
    assert [task["owned"] for task in found["tasks"]] == [0.25, 0.75]
    assert found["free"] == 0
    assert found["outputs_unchanged"] == [True, True]
    assert found["tasks"][1]["val_accuracy"]["retrained"] is None
    assert not (tmp_path / "r" / "tasks" / "greek" / "retrain").exists()


def test_fine_tuning_is_found_out_by_the_same_probes(tmp_path):
    done = train("debug=tiny", "method=finetune", "sequence.order=[digits,greek]", "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "r")
    assert found["method"] == "finetune"
    assert found["outputs_unchanged"] == [False, True]
    assert found["free"] is None
    assert [task["owned"] for task in found["tasks"]] == [None, None]


def test_global_ranking_keeps_the_total_exact(tmp_path):
    done = train("debug=tiny", "prune.scope=global", "sequence.order=[digits]", "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    owners = load_packed(tmp_path / "r" / "packed.safetensors").packnet.owners.values()
    total = sum(owner.numel() for owner in owners)
    assert sum(int((owner == 0).sum()) for owner in owners) == round(0.5 * total)
    assert any(int((owner == 0).sum()) != round(0.5 * owner.numel()) for owner in owners)


def test_accuracies_by_task_and_class_lie_beside_the_figure(tiny_run):
    folder, _ = tiny_run
    found = results(folder)
    with (folder / "report" / "accuracy.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["after"], row["task"]) for row in rows] == [
        (NAMES[after], NAMES[task]) for after in range(4) for task in range(after + 1)
    ]
    assert [float(row["top1"]) for row in rows] == [value for row in found["accuracy"] for value in row]
    assert all(float(row["top1"]) <= float(row["top5"]) <= 1 for row in rows)
    with (folder / "report" / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for index, task in enumerate(found["tasks"]):
        mine = [row for row in rows if row["task"] == task["name"]]
        assert [row["class"] for row in mine] == task["class_names"]
        assert sum(int(row["pictures"]) for row in mine) == task["test_size"]
        right = sum(float(row["accuracy"]) * int(row["pictures"]) for row in mine if row["accuracy"])
        assert round(right) == round(found["accuracy"][-1][index] * task["test_size"])


def test_a_network_that_will_be_full_is_said_before_anything_starts(tmp_path):
    done = train("sequence.order=[digits,greek]", "prune.ratio=0", "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "packnet-train: prune.ratio is 0: no weight is free for task 'greek'; release more in earlier tasks, or let "
        "the network grow: grow=1.25\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_the_task_and_keeps_the_finished_ones(tmp_path):
    done = train(
        "debug=tiny",
        "sequence.order=[digits,greek]",
        "sequence.tasks.greek.train.lr=1e30",
        "optim.gradient_clip=null",
        "hydra.run.dir=r",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("packnet-train: the loss of task 'greek' became")
    assert "Traceback" not in done.stderr
    found = results(tmp_path / "r")
    assert [task["name"] for task in found["tasks"]] == ["digits"]
    assert found["complete"] is False
